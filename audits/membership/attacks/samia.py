"""SaMIA: given the first half of a response, the model writes the second by itself.

Kaneko et al., "Sampling-based Pseudo-Likelihood for Membership Inference Attacks", 2024 (arXiv
2404.11262), in its zlib form: recall is weighted by the compressed size of the sample, so that
repetitive text does not win. Departures: the record's prompt stands before the first half, halves
are counted in tokens, and words are those of this project's ROUGE.
"""

from torch import Tensor

from audits.membership.attacks.base import Access, Attack
from audits.membership.signals import ContinuationOverlap
from audits.membership.view import AuditView
from audits.statistics import reliability
from common.options import require_at_least, require_positive


class SaMIA(Attack):
    """Mean over sampled continuations of ROUGE-1 recall times zlib bytes of the sample.

    Unit: bytes. Undefined where a half of the response has no text, as with a single token.

    Args:
        samples: Continuations of each record.
        temperature: Divides the logits.
        top_k: Sampling keeps this many of the likeliest tokens; 0 keeps all.

    Raises:
        UserError: If there are fewer than two samples, which have no reliability, or an option is
            out of range.
    """

    name = "samia"
    title = "SaMIA"
    description = "How much of the text sampled continuations reproduce."
    access = Access.text
    threat_model = "samples text after given text"

    def __init__(self, samples: int = 10, temperature: float = 1.0, top_k: int = 50) -> None:
        where = f"attack {self.name}: "
        require_at_least(2, where, samples=samples)
        require_positive(where, temperature=temperature)
        require_at_least(0, where, top_k=top_k)
        self._signal = ContinuationOverlap(samples, float(temperature), top_k)
        self.params = {"samples": samples, "temperature": float(temperature), "top_k": top_k}
        self.requires = frozenset({self._signal})

    def defined(self, view: AuditView) -> Tensor:
        """Where both halves of the response have text."""
        return ~view.signal(self._signal).isnan().any(dim=1)

    def record_scores(self, view: AuditView) -> Tensor:
        """Mean over the samples, [B]."""
        return view.signal(self._signal).mean(dim=1)

    def diagnostics(self, view: AuditView) -> dict[str, float]:
        """Reliability of the scores over samples, on one population.

        Samples are drawn for every record apart, so the AUROC's interval over records holds their
        variation already.
        """
        return {"reliability": reliability(view.signal(self._signal))}
