"""What a fit keeps of its weights: a checkpoint to resume from, and a model to load anywhere."""

import shutil
from collections.abc import Mapping
from copy import deepcopy
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from audits.answer.machine import FILE_NAME
from audits.answer.one_run import run_answer
from audits.model_card.card import DataDescription, model_card
from audits.results import merge_parts, read_table
from callbacks.hub import push_export, require_free_repository
from callbacks.run import RunContext, run_folder, run_identity
from common import guarantee
from common.atomic_file import beside, naming, open_alike, put_in_place
from common.errors import UserError
from common.options import require_at_least
from datamodules import InstructionDataModule
from datamodules.chat_template import CHAT, ChatTemplate
from datamodules.templates import Template
from kdmodules.models.adapter_files import named_base
from kdmodules.models.adapters import adapter_of, add_adapter, merge_adapter, save_adapter
from kdmodules.models.continued_adapter import adapter_folder
from kdmodules.models.network import Network
from kdmodules.models.sharding import whole_weights
from kdmodules.sampling.generation_batches import Vocabulary

PACKAGES = ("torch", "lightning", "transformers", "tokenizers", "datasets", "kd-privacy")


class ModelExport(Callback):
    """Writes ``export/`` at the end of a fit: weights, configuration, tokenizer, model card, and
    the run's audit.json and guarantee.json where it has them.

    The last weights are exported, never the best on some loss, which would choose the leak away.
    Of a run that trained an adapter the folder holds the merged model, and ``adapter/`` in it the
    adapter alone. A template file of the run is the exported tokenizer's chat template.

    Args:
        enabled: Whether to export.
        push_to_hub: Repository of the hub that the folder is uploaded to, ``OWNER/NAME``; a new
            one. Nothing that tells of single records is.
        private: Whether that repository is private.
    """

    def __init__(
        self, enabled: bool = True, push_to_hub: str | None = None, private: bool = True
    ) -> None:
        if push_to_hub is not None and not enabled:
            raise UserError("--export.push_to_hub: --export.enabled=false leaves nothing to push")
        self.enabled = enabled
        self.push_to_hub = push_to_hub
        self.private = private

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Asks the hub, before anything is trained, whether the repository can be made."""
        if self.push_to_hub is not None and trainer.is_global_zero:
            require_free_repository(self.push_to_hub)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Gathers the weights from all ranks and writes the folder on the first."""
        if not self.enabled:
            return
        context = RunContext.of(trainer, pl_module)
        weights = whole_weights(context.module.language_model)
        if trainer.is_global_zero:
            self._write(context, weights)
            if self.push_to_hub is not None:
                folder = run_folder(trainer) / "export"
                rank_zero_info(f"pushed to {push_export(folder, self.push_to_hub, self.private)}")
        trainer.strategy.barrier("export")

    @staticmethod
    def _write(context: RunContext, weights: Mapping[str, Tensor]) -> None:
        folder = run_folder(context.trainer) / "export"
        data, split = context.data, context.module.training_split
        if not isinstance(data, InstructionDataModule) or split is None:
            raise TypeError("only a run on an InstructionDataModule trains anything to export")
        model = context.module.language_model.model
        adapter = adapter_of(model)
        exported = whole_model(model, weights)
        valid = context.module.language_model.vocabulary_size
        ends = Vocabulary.of(valid, data.encoder, model).ends
        if len(ends) > 1:
            exported.generation_config.eos_token_id = ends
        exported.save_pretrained(folder)
        if adapter is not None:
            save_adapter(model, weights, folder / "adapter", _adapter_base(context.module.network))
        told_template(data.tokenizer, data.encoder.template).save_pretrained(folder)
        run = run_folder(context.trainer)
        merge_parts(run)
        card = model_card(
            run_identity(context.trainer).columns(context.module.seed),
            read_table(run, "results").to_pylist(),
            {name: version(name) for name in PACKAGES},
            DataDescription(
                source=data.source,
                split=split,
                counts=data.counts(),
                protocol=data.splits.protocol,
            ),
            base_model=context.module.network.source,
            adapter=adapter,
            answer=run_answer(run),
        )
        (folder / "README.md").write_text(card, encoding="utf-8")
        if (run / FILE_NAME).is_file():
            shutil.copyfile(run / FILE_NAME, folder / FILE_NAME)
        found = guarantee.read(run)
        if found is not None:
            guarantee.write(folder, found)
        open_alike(folder, folder / "README.md")


