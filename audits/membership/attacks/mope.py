"""MoPe: noise on the weights raises the loss of members more than that of other records.

Li et al., "MoPe: Model Perturbation-based Privacy Attacks on Language Models", EMNLP 2023 (arXiv
2310.14369). For small noise the rise estimates the trace of the Hessian of the record's loss, for
larger noise it depends on the scale.

Departures from the paper, all of them options: every draw is used with both signs, since the
first-order term of one sign is noise that all records share and no number of records removes; and
the noise is relative to each tensor's own scale, so that sizes, families and blocks compare. As
published: ``rho: null``, ``sigma: 0.005``, ``antithetic: false``, ``draws: 10``.
"""

from torch import Tensor

from audits.membership.attacks.base import Access, Attack
from audits.membership.signals import WeightNoise
from audits.membership.view import AuditView


class MoPe(Attack):
    """Mean over noise draws of [NLL(theta + s eps) + NLL(theta - s eps)] / 2 - NLL(theta).

    Unit: nats per token. The default ``rho`` was chosen by reliability, not by AUROC. On a small
    model, when it had begun to memorise its records and later, 5 draws have a reliability of 0.84
    and 0.75 at rho 0.01, 0.82 and 0.90 at 0.1, and up to there the rise of the loss grows with the
    square of rho. The diagnostic ``nll_rise`` tells the rise on a population: 0.07 and 0.25 nats on
    the members there.

    Args:
        draws: Number of draws; two passes each, or one where ``antithetic`` is false. Where the
            draws differ much, 95% intervals cover the truth in some 88% with 3, 92% with 5 and 94%
            with 10 (``benchmarks/draw_cells.py``).
        rho: Scale of the noise on a tensor W as a share of its root mean square, s = rho rms(W).
        sigma: The same scale s for all tensors, with ``rho: null``.
        antithetic: Whether every draw is used with both signs.

    Raises:
        UserError: If there are fewer than three draws, from which no interval over draws can be
            had, or not exactly one positive scale.
    """

    name = "mope"
    title = "MoPe"
    description = "How much the loss rises when noise is added to the weights."
    access = Access.weights
    threat_model = "holds the weights"

    def __init__(
        self,
        draws: int = 5,
        rho: float | None = 0.1,
        sigma: float | None = None,
        antithetic: bool = True,
    ) -> None:
        self._signal = WeightNoise.of(f"attack {self.name}", draws, rho, sigma, antithetic)
        self.params = self._signal.params
        self.requires = frozenset({self._signal})

    def record_scores(self, view: AuditView) -> Tensor:
        """Mean rise over the draws, [B]."""
        return view.signal(self._signal).mean(dim=1)

    def draws(self, view: AuditView) -> Tensor:
        """Rise under every draw, [B, K]."""
        return view.signal(self._signal)

    def diagnostics(self, view: AuditView) -> dict[str, float]:
        """Mean rise of the loss over records and draws, nats per token."""
        return {"nll_rise": float(view.signal(self._signal).mean())}
