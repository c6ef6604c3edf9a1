"""The plug point that decides which responses a student trains on."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from datamodules.batches import InstructionBatch, RecordEncoder
from kdmodules.causal_lm import CausalLM


@dataclass(frozen=True)
class ResponseContext:
    """What a response source may look at.

    Attributes:
        student: The model that trains, behind its one entry.
        teachers: The frozen teachers.
        encoder: Turns text into tokens as the data module does.
        step: Optimiser steps taken so far.
        total_steps: Optimiser steps of the whole run.
        epoch: The epoch, from 0.
        micro_batch: Index of the micro-batch within the epoch, on this rank.
        seed: The run's seed; every draw is keyed by it.
        rank: This process.
        world_size: Number of processes.
    """

    student: CausalLM
    teachers: Sequence[CausalLM]
    encoder: RecordEncoder
    step: int
    total_steps: int
    epoch: int
    micro_batch: int
    seed: int
    rank: int
    world_size: int


class ResponseSource(ABC):
    """Decides which responses a training batch carries."""

    def prepare(self, context: ResponseContext) -> None:
        """Does what must be done once before training, such as sampling the teacher's text."""
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
