"""Con-ReCaLL: ReCaLL, set off against what shots do that the model did see.

Wang et al., "Con-ReCall: Detecting Pre-training Data in LLMs via Contrastive Decoding", COLING 2025
(arXiv 2409.03363). The attacker knows some members. Both kinds of shots come from pool records that
no audit judges; published tools take them from the records that they then judge.
"""

from torch import Tensor

from audits.membership.attacks.base import Access, Attack
from audits.membership.attacks.ratio import floored_nll, nll
from audits.membership.measurements import Scored
from audits.membership.texts import Shots
from audits.membership.view import AuditView
from common.options import require_at_least


class ConRecall(Attack):
    """(LL(y | P_non, x) - gamma LL(y | P_mem, x)) / LL(y | x), no unit.

    The denominator is at most -0.01 nats per token. How many shots of each side the window had room
    for, and how many tokens they are, is in rows of the results.

    Args:
        shots: most shots of each side.
        gamma: weight of the member shots, at least 0; 0 is ReCaLL.

    Raises:
        UserError: if there is to be no shot, or gamma is negative.
    """

    name = "con_recall"
    title = "Con-ReCall"
    description = "How much more the response gains from non-members before it than from members."
    access = Access.given_text
    threat_model = (
        "sees log-probabilities of chosen text, knows some members and holds records of non-members"
    )

    def __init__(self, shots: int = 10, gamma: float = 0.5) -> None:
        require_at_least(0, f"attack {self.name}: ", gamma=gamma)
        require_at_least(1, f"attack {self.name}: ", shots=shots)
        self.gamma = gamma
        self._nonmembers = Scored(text=Shots("held_out", shots))
        self._members = Scored(text=Shots("private", shots))
        self.params = {"gamma": gamma, "shots": shots}
        self.requires = frozenset({Scored(), self._nonmembers, self._members})

    def diagnostics(self, view: AuditView) -> dict[str, float]:
        """Shots and tokens of both prefixes."""
        sides = {"nonmember": self._nonmembers, "member": self._members}
        return {
            f"{side}_{name}": value
            for side, request in sides.items()
            for name, value in view.table(request).facts.items()
        }

    def record_scores(self, view: AuditView) -> Tensor:
        """(NLL(y | P_non, x) - gamma NLL(y | P_mem, x)) / max(NLL(y | x), 0.01), [B]."""
        contrast = nll(view.tokens(self._nonmembers)) - self.gamma * nll(view.tokens(self._members))
        return contrast / floored_nll(view.statistics)
