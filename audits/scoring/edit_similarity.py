"""How alike two texts are by the edits that make one into the other."""

from collections.abc import Hashable, Sequence


def edit_similarity(reference: Sequence[Hashable], written: Sequence[Hashable]) -> float:
    """Returns 1 - Levenshtein distance / length of the longer, in [0, 1]; 1 for two empty ones.

    >>> edit_similarity("kitten", "sitting").__round__(3)
    0.571
    """
    if reference == written:
        return 1.0
    row = list(range(len(written) + 1))
    for i, true in enumerate(reference, start=1):
        corner, row[0] = row[0], i
        for j, own in enumerate(written, start=1):
            kept = corner + (true != own)
            corner, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, kept)
    return 1.0 - row[-1] / max(len(reference), len(written))
