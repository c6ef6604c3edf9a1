"""CP-Delta: text that neither of two teachers would find much less likely than the other."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from common.errors import UserError
from common.guarantee import Certificate, Guarantee
from kdmodules.responses.guarded import GuardedResponses
from kdmodules.responses.source import ResponseContext
from kdmodules.sampling.guarded_sampling import PaidResponse, Scheme, smaller_of_two


class CpDeltaResponses(GuardedResponses):
    """Text of two teachers of disjoint halves, by the smaller of their probabilities.

    The next token is drawn from q proportional to min(p1, p2). A record reached one of the teachers
    at most, so that with P_safe the other one a sampled response has P(response) at most e^k
    P_safe(response), with k the sum of -log(1 - TV(p1, p2)) over its tokens, and n samples n times
    that. k stands beside each stored response (``cost``, in nats), its median and largest value in
    the run's results.

    It says nothing about the weights of a student, nor of what reads probabilities, and text that
    is near what a safe model says may repeat a record word for word (arXiv 2506.19881).

    Source: Vyas, Kakade and Barak 2023 (arXiv 2302.10870), algorithm CP-Delta with the total
    variation, token by token.

    The arguments are those of :class:`~kdmodules.responses.guarded.GuardedResponses`.
    """

    defence = "cp_delta"

    def prepare(self, context: ResponseContext) -> None:
        """Samples as `TeacherResponses` does.

        Raises:
            UserError: If there are not two teachers.
        """
        if len(context.teachers) != 2:
            raise UserError(
                "CpDeltaResponses compares two teachers of disjoint halves, model.teacher names "
                f"{len(context.teachers)}: give --model.teacher '[FIRST, SECOND]'"
            )
        super().prepare(context)

    def _scheme(self, context: ResponseContext) -> Scheme:
        return partial(smaller_of_two, temperature=self.sampling.temperature)

    def _guarantee(self, stored: Sequence[PaidResponse], context: ResponseContext) -> Guarantee:
        nats = [response.cost for response in stored]
        middle, largest = float(np.median(nats)), max(nats)
        self._figures |= {"nats_median": middle, "nats_largest": largest}
        return Guarantee(
            certificate=Certificate.instance,
            defence=self.defence,
            covers=(
                "a sampled response is at most e^k times as likely as from the teacher that did "
                f"not meet a record, n samples n times that: k {middle:.3g} nats in the median "
                f"response, {largest:.3g} in the largest",
            ),
            does_not_cover=(
                "the student's weights",
                "objectives that read probabilities",
                "text that repeats a record and is likely without it",
            ),
        )
