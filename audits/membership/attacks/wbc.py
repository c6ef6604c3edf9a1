"""WBC: in how many windows of the text is the record likelier than under a reference?

Chen et al., "Window-based Membership Inference Attacks Against Fine-tuned Large Language Models",
USENIX Security 2026 (arXiv 2601.02751): windows of several lengths slide over the text, each votes
by the sign of its difference in loss, and votes are averaged in each length and over lengths. A few
tokens that moved far then weigh no more than others.
"""

import torch
from torch import Tensor

from audits.membership.attacks.aligned import shifts, token_by_token
from audits.membership.attacks.base import Access, Attack
from audits.membership.measurements import Scored
from audits.membership.view import AuditView
from audits.scoring.segments import segment_ids
from common.errors import UserError
from common.options import require_at_least


class WBC(Attack):
    """Share of sliding windows that are likelier than under the reference, mean over lengths.

    A window without a difference is half a vote. Lengths are spaced geometrically; those that a
    record is too short for are left out, and a record shorter than all is one window. Unit: share.

    Args:
        reference: name of the reference model (``--references.models.<name>``), of the audited
            model's tokenizer.
        shortest: tokens of the shortest windows.
        longest: tokens of the longest.
        lengths: how many lengths, equal ones once.

    Raises:
        UserError: if an option is out of range.
    """

    name = "wbc"
    title = "Window votes (WBC)"
    description = "Share of windows of the text that are likelier than under a reference."
    access = Access.given_text
    shares_tokens = True
    threat_model = "sees log-probabilities of given text and holds a model without the records"

    def __init__(
        self, reference: str = "base", shortest: int = 2, longest: int = 40, lengths: int = 10
    ) -> None:
        where = f"attack {self.name}: "
        require_at_least(1, where, shortest=shortest)
        require_at_least(2, where, lengths=lengths)
        if longest < shortest:
            raise UserError(f"{where}longest is {longest}: give at least shortest, {shortest}")
        self.reference = reference
        steps = range(lengths)
        ratio = longest / shortest
        self._lengths = sorted({round(shortest * ratio ** (i / (lengths - 1))) for i in steps})
        windows = {"shortest": shortest, "longest": longest, "lengths": lengths}
        self.params = {"reference": reference, **windows}
        self.requires = frozenset({Scored(), Scored(model=reference)})

    def record_scores(self, view: AuditView) -> Tensor:
        """Mean over lengths of the share of votes, [B].

        Raises:
            UserError: if the view has no such reference, or one with another tokenizer.
        """
        own, other = token_by_token(view, self.reference, self.name)
        shift, lengths = shifts(own, other), own.lengths
        record = segment_ids(own.offsets)
        left = own.offsets[1:][record] - torch.arange(len(shift))  # tokens to the record's end
        only = lengths.clamp(max=self._lengths[0])  # window of a record shorter than all
        total, counted = torch.zeros(2, len(lengths), dtype=torch.float64)
        sums = torch.zeros_like(shift)
        for length in range(1, min(self._lengths[-1], int(lengths.max())) + 1):
            # Windows grow by a token, so that each sum is that of its tokens in their order.
            sums = sums[: len(shift) - length + 1] + shift[length - 1 :]
            voting = lengths >= length if length in self._lengths else only == length
            whole = left[: len(sums)] >= length
            votes = torch.heaviside(sums[whole], torch.tensor(0.5, dtype=torch.float64))
            share = torch.zeros(len(lengths), dtype=torch.float64)
            share.index_add_(0, record[: len(sums)][whole], votes)
            windows = (lengths - length + 1).clamp(min=1)
            total += (share / windows).where(voting, 0.0)
            counted += voting
        return total / counted
