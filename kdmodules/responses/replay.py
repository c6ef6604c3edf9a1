"""Student samples kept in a buffer, and a threshold that follows the development loss."""

from typing import Any, Literal

from common.errors import UserError
from common.options import require_at_least, require_share
from datamodules.batches import EncodedRecord, InstructionBatch
from kdmodules.responses.buffer import ReplayBuffer
from kdmodules.responses.rewriting import is_filler, records_of
from kdmodules.responses.source import ResponseContext
from kdmodules.responses.student import StudentResponses
from kdmodules.sampling.keyed_choice import RandomScope, keyed_uniforms
from kdmodules.sampling.sampler import SamplingSettings

Schedule = Literal["decreasing", "constant", "increasing"]
Kind = Literal["fresh", "replayed", "fixed"]
_KINDS: tuple[Kind, ...] = ("fresh", "replayed", "fixed")
_SCHEDULES: tuple[Schedule, ...] = ("decreasing", "constant", "increasing")


class AdaptiveReplay(StudentResponses):
    """DistiLLM's adaptive off-policy scheme (Ko et al. 2024, section 3.2, algorithm 1).

    A threshold phi rises by ``threshold_step`` whenever a validation's loss V is at least V0 +
    ``loss_margin``; V0, at first the loss before training, is then V. At step g of G the
    student's share is phi (1 - g/G) (decreasing), phi/2 (constant) or phi g/G (increasing). With u
    ~ U(0, 1), keyed by the step: below that share, or below phi while the buffer is not full, the
    student samples, and the samples are pushed; else below phi the batch is drawn from the buffer;
    else it is the data set's.

    The buffer is first in, first out over optimiser steps. Those of a step are gathered and pushed
    by record id once it is whole, so that the buffer depends on neither ranks nor micro-batches.
    Which entry a row draws is keyed by (seed, step, the record that it replaces), with replacement.
    The scheme is driven by the development split, never by an audit's records.

    Args:
        schedule: How the student's share follows training.
        capacity: Sequences in the buffer.
        initial_threshold: phi before training, in [0, 1].
        threshold_step: By how much phi rises, up to 1.
        loss_margin: Rise of the development loss that raises phi, in nats.
        sampling: How the student decodes; by default at temperature 1, up to 256 tokens.
        sampling_batch_size: Most prompts that are decoded together.

    Raises:
        UserError: If an option is out of range.
    """

    def __init__(
        self,
        schedule: Schedule = "decreasing",
        capacity: int = 1000,
        initial_threshold: float = 0.0,
        threshold_step: float = 0.1,
        loss_margin: float = 0.1,
        sampling: SamplingSettings | None = None,
        sampling_batch_size: int = 64,
    ) -> None:
        super().__init__(sampling, sampling_batch_size)
        if schedule not in _SCHEDULES:
            raise UserError(f"schedule is {schedule!r}: choose {', '.join(_SCHEDULES)}")
        require_share(initial_threshold=initial_threshold, threshold_step=threshold_step)
        require_at_least(0, loss_margin=loss_margin)
        self.schedule = schedule
        self.threshold_step = threshold_step
        self.loss_margin = loss_margin
        self.threshold = initial_threshold
        self.reference_loss: float | None = None
        self.buffer = ReplayBuffer(capacity)
        self._sampled: list[EncodedRecord] = []
        self._counts: dict[str, int] = dict.fromkeys(_KINDS, 0)
        self._decision: tuple[int, Kind] | None = None

    @property
    def needs_initial_loss(self) -> bool:
        """Whether V0 is not known yet."""
        return self.reference_loss is None

    def on_validation_loss(self, loss: float) -> None:
        """Moves the threshold; the first loss is V0."""
        if self.reference_loss is None:
            self.reference_loss = loss
        elif loss >= self.reference_loss + self.loss_margin:
            self.threshold = min(1.0, self.threshold + self.threshold_step)
            self.reference_loss = loss

    def student_share(self, step: int, total_steps: int) -> float:
        """Returns phi_g, the probability of fresh samples at a step once the buffer is full."""
        progress = step / total_steps
        weights = {"decreasing": 1.0 - progress, "constant": 0.5, "increasing": progress}
        return self.threshold * weights[self.schedule]

    def decide(self, context: ResponseContext) -> Kind:
        """Returns what the whole step trains on, the same on all ranks and micro-batches."""
        # The first micro-batch decides: the buffer may become full before the step's last.
        if self._decision is None or self._decision[0] != context.step:
            kind = self._draw(context)
            self._counts[kind] += 1
            self._decision = (context.step, kind)
        return self._decision[1]

    def _draw(self, context: ResponseContext) -> Kind:
        keys = RandomScope(context.seed, "replay or fresh", context.step).keys([""])
        u = keyed_uniforms(keys, stream=0, count=1).item()
        if u >= self.threshold:
            return "fixed"
        share = self.student_share(context.step, context.total_steps)
        return "fresh" if u < share or not self.buffer.full else "replayed"

    def replace(self, batch: InstructionBatch, context: ResponseContext) -> InstructionBatch:
        """Returns a fresh, a replayed or the given batch."""
        kind = self.decide(context)
        if kind == "fixed":
            return batch
        if kind == "replayed":
            return self.buffer.draw(batch, context)
        fresh = super().replace(batch, context)
        self._push([record for record in records_of(fresh) if not is_filler(record)], context)
        return fresh

    def _push(self, records: list[EncodedRecord], context: ResponseContext) -> None:
        """Collects what a micro-batch sampled, and pushes what the step did with its last one."""
        self._sampled += context.gather(records)
        if (context.micro_batch + 1) % context.accumulate == 0:
            self.buffer.push(self._sampled)
            self._sampled.clear()

    def metrics(self) -> dict[str, float]:
        """Returns phi and the shares of fresh, replayed and fixed batches so far."""
        steps = max(sum(self._counts.values()), 1)
        shares = {f"share_{kind}": count / steps for kind, count in self._counts.items()}
        return {"threshold": self.threshold, **shares}

    def mechanism(self) -> dict[str, float]:
        """Returns phi and the shares: without fresh or replayed batches the scheme never ran."""
        return self.metrics()

    def state_dict(self) -> dict[str, Any]:
        """Returns threshold, V0, buffer and counts."""
        return {
            "threshold": self.threshold,
            "reference_loss": self.reference_loss,
            "counts": dict(self._counts),
            "buffer": self.buffer.state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what :meth:`state_dict` returned."""
        self.threshold = state["threshold"]
        self.reference_loss = state["reference_loss"]
        self._counts = dict(state["counts"])
        self._decision = None
        self._sampled.clear()
        self.buffer.restore(state["buffer"])
