"""DC-PDD: a token that the model expects although it is rare elsewhere speaks for membership.

Zhang et al., "Pretraining Data Detection for Large Language Models: A Divergence-based Calibration
Method", EMNLP 2024 (arXiv 2409.14781). Frequencies are those of the audited model's tokens in plain
text, add-one smoothed. At a = 0.01 nearly every token of a fine-tuned model is clipped, and the
score counts rare tokens rather than weighing them: the row ``clipped_share`` says how many.
"""

import math

from torch import Tensor

from audits.membership.attacks.base import Access, Attack
from audits.membership.frequencies import TokenFrequencies
from audits.membership.measurements import Scored
from audits.membership.view import AuditView
from audits.scoring.segments import first_occurrences, segment_sum
from common.errors import UserError
from common.options import require_at_least, require_positive
from datamodules.plain_documents import DocumentEnd


class DCPDD(Attack):
    """Mean over a response's distinct tokens of min(p_t log(1 / f_t), a), nats per token.

    p_t is the probability of the token where it occurs first in the response, f_t its frequency in
    the corpus.

    Args:
        a: where a token's part is clipped, finite and above 0; 100 clips nothing.
        corpus: text files, hub names or "builtin": text that stands for what anybody writes.
        max_blocks: most blocks of 512 tokens of it that are counted; None counts everything.
        documents: what ends a document in a text file.
        hub_split: split of a hub data set.
        text_field: text column of a hub data set.

    Raises:
        UserError: if a is not a finite number above 0.
    """

    name = "dc_pdd"
    title = "DC-PDD"
    description = "How probable its tokens are, weighed by how rare they are in plain text."
    access = Access.given_text
    threat_model = "sees log-probabilities of given text and holds a corpus of plain text"

    def __init__(
        self,
        a: float = 0.01,
        corpus: str | list[str] = "builtin",
        max_blocks: int | None = 1000,
        documents: DocumentEnd = "blank_line",
        hub_split: str = "train",
        text_field: str = "text",
    ) -> None:
        require_positive(f"attack {self.name}: ", a=a)
        if max_blocks is not None:
            require_at_least(1, f"attack {self.name}: ", max_blocks=max_blocks)
        self.a = a
        sources = (corpus,) if isinstance(corpus, str) else tuple(corpus)
        self._corpus = TokenFrequencies(sources, max_blocks, documents, hub_split, text_field)
        self.params = {"a": self.a, "corpus": ",".join(self._corpus.sources)}
        self.requires = frozenset({Scored(), self._corpus})

    def diagnostics(self, view: AuditView) -> dict[str, float]:
        """Share of the averaged tokens that are clipped."""
        clipped = averaged = 0
        for shard in view.shards():
            parts, first = self._parts(shard)
            clipped += int((parts[first] >= self.a).sum())
            averaged += int(first.sum())
        return {"clipped_share": clipped / averaged if averaged else math.nan}

    def record_scores(self, view: AuditView) -> Tensor:
        """Mean of min(exp(l_t) (-log f_t), a) over first occurrences, [B].

        Raises:
            UserError: if the statistics do not say which tokens were scored.
        """
        parts, first = self._parts(view)
        offsets = view.statistics.offsets
        # In units of a, so that records whose every token is clipped tie exactly.
        total = segment_sum((parts / self.a).clamp(max=1) * first, offsets)
        return self.a * (total / segment_sum(first, offsets))

    def _parts(self, view: AuditView) -> tuple[Tensor, Tensor]:
        """Each token's part before the clip, [n] float64, and where it is a first, [n] bool."""
        table = view.statistics
        if table.token_ids is None:
            raise UserError("attack dc_pdd: the token statistics hold no token ids: score again")
        frequencies = view.log_frequencies(self._corpus)
        parts = table.logp.double().exp() * -frequencies[table.token_ids]
        return parts, first_occurrences(table.token_ids, table.offsets)
