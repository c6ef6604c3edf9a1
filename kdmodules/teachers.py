"""The frozen teachers of a distillation."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule
from transformers import PreTrainedTokenizerBase

from common.errors import UserError
from datamodules.batches import InstructionBatch, RecordEncoder
from kdmodules.losses import HeadRows
from kdmodules.models.anatomy import require_window
from kdmodules.models.blueprint import Placement, realise, source_blueprint
from kdmodules.models.causal_lm import CausalLM
from kdmodules.models.network import require_same_vocabulary


@dataclass(frozen=True)
class TeacherWeights:
    """How frozen teachers are held; what is computed from their logits stays float32.

    Attributes:
        precision: Of the weights and of the forward pass, whatever the student's.
        sharded: Whether each rank holds a part of every weight; None: where the strategy shards the
            student.
        offload: Keep the shards in host memory; a block visits the device for its forward.
        allow_pickle: Read teachers that have no safetensors from their pickled weights; nothing but
            tensors is taken from them.
        adapter_base: Takes the place of the base that teachers name, which are then adapters alone.
    """

    precision: Literal["float32", "bfloat16"] = "float32"
    sharded: bool | None = None
    offload: bool = False
    allow_pickle: bool = False
    adapter_base: str | None = None

    def placement(self, mesh: DeviceMesh | None, device: torch.device) -> Placement:
        """Returns where the weights lie.

        Args:
            mesh: Over which the strategy shards the student, if it does.
            device: Where this rank computes.

        Raises:
            UserError: If teachers are to be sharded over a single process, or offloaded whole.
        """
        if self.sharded is False:
            mesh = None
        elif self.sharded and mesh is None:
            if not dist.is_initialized():
                raise UserError(
                    "model.teacher_weights.sharded needs several processes: give "
                    "--trainer.devices and a --trainer.strategy, or leave it out"
                )
            mesh = init_device_mesh(device.type, (dist.get_world_size(),))
        if self.offload and mesh is None:
            raise UserError(
                "model.teacher_weights.offload moves shards, and the teachers are whole: set "
                "model.teacher_weights.sharded, or leave it out"
            )
        return Placement(mesh, self.offload)


_WHOLE = TeacherWeights()


class Teachers:
    """One teacher, or an ensemble whose probabilities are averaged.

    No module of PyTorch, which keeps the models out of the student's parameters, optimiser,
    checkpoints and strategy.

    Args:
        sources: Hub name, ``save_pretrained`` folder or checkpoint of each.
        weights: Their precision, and whether they are sharded.

    Attributes:
        models: The loaded models, frozen and in evaluation mode; none before :meth:`load`.
    """

    def __init__(self, sources: Sequence[str], weights: TeacherWeights = _WHOLE) -> None:
        self.sources = tuple(sources)
        self.weights = weights
        self.models: tuple[CausalLM, ...] = ()

    def load(
        self,
        tokenizer: PreTrainedTokenizerBase,
        max_tokens: int,
        mesh: DeviceMesh | None,
        device: torch.device,
    ) -> None:
        """Loads the models where that was not done yet; work for all ranks at once.

        Args:
            tokenizer: Whose vocabulary the teachers must have.
            max_tokens: Longest text that they will read.
            mesh: Over which the strategy shards the student, if it does.
            device: Where this rank computes.

        Raises:
            UserError: If one cannot be loaded, has another vocabulary or too short a window, or
                cannot be held as asked.
        """
        if self.models:
            return
        weights = self.weights
        for source in self.sources:
            require_same_vocabulary(source, tokenizer, weights.adapter_base)
        placement = weights.placement(mesh, device)
        models = []
        for source in self.sources:
            blueprint = source_blueprint(
                source,
                weights.allow_pickle,
                dtype=weights.precision,
                adapter_base=weights.adapter_base,
            )
            lm = realise(blueprint, len(tokenizer), placement)
            lm.require_parts("distilling a teacher")
            require_window(lm.model, max_tokens)
            models.append(lm.requires_grad_(False).eval())
        self.models = tuple(models)

    def share_tokens(self, student: CausalLM, encoder: RecordEncoder) -> None:
        """Lets no token count that a teacher has no row for, which may be fewer than the student's.

        Args:
            student: Told how many tokens are valid.
            encoder: Told for which tokens there are rows.
        """
        for model in self.models:
            student.vocabulary_size = min(student.vocabulary_size, model.vocabulary_size)
        encoder.limit_rows(student.vocabulary_size)

    def release(self) -> None:
        """Lets the models go, and their memory."""
        self.models = ()

    def to(self, device: torch.device) -> None:
        """Moves the models that are whole; shards lie where they belong from the start."""
        for model in self.models:
            if not isinstance(model, FSDPModule):
                model.to(device)

    @torch.no_grad()
    def rows(self, batch: InstructionBatch) -> tuple[HeadRows, ...]:
        """Returns what the objective needs of each teacher at the batch's scored tokens."""
        return tuple(model(lambda lm: (lm.hidden(batch), lm.head)) for model in self.models)
