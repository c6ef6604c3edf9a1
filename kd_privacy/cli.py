"""The `kd-privacy` command: fit and validate from fragments, attack from stored audits."""

import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
import transformers
from jsonargparse import Namespace
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.exceptions import MisconfigurationException

import callbacks
import datamodules
import kdmodules
from audits.results import require_whole_parts
from callbacks.audit import RunTables, last_of_each_audit
from callbacks.extra_rows import GuaranteeRecord, KnownText, MechanismRecord
from callbacks.interruption import Interruption
from callbacks.private_guarantee import TrainingGuarantee
from callbacks.progress import RunProgress
from callbacks.run import ReferenceModels, RunIdentity
from callbacks.saved_config import (
    RunConfig,
    refuse_foreign_weights,
    refuse_used_folder,
    report_disagreement,
)
from callbacks.schedule import AuditRhythm, FinalValidation
from callbacks.tensorboard import OrderedTensorBoard
from callbacks.weights import ModelExport, RecoveryCheckpoint
from common.errors import INTERRUPTED, UserError, exit_status, first_line
from common.lock import only_writer
from common.options import given_path
from kd_privacy.attack_cli import COMMAND, run_attacks
from kd_privacy.parsers import CheckingParser, PrivacyParser
from kd_privacy.quiet import quieten
from kd_privacy.run_options import check_length, check_run, check_seed
from kd_privacy.show_cli import COMMAND as SHOW
from kd_privacy.show_cli import show_records
from kdmodules.language_model import LanguageModelModule
from kdmodules.models.checkpoints import read_checkpoint
from kdmodules.strategies import require_package
from studies.run.orphans import end_with_parent

DESCRIPTION = (
    "Fine-tunes teachers, distils students and audits what they give away about private records. A "
    "run is composed of YAML fragments, given in the order base, data, family, technique, recipe, "
    "audits, trainer; every option can be overridden on the command line. Start with: kd-privacy "
    "fit "
    "-c configs/base/teacher.yaml -c configs/data/builtin.yaml -c configs/families/gpt2-mini.yaml "
    "-c configs/audits/membership.yaml --run_dir runs/teacher. kd-privacy attack runs attacks on a "
    "stored audit, without a model: kd-privacy attack --help"
)

OFFERED = [
    getattr(package, name)
    for package in (callbacks, datamodules, kdmodules)
    for name in package.__all__
]
"""Classes that the parser knows by their last name, for which they have to be loaded."""

TRAINER_DEFAULTS = {
    # The development loss before training comes from whole validations, never from a sample of one.
    "num_sanity_val_steps": 0,
    # Attacks that need gradients run inside a validation.
    "inference_mode": False,
    # The data module deals each global batch to ranks itself, nothing dropped and nothing twice.
    "use_distributed_sampler": False,
    "gradient_clip_val": 1.0,
    "log_every_n_steps": 10,
    "enable_model_summary": False,
}


