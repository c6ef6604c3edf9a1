"""What a run is called and which part it plays in a study, and the folder that it writes."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer

from common.ranks import Ranks
from common.roles import COUNTERFACTUAL_ROLES, Role
from datamodules.record_module import RecordDataModule
from datamodules.records import InstructionRecord
from kdmodules.language_model import LanguageModelModule


class RunIdentity(Callback):
    """The identity under which a run's rows stand in every table.

    Filled by fragments: the role by ``configs/base``, family and size by ``configs/families``, the
    technique by ``configs/techniques``.

    Args:
        name: Name of the run; the name of its folder if not given.
        role: What the run is in a study.
        family: gpt2, opt or llama.
        size: The network's size within its family, such as ``tiny`` or ``xl``.
        technique: kd, seqkd, imitkd, gkd, minillm, distillm, or a technique of your own.
    """

    def __init__(
        self,
        name: str | None = None,
        role: Role = Role.external,
        family: str | None = None,
        size: str | None = None,
        technique: str | None = None,
    ) -> None:
        self.name = name
        self.role = Role(role)
        self.family = family
        self.size = size
        self.technique = technique

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Names the run after its folder where it has no name."""
        if self.name is None:
            self.name = run_folder(trainer).resolve().name

    def columns(self, seed: int) -> dict[str, str | int | None]:
        """Returns the identity columns of the results table."""
        return {
            "run": self.name,
            "role": self.role,
            "family": self.family,
            "size": self.size,
            "technique": self.technique,
            "seed": seed,
        }


def run_identity(trainer: Trainer) -> RunIdentity:
    """Returns the identity of the trainer's run; an anonymous one outside the command line."""
    for callback in getattr(trainer, "callbacks", []):
        if isinstance(callback, RunIdentity):
            return callback
    identity = RunIdentity()
    identity.name = run_folder(trainer).resolve().name
    return identity


def run_folder(trainer: Trainer) -> Path:
    """Returns the folder that everything of a run is written to."""
    return Path(trainer.default_root_dir)


def private_folder(trainer: Trainer) -> Path:
    """Returns the folder of what tells of private records; made with mode 0700 where it is not."""
    folder = run_folder(trainer) / "private"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


@dataclass(frozen=True)
class RunContext:
    """The trainer, the model and the data that a callback meets, by their own types.

    Attributes:
        trainer: The trainer.
        module: The model under audit.
        data: Its records.
    """

    trainer: Trainer
    module: LanguageModelModule
    data: RecordDataModule

    @classmethod
    def of(cls, trainer: Trainer, pl_module: LightningModule) -> "RunContext":
        """Returns the context of a hook.

        Raises:
            TypeError: If the module or the data module is not of this project.
        """
        data = getattr(trainer, "datamodule", None)
        if not isinstance(pl_module, LanguageModelModule) or not isinstance(data, RecordDataModule):
            raise TypeError(
                f"audits take a LanguageModelModule and a RecordDataModule, found "
                f"{type(pl_module).__name__} and {type(data).__name__}"
            )
        return cls(trainer, pl_module, data)

    @property
    def step(self) -> int:
        """Optimiser steps behind the weights."""
        if self.trainer.state.fn == "fit":
            return self.trainer.global_step
        return self.module.trained_steps

    @property
    def ranks(self) -> Ranks:
        """This process among all."""
        return Ranks(self.trainer.global_rank, self.trainer.world_size)

    def pool_of_world(self) -> Callable[[str, str], list[InstructionRecord]]:
        """Returns the pool's records by side and use as the attacker of this model knows them.

        An attack's ``held_out`` are records that the model's training never reached, its
        ``private`` ones some that it did. Behind a counterfactual model the sides are the other way
        round.
        """
        role, split = run_identity(self.trainer).role, self.module.training_split
        swapped = role in COUNTERFACTUAL_ROLES or split == "held_out"
        other = {"private": "held_out", "held_out": "private"} if swapped else {}
        return lambda side, use: self.data.by_role(other.get(side, side), use)
