"""Supervised fine-tuning: the teacher, its counterfactual, the control and the student's init."""

from functools import partial
from typing import Literal

from torch import Tensor

from datamodules.batches import InstructionBatch
from kdmodules.goldfish import Goldfish
from kdmodules.models.network import Network
from kdmodules.optimization import OptimizerSettings
from kdmodules.privacy.settings import PrivateTraining
from kdmodules.private_training import PrivatelyTrained
from kdmodules.token_means import supervised_sums


class SupervisedModule(PrivatelyTrained):
    """Fine-tunes a network on one split by token-mean cross-entropy.

    Args:
        split: ``public`` for the control and the student's init, ``held_out`` for the
            counterfactual teacher, ``private`` for a teacher.
        network: The model that is trained.
        optimizer: AdamW and its schedule.
        seed: Seed of scratch weights and of everything random inside a step.
        goldfish: Leaves target tokens out of the training loss; None learns all.
        dp: Trains a side of the pool differentially privately; None trains as all others do.
    """

    def __init__(
        self,
        split: Literal["private", "held_out", "public"],
        network: Network,
        optimizer: OptimizerSettings,
        seed: int = 0,
        goldfish: Goldfish | None = None,
        dp: PrivateTraining | None = None,
    ) -> None:
        super().__init__(network, optimizer, seed, dp)
        self.training_split = split
        self.goldfish = goldfish

    def loss_sums(self, batch: InstructionBatch) -> dict[str, Tensor]:
        """Returns the summed cross-entropy of the scored tokens in nats, and their number."""
        return self.language_model(partial(supervised_sums, batch=self.with_targets(batch)))

    def with_targets(self, batch: InstructionBatch) -> InstructionBatch:
        """Leaves out what is never learnt."""
        return batch if self.goldfish is None else self.goldfish.without_dropped(batch)


class TeacherModule(SupervisedModule):
    """Fine-tunes the teacher on the private split.

    Args:
        network: The model that is trained.
        optimizer: AdamW and its schedule.
        seed: Seed of scratch weights and of everything random inside a step.
        goldfish: Leaves target tokens out of the training loss; None learns all.
        dp: Trains a side of the pool differentially privately; None trains as all others do.
    """

    def __init__(
        self,
        network: Network,
        optimizer: OptimizerSettings,
        seed: int = 0,
        goldfish: Goldfish | None = None,
        dp: PrivateTraining | None = None,
    ) -> None:
        super().__init__("private", network, optimizer, seed, goldfish, dp)
