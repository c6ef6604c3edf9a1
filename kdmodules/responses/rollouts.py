"""Rounds of rollouts from the teacher-mixed student, with rewards and advantages (MiniLLM)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Literal

import torch
from torch import Tensor

from common.errors import UserError
from common.keys import key
from common.options import require_at_least, require_positive
from datamodules.batches import FILLER_ID, EncodedRecord, InstructionBatch, collate
from kdmodules.losses.returns import padded_moment_sums, returns_to_go, rewards, whiten
from kdmodules.models.causal_lm import together
from kdmodules.responses.source import ResponseContext, ResponseSource
from kdmodules.sampling.keyed_choice import RandomScope
from kdmodules.sampling.mixture_sampling import MixtureResponse, MixtureSettings, mixture_responses

EXTRAS = ("old_logp", "mixture_weight", "advantages")
"""What a batch of rollouts holds of every scored token, by the names of `Rollout`."""


@dataclass(frozen=True)
class Rollout:
    """A sampled response with what the policy gradient needs of it.

    Attributes:
        record: The prompt's record with the sampled response.
        old_logp: float32 [n] log q of each token when it was sampled, nats.
        mixture_weight: float32 [n] w = q / ((1 - a) q + a p) of each token.
        advantages: float32 [n] returns, whitened where that is done once per round.
    """

    record: EncodedRecord
    old_logp: Tensor
    mixture_weight: Tensor
    advantages: Tensor

    def whitened_by(self, sums: Tensor) -> "Rollout":
        """Returns the rollout with its returns whitened by moments of more than its own."""
        every = torch.ones_like(self.advantages, dtype=torch.bool)
        return replace(self, advantages=whiten(self.advantages, every, sums))

    def filler(self) -> "Rollout":
        """Returns a row with the rollout's prompt and nothing to score."""
        record = EncodedRecord(FILLER_ID, self.record.task, self.record.prompt_ids, ())
        nothing = torch.zeros(0, dtype=torch.float32)
        return Rollout(record, nothing, nothing, nothing)


def rollout_batch(rollouts: Sequence[Rollout], pad_id: int) -> InstructionBatch:
    """Returns rollouts as a batch whose extras lie on the tokens that they belong to, [B, T]."""
    batch = collate([rollout.record for rollout in rollouts], pad_id)
    for name in EXTRAS:
        extra = torch.zeros(batch.input_ids.shape, dtype=torch.float32)
        extra[batch.response_mask] = torch.cat([getattr(rollout, name) for rollout in rollouts])
        batch.extras[name] = extra
    return batch


Whitening = Literal["round", "micro_batch"]


