"""Label only: do answers to a record's instruction come nearer to its response than others' do?

Attacks by one who sees what a model writes and no probability: Choquette-Choo et al., "Label-Only
Membership Inference Attacks", ICML 2021 (arXiv 2007.14321), and, of language models, Kaneko et al.
2024 (arXiv 2404.11262), who give the first half of the text. Here the instruction is given alone.
"""

from dataclasses import replace

from torch import Tensor

from audits.membership.attacks.base import Access, Attack
from audits.membership.signals import AnswerSimilarity
from audits.membership.view import AuditView
from audits.statistics import reliability
from common.options import require_at_least, require_positive


class LabelOnly(Attack):
    """Mean similarity of a model's answers to the response, minus that of a reference's answers.

    An answer is as similar as the mean of its ROUGE-L F1 and of the edit similarity of its words,
    in [0, 1]; of each model there are a greedy one and sampled ones, as long as the response.
    Undefined where prompt or response has no text.

    Args:
        reference: name of the reference model (``--references.models.<name>``); it may have another
            tokenizer. None subtracts nothing.
        samples: sampled answers of each record.
        temperature: divides the logits.

    Raises:
        UserError: if an option is out of range.
    """

    name = "label_only"
    title = "Label only"
    description = "How much nearer to its response answers come than a reference's do."
    access = Access.text
    threat_model = "samples answers to instructions and holds a model without the records"

    def __init__(
        self, reference: str | None = "base", samples: int = 4, temperature: float = 1.0
    ) -> None:
        where = f"attack {self.name}: "
        require_at_least(1, where, samples=samples)
        require_positive(where, temperature=temperature)
        self._own = AnswerSimilarity(samples, float(temperature), top_k=0)
        self._other = None if reference is None else replace(self._own, model=reference)
        drawn = {"samples": samples, "temperature": float(temperature)}
        self.params = {"reference": reference or "none", **drawn}
        self.requires = frozenset(one for one in (self._own, self._other) if one is not None)

    def defined(self, view: AuditView) -> Tensor:
        """Where every model has answers to compare."""
        return ~self._differences(view).isnan().any(dim=1)

    def record_scores(self, view: AuditView) -> Tensor:
        """Mean over the answers, [B]."""
        return self._differences(view).mean(dim=1)

    def diagnostics(self, view: AuditView) -> dict[str, float]:
        """Reliability of the scores over answers, on one population."""
        return {"reliability": reliability(self._differences(view))}

    def _differences(self, view: AuditView) -> Tensor:
        """Similarity of each answer less that of the reference's, [B, 1 + samples]."""
        own = view.signal(self._own)
        return own if self._other is None else own - view.signal(self._other)