class PrivacyCLI(LightningCLI):
    """LightningCLI with this project's identity, run folder and resume."""

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Offers fit and validate."""
        every = LightningCLI.subcommands()
        return {name: every[name] for name in ("fit", "validate")}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds the run's identity, its folder and the recovery checkpoint."""
        parser.add_argument(
            "--run_dir",
            type=str,
            default="runs/run",
            help="Folder that everything of the run is written to.",
        )
        parser.add_argument(
            "--threads",
            type=int | None,
            default=None,
            help="CPU threads of every process; bits are equal for equal thread counts only.",
        )
        parser.add_lightning_class_args(RunIdentity, "run")
        parser.add_lightning_class_args(AuditRhythm, "audits")
        parser.add_lightning_class_args(ReferenceModels, "references")
        parser.add_lightning_class_args(RecoveryCheckpoint, "recovery")
        parser.add_lightning_class_args(ModelExport, "export")
        parser.link_arguments("run_dir", "trainer.default_root_dir")
        parser.link_arguments(
            "run_dir", "data.init_args.manifest_folder", compute_fn=private_folder
        )
        parser.link_arguments("seed_everything", "model.init_args.seed")
        parser.link_arguments("seed_everything", "data.init_args.seed")

    def _prepare_subcommand_parser(
        self, klass: type, subcommand: str, **kwargs: Any
    ) -> LightningArgumentParser:
        """Adds what one subcommand alone takes."""
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        if subcommand == "validate":
            # Lightning's table of the development loss; the last lines hold what was measured.
            parser.set_defaults(verbose=False)
            parser.add_argument(
                "--untrained",
                type=bool,
                default=False,
                help="Audit a network from scratch as it starts, with random weights.",
            )
        return parser

    def _set_seed(self) -> None:
        """Seeds every generator, with a seed that all of them take."""
        check_seed(self.config[self.subcommand].get("seed_everything"))
        super()._set_seed()

    def _parse_ckpt_path(self) -> None:
        """Leaves the configuration alone: the command line beats the checkpoint."""

    def before_instantiate_classes(self) -> None:
        """Resolves `--ckpt_path last`, refuses a used folder, and sets the thread count."""
        config = self.config[self.subcommand]
        check_run(config)
        if self.subcommand == "fit":
            check_length(config.trainer)
        require_package(config.trainer.strategy)
        run_dir = Path(config.run_dir)
        if config.ckpt_path == "last":
            config.ckpt_path = str(run_dir / "checkpoints" / "last.ckpt")
        if config.ckpt_path is not None:
            require_checkpoint(config.ckpt_path)
        self._dump_config()
        if _launches_processes():
            if self.subcommand == "fit" and config.ckpt_path is None:
                refuse_used_folder(run_dir)
            elif self.subcommand == "fit":
                report_disagreement(run_dir, self.config_dump)
                require_whole_parts(run_dir)
            else:
                require_trained(config)
                refuse_foreign_weights(run_dir, config.ckpt_path)
        if config.threads is not None:
            torch.set_num_threads(config.threads)

    def _run_subcommand(self, subcommand: str) -> None:
        """Runs it as the only writer of its folder."""
        run_dir = Path(self.config[subcommand].run_dir)
        with only_writer(run_dir) if _launches_processes() else nullcontext():
            super()._run_subcommand(subcommand)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Builds the trainer with this project's logger, progress bar and end-of-run callbacks."""
        config = self.config[self.subcommand]
        if config.trainer.logger is None:
            kwargs["logger"] = OrderedTensorBoard(
                save_dir=config.run_dir, name="", version="", default_hp_metric=False
            )
        listed = self.config_init[self.subcommand].trainer.callbacks or []
        callbacks = last_of_each_audit(listed)
        wants_bar = config.trainer.enable_progress_bar is not False
        if wants_bar and not any(isinstance(one, ProgressBar) for one in callbacks):
            callbacks.append(RunProgress())
        run_config = RunConfig(self.config_dump, str(self.subcommand))
        own = [TrainingGuarantee(), KnownText(), *callbacks, MechanismRecord(), GuaranteeRecord()]
        kwargs["callbacks"] = [run_config, Interruption(), FinalValidation(), *own, RunTables()]
        try:
            return super().instantiate_trainer(**kwargs)
        except (MisconfigurationException, TypeError, ValueError) as error:
            raise UserError(f"trainer: {first_line(error)}") from error


class FitParser(PrivacyCLI):
    """The parser of `kd-privacy fit` alone: nothing is parsed, seeded, built or run."""

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Offers fit."""
        return {"fit": PrivacyCLI.subcommands()["fit"]}

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parses nothing."""
        self.config = Namespace(subcommand=None)

    def _set_seed(self) -> None:
        """Leaves the random generators alone."""

    def before_instantiate_classes(self) -> None:
        """Leaves folders and threads alone."""

    def instantiate_classes(self) -> None:
        """Builds nothing."""


