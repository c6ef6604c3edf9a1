"""The plug point that decides which responses a student trains on."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from common.errors import UserError
from datamodules.batches import EncodedRecord, InstructionBatch, RecordEncoder
from kdmodules.models.causal_lm import CausalLM
from kdmodules.sampling.generation_batches import Vocabulary

Item = TypeVar("Item")


@dataclass(frozen=True)
class ResponseContext:
    """What a response source may look at.

    Attributes:
        student: The model that trains, behind its one entry.
        teachers: The frozen teachers.
        encoder: Turns text into tokens as the data module does.
        records: All records that the student is served, on every rank.
        private_folder: Where a source may keep text that tells of private records.
        step: Optimiser steps taken so far.
        total_steps: Optimiser steps of the whole run.
        epoch: The epoch, from 0.
        micro_batch: Index of the micro-batch within the epoch, on this rank.
        accumulate: Micro-batches of an optimiser step, on each rank.
        global_batch: Records of an optimiser step, over all ranks and micro-batches.
        seed: The run's seed; every draw is keyed by it.
        rank: This process.
        world_size: Number of processes.
        teacher_sources: What the run names as its teachers, in their order.
        student_source: Where the student's first weights come from; None: they are random.
    """

    student: CausalLM
    teachers: Sequence[CausalLM]
    encoder: RecordEncoder
    records: Sequence[EncodedRecord]
    private_folder: Path
    step: int
    total_steps: int
    epoch: int
    micro_batch: int
    accumulate: int
    global_batch: int
    seed: int
    rank: int
    world_size: int
    teacher_sources: Sequence[str] = ()
    student_source: str | None = None

    @property
    def vocabulary(self) -> Vocabulary:
        """What decoding needs to know of the tokens."""
        models = [lm.model for lm in (self.student, *self.teachers)]
        return Vocabulary.of(self.student.vocabulary_size, self.encoder, *models)

    @property
    def synced(self) -> bool:
        """Whether ranks must step a model equally often: a sharded one gathers at every call."""
        return self.world_size > 1

    def gather(self, items: list[Item]) -> list[Item]:
        """Returns the items of all ranks, rank by rank; work for all ranks at once."""
        if self.world_size == 1:
            return items
        parts: list[list[Item]] = [[] for _ in range(self.world_size)]
        torch.distributed.all_gather_object(parts, items)
        return [item for part in parts for item in part]

    def require_room(self, max_new_tokens: int) -> None:
        """Refuses responses that may outgrow the window of prompt and response, and prompts that
        are themselves scored.

        Raises:
            UserError: If the longest prompt and the longest response exceed ``data.max_tokens``, or
                ``data.score`` is all.
        """
        if self.encoder.score == "all":
            raise UserError(
                "data.score is all, but model.responses are written behind prompts that are not "
                "scored: give --data.score assistant or last"
            )
        check_room(self.encoder.max_prompt_tokens, max_new_tokens, self.encoder.max_tokens)

    def require_teacher(self) -> None:
        """Refuses a student without a teacher where the teacher's text is asked for.

        Raises:
            UserError: If there is none.
        """
        if not self.teachers:
            raise UserError(
                "model.teacher names no teacher: model.responses samples from at least one"
            )


class ResponseSource(ABC):
    """Decides which responses a training batch carries.

    Attributes:
        extras: Figures of every token that it leaves for the objective beside the responses
            (`KDLoss.required_extras`).
        fixed_text: Whether a record gets the same response whenever it is asked for, from
            :meth:`prepare` on.
        prepares_with_teachers: Whether :meth:`prepare` asks the teachers.
        steps_in_evaluation_mode: Whether steps run without dropout, because they weigh what the
            student says of its text against what it said when the text was sampled.
        text_alone: Whether what it bounds is bounded only where the student reads the teachers
            through its text, and neither their probabilities nor their weights.
    """

    extras: tuple[str, ...] = ()
    fixed_text: bool = False
    prepares_with_teachers: bool = False
    steps_in_evaluation_mode: bool = False
    text_alone: bool = False

    @property
    def needs_initial_loss(self) -> bool:
        """Whether the source must hear the development loss of the student before the first step.

        It then comes as the first call of :meth:`on_validation_loss`.
        """
        return False

    def prepare(self, context: ResponseContext) -> None:
        """Does what must be done once before training, such as sampling the teacher's text.

        On a resume it comes after :meth:`load_state_dict`.
        """
        return

    @abstractmethod
    def replace(self, batch: InstructionBatch, context: ResponseContext) -> InstructionBatch:
        """Returns the batch to train on; called once per training batch.

        Args:
            batch: What the data module served: public prompts with their own responses.
            context: The state of training.
        """

    def on_validation_loss(self, loss: float) -> None:
        """Receives the development loss in nats after every validation, the same on all ranks."""
        return

    def metrics(self) -> dict[str, float]:
        """Returns what is worth a curve, by name; read once per optimiser step."""
        return {}

    def mechanism(self) -> dict[str, float]:
        """Returns what must be known of a run before it may bear its technique's name.

        Figures by name, of the run so far, the same on all ranks: what the source has done where
        that follows the run; nothing of a source that does as it is configured.
        """
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Returns what must survive a resume: buffers, rollouts, thresholds."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what :meth:`state_dict` returned.

        Raises:
            ValueError: If the state is of a source that keeps more than this one.
        """
        if state:
            raise ValueError(f"{type(self).__name__} keeps no state, found {sorted(state)}")


def check_room(max_prompt_tokens: int, max_new_tokens: int, max_tokens: int) -> None:
    """Refuses responses that may outgrow the window of prompt and response.

    Raises:
        UserError: If the longest prompt and the longest response exceed the window.
    """
    if max_prompt_tokens + max_new_tokens > max_tokens:
        raise UserError(
            f"data.max_prompt_tokens={max_prompt_tokens} and max_new_tokens={max_new_tokens} of "
            f"model.responses exceed data.max_tokens={max_tokens}: lower one of them"
        )