def told_template(
    tokenizer: PreTrainedTokenizerBase, template: Template
) -> PreTrainedTokenizerBase:
    """Returns a tokenizer that renders chats as a template does.

    Args:
        tokenizer: Stays as it is.
        template: What a run's records were rendered by; only a Jinja file is not the tokenizer's.
    """
    if not isinstance(template, ChatTemplate) or template.name == CHAT:
        return tokenizer
    told = deepcopy(tokenizer)
    told.chat_template = template.source
    return told


def whole_model(model: PreTrainedModel, weights: Mapping[str, Tensor]) -> PreTrainedModel:
    """Returns a plain model of the same configuration that holds the gathered weights.

    The trained one may be sharded, and looking at a sharded weight is work for all ranks at once.

    Args:
        model: The trained model.
        weights: Its whole weights by name.

    Returns:
        A model on the device of ``weights``, an adapter merged into it.
    """
    adapter = adapter_of(model)
    with torch.device("meta"):
        whole = type(model)(model.config)
        if adapter is not None:
            add_adapter(whole, adapter, seed=0)
    whole.load_state_dict(weights, assign=True)
    whole.tie_weights()
    return whole if adapter is None else merge_adapter(whole)


def _adapter_base(network: Network) -> str | None:
    """Returns the name under which an adapter's base can be loaded; a pruned one has none."""
    if network.source is not None and network.adapter is not None and network.adapter.continued:
        return network.adapter_base or named_base(adapter_folder(network.source))
    return network.source if network.depth_stride == 1 else None


class RecoveryCheckpoint(Checkpoint):
    """Keeps ``checkpoints/last.ckpt``, so that a killed run resumes with ``--ckpt_path last``.

    Written after every ``save_every_n_steps`` optimiser steps and at the end of every epoch. Where
    a validation follows a step, as one does the last (`FinalValidation`), the save waits until its
    audits are on disk: a run that is killed in between repeats the steps since the last save and
    writes the same audits again.

    Args:
        save_every_n_steps: Optimiser steps between two saves; 0 saves at the end of epochs only.
    """

    def __init__(self, save_every_n_steps: int = 100) -> None:
        require_at_least(0, "recovery.", save_every_n_steps=save_every_n_steps)
        self.save_every_n_steps = save_every_n_steps
        self._saved_step = 0

    @staticmethod
    def path(trainer: Trainer) -> Path:
        """Returns where the checkpoint lies."""
        return run_folder(trainer) / "checkpoints" / "last.ckpt"

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Saves where an optimiser step that is due has just been taken."""
        due = self.save_every_n_steps > 0 and trainer.global_step % self.save_every_n_steps == 0
        if not due or trainer.global_step == self._saved_step:
            return
        loop = trainer.fit_loop.epoch_loop
        fetcher = trainer.fit_loop._data_fetcher
        validates = fetcher is not None and loop._should_check_val_fx(fetcher)
        ends = loop.batch_progress.is_last_batch or trainer.global_step == trainer.max_steps
        if validates or ends:
            return
        self._save(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves the end of the epoch, its validation included."""
        self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        # Lightning writes to the machine's temporary folder and moves the file, which is a copy
        # where the run lies on another file system: a kill would leave half of it.
        path = self.path(trainer)
        with naming(path):
            trainer.save_checkpoint(beside(path), weights_only=False)
        if trainer.is_global_zero:
            put_in_place(beside(path), path)
        self._saved_step = trainer.global_step