class TeacherMixedRollouts(ResponseSource):
    """MiniLLM's outer loop: roll out a round, train on it for a few inner epochs, roll out anew.

    A round is ``rollouts`` responses to training prompts (public ones: the student is served no
    others), sampled token by token from (1 - a) q + a p, where p is the mean of all teachers'
    probabilities. Inner epochs pass over it in global batches. **The loader's batches only set the
    pace: their records are ignored.** Prompts come in a keyed endless order, each once per pass.

    Steps run without dropout, as in the authors' code: with it the ratio of a rollout's tokens
    would not be their weight before any update, and the clip would hold back what never moved.

    Rewards, returns and advantages are made once per round over all its rollouts (`losses/
    returns.py`), save that ``whitening: micro_batch`` whitens with each step; the objective is
    ``kdmodules.losses.PolicyGradient``. A round is the same on every rank and part of the
    checkpoint. Source: Gu et al. 2024, section 2.2 and algorithm 1.

    Args:
        mixture: The teacher's share a, the longest rollout, the temperature of the mixture.
        rollouts: Of a round; a multiple of the global batch.
        inner_epochs: Passes over a round.
        reward_scaling: Divides rewards.
        length_normalised: Divide returns by the tokens that remain.
        whitened: Whiten the returns; otherwise advantages are the returns.
        whitening: Over what: the tokens of a round, or, as the authors' code does, every
            micro-batch of all ranks with each response padded to the longest that may be.
        as_released: Returns as the authors' code computes them.
        sampling_batch_size: Most prompts that are rolled out together.

    Raises:
        UserError: If an option is out of range.
    """

    extras = EXTRAS
    steps_in_evaluation_mode = True

    def __init__(
        self,
        mixture: MixtureSettings | None = None,
        rollouts: int = 256,
        inner_epochs: int = 4,
        reward_scaling: float = 0.5,
        length_normalised: bool = True,
        whitened: bool = True,
        whitening: Whitening = "round",
        as_released: bool = False,
        sampling_batch_size: int = 64,
    ) -> None:
        require_at_least(1, rollouts=rollouts, inner_epochs=inner_epochs)
        require_at_least(1, sampling_batch_size=sampling_batch_size)
        require_positive(reward_scaling=reward_scaling)
        if whitening not in ("round", "micro_batch"):
            raise UserError(f"whitening is {whitening!r}: choose round or micro_batch")
        self.mixture = mixture or MixtureSettings()
        self.rollouts = rollouts
        self.inner_epochs = inner_epochs
        self.reward_scaling = reward_scaling
        self.length_normalised = length_normalised
        self.whitened = whitened
        self.whitening = whitening
        self.as_released = as_released
        self.sampling_batch_size = sampling_batch_size
        self.round = -1
        self.current: list[Rollout] = []
        self._metrics: dict[str, float] = {}

    def prepare(self, context: ResponseContext) -> None:
        """Checks window, teachers and batch.

        Raises:
            UserError: If a rollout may exceed the window, there is no teacher, or a round is no
                whole number of global batches.
        """
        context.require_room(self.mixture.max_new_tokens)
        context.require_teacher()
        check_round(self.rollouts, context.global_batch)

    def replace(self, batch: InstructionBatch, context: ResponseContext) -> InstructionBatch:
        """Returns this rank's share of the step's rollouts; ``batch`` is ignored but for its place.

        The extras ``old_logp``, ``mixture_weight`` and ``advantages`` are [B, T], 0 where nothing
        is scored.
        """
        steps_per_epoch = self.rollouts // context.global_batch
        number, inner = divmod(context.step, steps_per_epoch * self.inner_epochs)
        if number != self.round:
            self.current = self._roll_out(number, context)
            self.round = number
        epoch, step = divmod(inner, steps_per_epoch)
        scope = (context.seed, "inner", number, epoch)
        order = sorted(range(self.rollouts), key=lambda i: key(*scope, i))
        rows = order[step * context.global_batch : (step + 1) * context.global_batch]
        first = context.micro_batch % context.accumulate * context.world_size
        stride = context.accumulate * context.world_size
        of_ranks = [rows[first + rank :: stride] for rank in range(context.world_size)]
        mine = [self.current[i] for i in of_ranks[context.rank]]
        if self.whitened and self.whitening == "micro_batch":
            returns = [self.current[i].advantages for i in chain.from_iterable(of_ranks)]
            sums = padded_moment_sums(returns, self.mixture.max_new_tokens)
            mine = [rollout.whitened_by(sums) for rollout in mine]
        mine = mine or [self.current[rows[0]].filler()]
        return rollout_batch(mine, context.vocabulary.pad_id).to(batch.input_ids.device)

    def prompts(self, number: int, context: ResponseContext) -> dict[int, list[EncodedRecord]]:
        """Returns a round's prompts by the pass over the training records that they belong to."""
        records = list({record.record_id: record.last_turn for record in context.records}.values())
        start, stop, size = number * self.rollouts, (number + 1) * self.rollouts, len(records)
        prompts: dict[int, list[EncodedRecord]] = {}
        for passes in range(start // size, (stop - 1) // size + 1):
            order = _shuffled(records, context.seed, passes)
            prompts[passes] = order[max(start - passes * size, 0) : stop - passes * size]
        return prompts

    def _roll_out(self, number: int, context: ResponseContext) -> list[Rollout]:
        records: list[EncodedRecord] = []
        responses: list[MixtureResponse] = []
        for passes, prompts in self.prompts(number, context).items():
            mine = prompts[context.rank :: context.world_size]
            # A record that comes twice in a round is rolled out with other numbers.
            scope = RandomScope(context.seed, "rollouts", number, passes)
            sampled = self._sample(mine, context, scope)
            gathered = context.gather(list(zip(mine, sampled, strict=True)))
            # In the order of the prompts, so that the number of ranks moves no rollout.
            places = {record.record_id: position for position, record in enumerate(prompts)}
            gathered.sort(key=lambda pair: places[pair[0].record_id])
            records += [record for record, _ in gathered]
            responses += [response for _, response in gathered]
        return self._scored(records, responses)

    def _sample(
        self, records: Sequence[EncodedRecord], context: ResponseContext, scope: RandomScope
    ) -> list[MixtureResponse]:
        teachers = [teacher.model for teacher in context.teachers]
        return together(
            (context.student, *context.teachers),
            lambda: mixture_responses(
                context.student.model,
                teachers,
                records,
                self.mixture,
                context.vocabulary,
                scope,
                batch_size=self.sampling_batch_size,
                synced_gpus=context.synced,
            ),
        )

    def _scored(
        self, records: Sequence[EncodedRecord], responses: Sequence[MixtureResponse]
    ) -> list[Rollout]:
        """Returns the rollouts with advantages over the whole round."""
        student = _padded([response.student_logp for response in responses])  # [R, T]
        teacher = _padded([response.teacher_logp for response in responses])
        lengths = torch.tensor([len(response.token_ids) for response in responses])
        mask = torch.arange(student.shape[1]) < lengths.unsqueeze(1)
        reward = rewards(student, teacher, mask, self.reward_scaling)
        values = returns_to_go(reward, mask, self.length_normalised, self.as_released)
        now = self.whitened and self.whitening == "round"
        advantages = whiten(values, mask) if now else values
        self._metrics = {
            "reward": (reward.sum() / mask.sum()).item(),
            "rollout_tokens": lengths.double().mean().item(),
            "ended_share": sum(response.ended for response in responses) / len(responses),
        }
        rollouts = []
        for row, (record, response) in enumerate(zip(records, responses, strict=True)):
            sampled = replace(record, response_ids=response.token_ids)
            weight = (response.student_logp - response.mixture_logp).exp()
            advantage = advantages[row, : lengths[row]].clone()
            rollouts.append(Rollout(sampled, response.student_logp, weight, advantage))
        return rollouts

    def metrics(self) -> dict[str, float]:
        """Returns the round's mean reward per token, mean length and share that eos ended."""
        return self._metrics

    def mechanism(self) -> dict[str, float]:
        """Returns the number of rounds that were begun."""
        return {"rounds": float(self.round + 1)}

    def state_dict(self) -> dict[str, Any]:
        """Returns the round and its rollouts."""
        return {
            "round": self.round,
            "metrics": dict(self._metrics),
            "records": [
                [r.record.record_id, r.record.task, list(r.record.prompt_ids)] for r in self.current
            ],
            "responses": [list(r.record.response_ids) for r in self.current],
            "values": [
                torch.stack([r.old_logp, r.mixture_weight, r.advantages]) for r in self.current
            ],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what :meth:`state_dict` returned."""
        self.round = state["round"]
        self._metrics = dict(state["metrics"])
        self.current = []
        parts = zip(state["records"], state["responses"], state["values"], strict=True)
        for (record_id, task, prompt), response, values in parts:
            record = EncodedRecord(record_id, task, tuple(prompt), tuple(response))
            self.current.append(Rollout(record, *values.cpu().unbind()))


def check_round(rollouts: int, global_batch: int) -> None:
    """Refuses a round that is no whole number of steps.

    Raises:
        UserError: If a step's batch does not divide it.
    """
    if rollouts % global_batch:
        raise UserError(
            f"model.responses.rollouts={rollouts} is no multiple of the global batch "
            f"data.batch_size={global_batch}"
        )


def _shuffled(records: Sequence[EncodedRecord], seed: int, passes: int) -> list[EncodedRecord]:
    return sorted(records, key=lambda record: key(seed, "prompts", passes, record.record_id))


def _padded(rows: Sequence[Tensor]) -> Tensor:
    """Returns rows of unequal length as one tensor, zeros behind their ends."""
    return torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True)