class ShowParser(FitParser):
    """The parser of `kd-privacy show`: the options of a validation, of which the records count."""

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Offers validate."""
        return {"validate": PrivacyCLI.subcommands()["validate"]}


def _shown(arguments: Sequence[str]) -> tuple[LightningDataModule, LanguageModelModule]:
    """Returns the data module and the module that a command line names; no model is loaded."""
    parser = _open(ShowParser, PrivacyParser, []).parser
    config = parser.parse_args(["validate", *arguments])
    if "manifest_folder" in config.validate.data.init_args:
        config.validate.data.init_args.manifest_folder = None
    config.validate.trainer.callbacks = None
    built = parser.instantiate_classes(config).validate
    return built.data, built.model


def fit_parser() -> LightningArgumentParser:
    """Returns the parser of `kd-privacy fit`, to check commands that this process does not run."""
    return _open(FitParser, CheckingParser, []).parser


def parse_command(parser: LightningArgumentParser, arguments: Sequence[str]) -> Namespace:
    """Parses a command with `fit_parser`.

    Raises:
        UserError: The one line with which the command would end.
    """
    try:
        return parser.parse_args(list(arguments))
    except SystemExit as error:
        raise UserError(str(error)) from error


def require_checkpoint(ckpt_path: str) -> None:
    """Refuses a checkpoint that cannot be gone on with.

    Raises:
        UserError: There is none, it cannot be read, or a folder holds no sharded one.
    """
    path = given_path(ckpt_path)
    if not path.exists():
        raise UserError(
            f"checkpoint {ckpt_path} does not exist: leave --ckpt_path out to start anew"
        )
    if path.is_file():
        read_checkpoint(ckpt_path)
    elif not (path / ".metadata").is_file():
        raise UserError(
            f"checkpoint {ckpt_path} is a folder, and holds no sharded one (.metadata): name a "
            "file, or that folder"
        )


def require_trained(config: Namespace) -> None:
    """Refuses a validation of random weights, unless that is what is asked for.

    Args:
        config: The configuration of the subcommand.

    Raises:
        UserError: If there is neither a checkpoint nor a source.
    """
    given = config.model.init_args
    sources = [given.get("source"), given.get("network.source"), config.ckpt_path]
    if "network" in given and not any(sources) and not config.untrained:
        raise UserError(
            "this would audit random weights: give --ckpt_path RUN/checkpoints/last.ckpt or "
            "--model.network.source SOURCE, or say --untrained true"
        )


def private_folder(run_dir: str) -> str:
    """Returns the folder of a run that may hold what the private records reveal."""
    return str(Path(run_dir) / "private")


def _launches_processes() -> bool:
    """Tells the process that the user started from those that a strategy, torchrun or srun did."""
    ranks = (os.environ.get(name) for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"))
    return int(next((rank for rank in ranks if rank is not None), "0")) == 0


def _open(
    cli: type[PrivacyCLI], parser: type[PrivacyParser], arguments: list[str] | None
) -> PrivacyCLI:
    return cli(
        LanguageModelModule,
        LightningDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        save_config_callback=None,
        parser_class=parser,
        parser_kwargs={"description": DESCRIPTION, "prog": "kd-privacy", "allow_abbrev": False},
        seed_everything_default=0,
        trainer_defaults=TRAINER_DEFAULTS,
        auto_configure_optimizers=False,
        load_from_checkpoint_support=False,
        args=arguments,
    )


def main(arguments: list[str] | None = None) -> None:
    """Runs `kd-privacy`.

    Args:
        arguments: The command line without the program's name; the process's own if None.
    """
    # Loading and saving a model's shards is no long work; the runs have bars of their own.
    transformers.utils.logging.disable_progress_bar()
    quieten()
    given = sys.argv[1:] if arguments is None else arguments
    if not _launches_processes():
        end_with_parent()

    def work() -> int:
        if given[:1] == [COMMAND]:
            run_attacks(given[1:])
        elif given[:1] == [SHOW]:
            show_records(*_shown(given[1:]))
        else:
            _open(PrivacyCLI, PrivacyParser, arguments)
        return 0

    try:
        status = exit_status(work, "the same command starts anew")
    except SystemExit as error:
        # Lightning gives 1 after Ctrl-C, as after a defect; Interruption has said how to go on.
        if isinstance(error.__context__, KeyboardInterrupt):
            sys.exit(INTERRUPTED)
        raise
    if status:
        sys.exit(status)


if __name__ == "__main__":
    main()
