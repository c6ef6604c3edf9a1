"""Exports the last weights of a fit as a folder that anybody can load."""

from importlib.metadata import version
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from callbacks.export.model_card import DataDescription, model_card
from callbacks.results import merge_parts, read_table
from callbacks.run import Scene, run_folder, run_identity
from datamodules import InstructionDataModule
from kdmodules.network import WEIGHTS_PREFIX

PACKAGES = ("torch", "lightning", "transformers", "tokenizers", "datasets", "kd-privacy")


class ModelExport(Callback):
    """Writes ``export/`` at the end of a fit: weights, configuration, tokenizer, model card.

    The last weights are exported, never the best on some loss, which would choose the leak away.

    Args:
        enabled: Whether to export.
    """

    def __init__(self, enabled: bool = True) -> None:
        self.enabled = enabled

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Gathers the weights from all ranks and writes the folder on the first."""
        if not self.enabled:
            return
        weights = trainer.strategy.lightning_module_state_dict()
        if trainer.is_global_zero:
            self._write(Scene.of(trainer, pl_module), weights)
        trainer.strategy.barrier("export")

    @staticmethod
    def _write(scene: Scene, weights: dict[str, Any]) -> None:
        folder = run_folder(scene.trainer) / "export"
        own = {
            name.removeprefix(WEIGHTS_PREFIX): value
            for name, value in weights.items()
            if name.startswith(WEIGHTS_PREFIX)
        }
        data = scene.data
        if not isinstance(data, InstructionDataModule):
            raise TypeError("only a run on an InstructionDataModule trains anything to export")
        model = scene.module.language_model.model
        model.save_pretrained(folder, state_dict=own)
        data.tokenizer.save_pretrained(folder)
        merge_parts(run_folder(scene.trainer))
        card = model_card(
            run_identity(scene.trainer).columns(scene.module.seed),
            read_table(run_folder(scene.trainer), "results").to_pylist(),
            {name: version(name) for name in PACKAGES},
            DataDescription(
                source=data.source,
                split=scene.module.training_split,
                counts={summary.split: summary.records for summary in data.describe()},
                protocol=data.splits.protocol,
            ),
            base_model=scene.module.network.source,
        )
        (folder / "README.md").write_text(card, encoding="utf-8")
