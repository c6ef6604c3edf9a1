"""PAC: disturbed copies of a memorised record spread its log-probabilities out.

Ye et al., "Data Contamination Calibration for Black-box LLMs", Findings of ACL 2024 (arXiv
2405.11930). Published code swaps as often as 30% of the number of words, drawing both places anew
each time, so that a swap may undo another; here 30% of the words change places, none twice. It
rounds shares of tokens down, at least one; here they are rounded up, as in every attack.
"""

import torch
from torch import Tensor

from audits.membership.attacks.base import Access, Attack
from audits.membership.measurements import Scored
from audits.membership.texts import WordSwap
from audits.membership.texts.words import check_copies, word_count
from audits.membership.view import AuditView
from audits.scoring.segments import lowest_share_mean, mean_in_order
from audits.scoring.token_statistics import TokenStatistics

_TOP_SHARE = 0.05
_BOTTOM_SHARE = 0.3


class PAC(Attack):
    """Mean polarised distance of word-swapped copies minus that of the text, nats per token.

    The polarised distance of a text is the mean of its ceil(0.05 n) highest log-probabilities minus
    the mean of its ceil(0.3 n) lowest. A response of one word has no such copy: not defined.

    Args:
        copies: number of copies.
        share: share of words that change places in a copy, in (0, 1].

    Raises:
        UserError: if an option is out of range.
    """

    name = "pac"
    title = "PAC"
    description = (
        "How far its most and least likely tokens lie apart, against copies with swapped words."
    )
    access = Access.given_text
    threat_model = "sees log-probabilities of chosen text"

    def __init__(self, copies: int = 5, share: float = 0.3) -> None:
        check_copies(self.name, copies, share)
        self._swapped = [Scored(text=WordSwap(copy, share)) for copy in range(copies)]
        self.params = {"copies": copies, "share": share}
        self.requires = frozenset({Scored(), *self._swapped})

    def defined(self, view: AuditView) -> Tensor:
        """True where there are two words to swap, [B]."""
        return torch.tensor([word_count(record.response) > 1 for record in view.records])

    def record_scores(self, view: AuditView) -> Tensor:
        """Mean over copies of PD(copy), minus PD(x), [B]."""
        copies = (_polarised_distance(view.tokens(request)) for request in self._swapped)
        return mean_in_order(copies) - _polarised_distance(view.statistics)


def _polarised_distance(table: TokenStatistics) -> Tensor:
    """PD of each record, [B] float64, nats."""
    top = -lowest_share_mean(-table.logp, table.offsets, _TOP_SHARE)
    return top - lowest_share_mean(table.logp, table.offsets, _BOTTOM_SHARE)
