"""A Hugging Face causal language model behind one forward entry."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

from common.errors import UserError
from datamodules.batches import InstructionBatch
from kdmodules.models import families
from kdmodules.models.modes import evaluation_mode

Result = TypeVar("Result")


class CausalLM(nn.Module):
    """Wraps a Hugging Face model so that everything enters through one root forward.

    Under fully sharded strategies the parameters of a module are whole only while its forward
    runs: the trunk and the head called apart, or ``generate`` on an inner module, meet sharded
    weights. So a caller hands its whole computation to the root: ``lm(lambda lm: lm.hidden(batch)
    @ lm.head_weight.T)``.

    Args:
        model: A GPT-2, OPT or LLaMA causal language model. Its activations are fused in place.
        vocabulary_size: Number of valid tokens. Rows of the head beyond it are padding and get no
            probability; tokens beyond the head's rows have none either.

    Raises:
        UserError: The model has no head.

    Attributes:
        stepping: Whether a training step is running; see :meth:`in_step`.
    """

    def __init__(self, model: PreTrainedModel, vocabulary_size: int) -> None:
        super().__init__()
        families.family_of(model)
        families.fuse_activations(model)
        self.model = model
        head = model.get_output_embeddings()
        if head is None:
            raise UserError(
                f"{type(model).__name__} has no head over the vocabulary: give a causal language "
                "model, such as AutoModelForCausalLM loads"
            )
        self.vocabulary_size = min(vocabulary_size, head.weight.shape[0])
        self.stepping = False

    @contextmanager
    def in_step(self, dropout: bool) -> Iterator[None]:
        """Makes a training step of what is computed within: blocks run as they were prepared.

        Args:
            dropout: False runs it in evaluation mode, gradients on. Afterwards, errors or not, all
                modes are what they were.
        """
        before, self.stepping = self.stepping, True
        try:
            with evaluation_mode(self, entered=not dropout):
                yield
        finally:
            self.stepping = before

    def forward(self, compute: Callable[["CausalLM"], Result]) -> Result:
        """Runs ``compute(self)`` with every parameter whole.

        Args:
            compute: A function of this module. Under a sharded strategy what it returns must be a
                tensor or a tuple, list or dict of tensors, so that its gradient is seen.
        """
        return compute(self)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "CausalLM":
        """Moves or casts the module, but leaves buffers as exact as they are.

        The only buffers are rotary frequencies: in bfloat16, positions beyond 256 would be rotated
        by wrong angles, so transformers too computes them in float32 in a model of bfloat16.
        """
        exact = dict(self.named_buffers())
        super()._apply(fn, recurse)
        for name, moved in list(self.named_buffers()):
            owner, _, leaf = name.rpartition(".")
            setattr(self.get_submodule(owner), leaf, exact[name].to(moved.device))
        return self

    @property
    def head_weight(self) -> Tensor:
        """The head's weight, [V, D]; rows from ``vocabulary_size`` on are padding."""
        return self.model.get_output_embeddings().weight

    def states(
        self, input_ids: Tensor, attention_mask: Tensor, cache: DynamicCache | None = None
    ) -> Tensor:
        """Returns the inputs of the head at every position, [B, T, D].

        Args:
            input_ids: Token ids, [B, T].
            attention_mask: 1 at real tokens, 0 at padding, [B, T]; padding on one side only.
            cache: Empty; takes the keys and values of all T positions.
        """
        inputs: dict[str, Any] = {"input_ids": input_ids, "past_key_values": cache}
        # A causal model never looks right, so padding on the right needs no mask, and without one
        # scaled-dot-product attention takes its fast causal path.
        if not bool(attention_mask[:, 0].all()):
            positions = (attention_mask.cumsum(dim=1) - 1).clamp(min=0)
            inputs |= {"attention_mask": attention_mask, "position_ids": positions}
        return families.trunk(self.model)(**inputs, use_cache=cache is not None).last_hidden_state

    def hidden(self, batch: InstructionBatch, cache: DynamicCache | None = None) -> Tensor:
        """Returns the inputs of the head at the positions that predict the scored targets, [N, D].

        Rows are ordered by record, then by position, as ``batch.targets()`` is.

        Args:
            batch: B records.
            cache: Empty; takes the keys and values of all positions.
        """
        states = self.states(batch.input_ids, batch.attention_mask, cache)
        return states[:, :-1][batch.response_mask[:, 1:]]


def together(models: Sequence[CausalLM], compute: Callable[[], Result]) -> Result:
    """Runs ``compute`` with every parameter of several models whole.

    Args:
        models: Each is entered through its own root forward, the first one outermost.
        compute: What it returns is subject to :meth:`CausalLM.forward`.
    """
    if not models:
        return compute()
    return models[0](lambda _: together(models[1:], compute))


def model_device(model: nn.Module) -> torch.device:
    """Returns the device of a model's first parameter."""
    return next(model.parameters()).device
