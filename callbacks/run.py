"""A run: its name and role, its folder, its reference models, and what its callbacks meet."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from lightning.pytorch import Callback, LightningModule, Trainer
from transformers import PreTrainedTokenizerBase

from audits.results import write_part
from audits.rows import ResultRow
from audits.scoring.references import BASE, ReferenceModel, reference_tokenizer
from common.atomic_file import make_private
from common.errors import UserError
from common.guarantee import Certificate, Guarantee, read, write
from common.ranks import Ranks
from common.roles import COUNTERFACTUAL_ROLES, Role
from datamodules.record_module import RecordDataModule
from datamodules.records import InstructionRecord
from kdmodules.language_model import LanguageModelModule
from kdmodules.models.blueprint import network_blueprint

Kind = TypeVar("Kind", bound=Callback)


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
        defence: What the run is hardened by, filled by ``configs/defences``; its guarantee has
            certificate none unless the training states another.
    """

    def __init__(
        self,
        name: str | None = None,
        role: Role = Role.external,
        family: str | None = None,
        size: str | None = None,
        technique: str | None = None,
        defence: str | None = None,
    ) -> None:
        self.name = name
        self.role = Role(role)
        self.family = family
        self.size = size
        self.technique = technique
        self.defence = defence

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Names the run after its folder where it has no name."""
        if self.name is None:
            self.name = run_folder(trainer).resolve().name

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes that nothing is guaranteed where a defence without a certificate is tried.

        What a student has of its teacher stays: hardening it further takes nothing away.
        """
        if self.defence is not None and trainer.is_global_zero:
            if read(run_folder(trainer)) is None:
                uncertified = Guarantee(certificate=Certificate.none, defence=self.defence)
                write(run_folder(trainer), uncertified)

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
    return callback_of(trainer, RunIdentity) or RunIdentity(run_folder(trainer).resolve().name)


def callback_of(trainer: Trainer, kind: type[Kind]) -> Kind | None:
    """Returns the trainer's first callback of a kind, if it has one."""
    callbacks = getattr(trainer, "callbacks", [])
    return next((callback for callback in callbacks if isinstance(callback, kind)), None)


def run_folder(trainer: Trainer) -> Path:
    """Returns the folder that everything of a run is written to."""
    return Path(trainer.default_root_dir)


def private_folder(trainer: Trainer) -> Path:
    """Returns the folder of what tells of private records; made, and of mode 0700."""
    return make_private(run_folder(trainer) / "private")


class ReferenceModels(Callback):
    """Where the reference models of a run's audits are.

    A reference may have another tokenizer than the audited model: it then scores the same text in
    tokens of its own.

    Args:
        models: Hub name, ``save_pretrained`` folder or checkpoint by name, such as ``base`` (the
            audited model's own base checkpoint) or ``control`` (a model that never met a teacher).
            Without an entry, ``base`` is the checkpoint that the run's network was loaded from.
        allow_pickle: Read those that have no safetensors from their pickled weights; nothing but
            tensors is taken from them.
        adapter_bases: By a reference's name, what takes the place of the base that it names; it is
            then an adapter alone.

    Raises:
        UserError: If a base is given for no reference.
    """

    def __init__(
        self,
        models: dict[str, str] | None = None,
        allow_pickle: bool = False,
        adapter_bases: dict[str, str] | None = None,
    ) -> None:
        self.models = models or {}
        self.allow_pickle = allow_pickle
        self.adapter_bases = adapter_bases or {}
        for name in self.adapter_bases.keys() - self.models.keys():
            raise UserError(
                f"references.adapter_bases.{name} is given, but no references.models.{name}"
            )

    def load(self, name: str, module: LanguageModelModule) -> ReferenceModel:
        """Loads a reference model onto the audited model's device.

        Raises:
            UserError: If no such reference is known, it cannot be loaded, or its window is too
                short for the records.
        """
        encoder, mesh = module.data.encoder, module.device_mesh
        if name in self.models:
            found = ReferenceModel.of_source(
                self.models[name],
                encoder,
                self.allow_pickle,
                mesh,
                adapter_base=self.adapter_bases.get(name),
            )
        elif name == BASE and module.network.source is not None:
            blueprint = network_blueprint(module.network, encoder.tokenizer, seed=0)
            found = ReferenceModel.of_blueprint(blueprint, encoder, mesh)
        else:
            raise UserError(self._unknown(name))
        found.lm.requires_grad_(False).eval().to(module.device)
        return found

    def tokenizer(self, name: str, module: LanguageModelModule) -> PreTrainedTokenizerBase:
        """Returns the tokenizer that a reference reads; no weight is read.

        Raises:
            UserError: If no such reference is known, or it has none.
        """
        encoder = module.data.encoder
        if name in self.models:
            bases = self.adapter_bases
            return reference_tokenizer(self.models[name], encoder, bases.get(name))
        if name == BASE and module.network.source is not None:
            return encoder.tokenizer
        raise UserError(self._unknown(name))

    def _unknown(self, name: str) -> str:
        known = ", ".join(sorted(self.models)) or "none"
        reason = " (this run's network starts from scratch)" if name == BASE else ""
        return (
            f"there is no reference model {name!r}{reason}; known: {known}. Give "
            f"--references.models.{name} a hub name or folder"
        )


def reference_models(trainer: Trainer) -> ReferenceModels:
    """Returns the trainer's reference models; none but the base outside the command line."""
    return callback_of(trainer, ReferenceModels) or ReferenceModels()


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
    def identity(self) -> dict[str, str | int | None]:
        """Identity columns of the results table, step included."""
        return {**run_identity(self.trainer).columns(self.module.seed), "step": self.step}

    def write_results(self, audit: str, rows: Iterable[ResultRow]) -> None:
        """Writes rows of the results table under this run's identity; for the first rank alone."""
        whole = ({**self.identity, "audit": audit, **row} for row in rows)
        write_part(run_folder(self.trainer), "results", self.step, audit, whole)

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
