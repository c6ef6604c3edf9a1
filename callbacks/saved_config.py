"""The resolved configuration of a run: saved once, shown in TensorBoard, compared on resume."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from callbacks.run import run_folder, run_identity
from callbacks.tensorboard import tag_in
from common.errors import UserError
from common.fragments import CONFIG_NAME
from common.own_files import read_yaml

COMPARED_CURVES = {
    "membership/private/loss/auroc": "AUROC (loss)",
    "memorization/private/token_accuracy": "Token accuracy (private)",
    "utility/rouge_l_f1": "ROUGE-L",
    "utility/perplexity": "Perplexity",
}
"""Curves whose last points stand side by side in TensorBoard's table of runs, and their columns."""
_FIRST = ("role", "seed", "size", "technique")
_SHOWN = {
    "lr": "model.init_args.optimizer.lr",
    "objective": "model.init_args.kd_loss.class_path",
    "responses": "model.init_args.responses.class_path",
    "split_seed": "data.init_args.splits.seed",
}
_CLASSES = ("objective", "responses")
_NOT_PART_OF_A_RUN = ("ckpt_path", "weights_only", "untrained")
_NOISE = "model.init_args.dp."
_TRAINED_WITH = ("model.", "data.")


class RunConfig(Callback):
    """Writes the resolved configuration beside the run and into TensorBoard.

    Args:
        config: The resolved configuration of the subcommand.
        subcommand: fit or validate.
    """

    def __init__(self, config: dict[str, Any], subcommand: str) -> None:
        self.config = {key: config[key] for key in config if key not in _NOT_PART_OF_A_RUN}
        self.subcommand = subcommand
        # Lightning tells of the checkpoint only after this callback's turn.
        self._resumed = config.get("ckpt_path") is not None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Saves the configuration of a new run; a resumed one keeps what it was started with."""
        if not trainer.is_global_zero:
            return
        path = run_folder(trainer) / CONFIG_NAME
        if path.exists() and self.subcommand == "validate":
            path = run_folder(trainer) / "validate.yaml"
        if self.subcommand == "validate" or not (self._resumed and path.exists()):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(yaml.safe_dump(self.config, sort_keys=False), encoding="utf-8")
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                text = yaml.safe_dump(self.config, sort_keys=False)
                indented = "".join(f"    {line}\n" for line in text.splitlines())
                logger.experiment.add_text(f"config/{self.subcommand}", indented)
                if self.subcommand == "fit":
                    self._compare(logger, trainer, pl_module)

    def _compare(
        self, logger: TensorBoardLogger, trainer: Trainer, pl_module: LightningModule
    ) -> None:
        """Gives the run a row in TensorBoard's table of runs.

        The table shows the last point of each curve. ``add_hparams`` would write points of its own,
        and a run for them.
        """
        options = flatten(self.config)
        row = run_identity(trainer).columns(int(options.get("seed_everything", 0)))
        shown = {name: "" if value is None else value for name, value in row.items()}
        # The columns are those of the first run that is read: a class has one where it is none.
        shown |= dict.fromkeys(_CLASSES, "")
        shown |= {name: options[option] for name, option in _SHOWN.items() if option in options}
        shown.pop("run")
        curves = {tag_in(logger, tag): name for tag, name in COMPARED_CURVES.items()}
        for summary in table_of_runs(shown, curves):
            logger.experiment.file_writer.add_summary(summary)


def table_of_runs(
    options: Mapping[str, str | int | float], curves: Mapping[str, str]
) -> tuple[Any, Any, Any]:
    """Returns a run's row in TensorBoard's table of runs.

    The table opens with its first five columns, those marked as differing before all others.

    Args:
        options: What the run is, by column.
        curves: Names of the columns of curves, by tag.

    Returns:
        Three protocol buffers of the class ``Summary``: what the table holds, the run's begin and
        its end.
    """
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
    from torch.utils.tensorboard.summary import hparams

    named = {
        name: value.rpartition(".")[2] if name in _CLASSES and isinstance(value, str) else value
        for name, value in options.items()
    }
    table, begin, end = hparams(named, dict.fromkeys(curves, 0.0))
    plugin = table.value[0].metadata.plugin_data
    content = HParamsPluginData.FromString(plugin.content)
    for option in content.experiment.hparam_infos:
        option.differs = option.name in _FIRST
    for curve in content.experiment.metric_infos:
        curve.display_name = curves[curve.name.tag]
    plugin.content = content.SerializeToString()
    return table, begin, end


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """Returns nested settings as one level of dotted names; lists become their text.

    >>> flatten({"model": {"lr": 0.1, "betas": [0.9, 0.95]}})
    {'model.lr': 0.1, 'model.betas': '[0.9, 0.95]'}
    """
    if isinstance(config, dict):
        flat: dict[str, Any] = {}
        for name, value in config.items():
            flat.update(flatten(value, f"{prefix}.{name}" if prefix else str(name)))
        return flat
    return {prefix: config if isinstance(config, str | int | float | bool) else str(config)}


def refuse_used_folder(run_dir: Path) -> None:
    """Refuses to start a run in a folder that another one has filled.

    Raises:
        UserError: If the folder holds a checkpoint or results.
    """
    for used in (run_dir / "checkpoints" / "last.ckpt", run_dir / "results.parquet"):
        if used.exists():
            raise UserError(
                f"{run_dir} already holds a run ({used.relative_to(run_dir)}): give another "
                f"--run_dir, resume it with --ckpt_path last, or delete the folder"
            )


def refuse_foreign_weights(run_dir: Path, ckpt_path: str | None) -> None:
    """Refuses a validation that would write other weights' rows into the tables of a fit.

    Raises:
        UserError: If the folder holds a fit and the checkpoint is none of its own.
    """
    checkpoints = run_dir / "checkpoints"
    if not (checkpoints.exists() or (run_dir / "export").exists()):
        return
    if ckpt_path is None or Path(ckpt_path).resolve().parent != checkpoints.resolve():
        raise UserError(
            f"{run_dir} holds a fit, whose tables take audits of its own checkpoints alone: give "
            f"--ckpt_path {checkpoints / 'last.ckpt'}, or another --run_dir"
        )


def report_disagreement(run_dir: Path, config: dict[str, Any]) -> None:
    """Says on standard error where a resumed run's configuration is not the one it was started
    with.

    The command line and the fragments win.

    Raises:
        UserError: A model or its data are others, and the run is trained with noise: its key draws
            the same noise again, and the difference of two results would be without any.
    """
    path = run_dir / CONFIG_NAME
    if not path.exists():
        return
    saved = flatten(read_yaml(path, "delete it; it only tells how the run was started"))
    now = flatten({key: config[key] for key in config if key not in _NOT_PART_OF_A_RUN})
    noised = any(name.startswith(_NOISE) for name in (*saved, *now))
    for name in sorted(saved.keys() | now.keys()):
        if saved.get(name) == now.get(name):
            continue
        changed = (
            f"{name} was {saved.get(name)!r} when {run_dir} was started, is now {now.get(name)!r}"
        )
        if noised and name.startswith(_TRAINED_WITH):
            raise UserError(
                f"{changed}: a privately trained run goes on with the noise that it began with, "
                "and what is trained otherwise under it would give the difference away; resume it "
                "as it was started, or start anew in another --run_dir"
            )
        sys.stderr.write(f"warning: {changed}\n")
