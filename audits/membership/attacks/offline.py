"""RMIA's offline ratio, and the correction that serves best where the references' coins are known.

Zarifzadeh, Liu and Shokri 2024 (arXiv 2312.03262), section 3.2: references that did not meet a
record tell p_out, and p_in is taken to be (1 - a) / 2 above a multiple of it. They choose a by
attacking one reference with another.
"""

from collections.abc import Sequence

from torch import Tensor

from audits.scoring.text_folds import aurocs_of

UNTUNED = 1.0
"""The correction without anything to tune it on: the mean over the references alone."""

# Dense near 1, where the mean of text's small probabilities begins to count beside (1 - a).
GRID = (
    *(tenths / 10 for tenths in range(10)),
    *(0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 1.0),
)
# Nearer to the best than rounding is to be equal: the larger a is taken then.
_TOLERANCE = 1e-9


def log_ratios(own: Tensor, others: Tensor, unmet: Tensor, a: float) -> Tensor:
    """log p(x) - log p̄(x), p̄ = ((1 + a) mean p + (1 - a)) / 2.

    Args:
        own: [B] float64 mean log-probability of each record under the attacked model.
        others: [K, B] float64 the same under the references.
        unmet: [K, B] bool, where a reference did not meet the record: those the mean is over, at
            least one for every record.
        a: offline correction, in [0, 1].

    Returns:
        [B] float64.
    """
    weight = unmet.double()
    mean = (others.exp() * weight).sum(dim=0) / weight.sum(dim=0)
    return own - (((1 + a) * mean + (1 - a)) / 2).log()


def tuned_correction(populations: Sequence[tuple[Tensor, Tensor]]) -> float:
    """The a of the grid at which references are best attacked with each other.

    Each reference is the target once on every population of which it met some records and not
    others, and the other references are its references. Neither the audited model nor what it met
    is asked, so tuning cannot favour it.

    Args:
        populations: For each, [K, B] float64 mean log-probabilities under the references, and
            [K, B] bool whether a reference met the record.

    Returns:
        The a with the best AUROC, averaged over targets and populations, the largest one among
        equals; 1 where no target has both members and non-members.
    """
    cases = [case for own, met in populations for case in _targets(own, met)]
    if not cases:
        return UNTUNED
    means = [
        sum(
            _auroc(log_ratios(own, others, unmet, a), member)
            for own, others, unmet, member in cases
        )
        / len(cases)
        for a in GRID
    ]
    return max(a for a, mean in zip(GRID, means, strict=True) if mean >= max(means) - _TOLERANCE)


def _targets(own: Tensor, met: Tensor) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Per target: its log-probabilities, the others', where those did not meet, and its members.

    Others of a world that mirrors the target's are left out: nobody attacks with the very coins.
    """
    found = []
    for target in range(len(own)):
        opposite = [bool((one != met[target]).all()) for one in met]
        rest = [place for place in range(len(own)) if place != target and not opposite[place]]
        unmet = ~met[rest]
        defined = unmet.any(dim=0)
        member = met[target, defined]
        if 0 < int(member.sum()) < len(member):
            found.append((own[target, defined], own[rest][:, defined], unmet[:, defined], member))
    return found


def _auroc(scores: Tensor, member: Tensor) -> float:
    """Probability that a member scores above a non-member, ties counting half."""
    return float(aurocs_of(scores.numpy()[:, None], member.numpy()[:, None])[0])
