"""ReCaLL: shots that the model never saw disturb a memorised record more than another.

Xie et al., "ReCaLL: Membership Inference via Relative Conditional Log-Likelihoods", EMNLP 2024
(arXiv 2406.15968). Published tools draw the shots from the records that they then judge, and leave
them in; here they come from pool records that no audit judges, and stand before the prompt.
"""

from torch import Tensor

from audits.membership.attacks.base import Access, Attack
from audits.membership.attacks.ratio import floored_nll, nll
from audits.membership.measurements import Scored
from audits.membership.texts import Shots
from audits.membership.view import AuditView
from common.options import require_at_least


class Recall(Attack):
    """NLL of the response after non-member shots over its NLL without them, no unit.

    The denominator is at least 0.01 nats per token. How many shots the window had room for, and how
    many tokens they are, is in the result rows ``shots`` and ``prefix_tokens``.

    Args:
        shots: most shots.

    Raises:
        UserError: if there is to be no shot.
    """

    name = "recall"
    title = "ReCaLL"
    description = "How much its likelihood changes after records of non-members."
    access = Access.given_text
    threat_model = "sees log-probabilities of chosen text and holds records of non-members"

    def __init__(self, shots: int = 10) -> None:
        require_at_least(1, f"attack {self.name}: ", shots=shots)
        self._conditional = Scored(text=Shots("held_out", shots))
        self.params = {"shots": shots}
        self.requires = frozenset({Scored(), self._conditional})

    def diagnostics(self, view: AuditView) -> dict[str, float]:
        """Shots and tokens of the prefix."""
        return dict(view.table(self._conditional).facts)

    def record_scores(self, view: AuditView) -> Tensor:
        """NLL(y | P, x) / max(NLL(y | x), 0.01), [B]."""
        return nll(view.tokens(self._conditional)) / floored_nll(view.statistics)
