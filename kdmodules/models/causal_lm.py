"""A Hugging Face causal language model behind one forward entry."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from transformers import AutoModelForMaskedLM, Cache, PreTrainedConfig, PreTrainedModel

from common.errors import UserError
from datamodules.batches import InstructionBatch
from kdmodules.models import anatomy
from kdmodules.models.activations import fuse_activations
from kdmodules.models.head import Head
from kdmodules.models.modes import evaluation_mode

Result = TypeVar("Result")


class CausalLM(nn.Module):
    """Wraps a Hugging Face model so that everything enters through one root forward.

    Under fully sharded strategies the parameters of a module are whole only while its forward
    runs: the trunk and the head called apart, or ``generate`` on an inner module, meet sharded
    weights. So a caller hands its whole computation to the root: ``lm(lambda lm:
    lm.head.logits(lm.hidden(batch)))``.

    The model is taken apart as `kdmodules.models.anatomy` finds it, which is compared with its own
    forward on a few tokens. Where they differ, or no parts are found, the model is run as a whole
    and a warning says so: states are then logits, and the head passes them on.

    Args:
        model: A causal language model of transformers. Its activations are fused in place.
        vocabulary_size: Number of valid tokens. Rows of the head beyond it are padding and get no
            probability; tokens beyond the head's rows have none either.

    Raises:
        UserError: The model predicts no next token of a text.

    Attributes:
        stepping: Whether a training step is running; see :meth:`in_step`.
        difference: What keeps the model from being taken apart; None where nothing does.
    """

    def __init__(self, model: PreTrainedModel, vocabulary_size: int) -> None:
        super().__init__()
        head = _require_head(model)
        fuse_activations(model)
        self.model = model
        self.vocabulary_size = min(vocabulary_size, head.weight.shape[0])
        self.stepping = False
        self.difference: str | None = None
        if not any(parameter.is_meta for parameter in model.parameters()):
            self.compare_parts()

    def compare_parts(self) -> None:
        """Compares the model's parts with its own forward and keeps what differs.

        A model whose weights come later, shard by shard, is compared when they are there; that is
        work for all ranks at once.
        """
        self.difference = self(lambda lm: anatomy.differing_part(lm.model, lm.vocabulary_size))
        if self.difference is not None and not (dist.is_initialized() and dist.get_rank()):
            sys.stderr.write(
                f"warning: {self.difference}: it is run by its own forward, with logits at every "
                "token, which takes more time and memory\n"
            )

    def require_parts(self, use: str) -> None:
        """Refuses what needs the model's parts where they are not known.

        Args:
            use: What needs them, for the error.

        Raises:
            UserError: Naming what differs.
        """
        if self.difference is not None:
            raise UserError(
                f"{use} needs a model's trunk, blocks and head one by one, and {self.difference}: "
                "membership and memorization audits run such a model as a whole"
            )

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
    def in_parts(self) -> bool:
        """Whether trunk and head are run one after the other."""
        return self.difference is None

    @property
    def head(self) -> Head:
        """The head of the valid tokens."""
        return self.padded_head.rows(self.vocabulary_size)

    @property
    def padded_head(self) -> Head:
        """The head with its rows of padding.

        For what leaves them out itself: the gradient of a part of a weight is one more copy of it.
        """
        return anatomy.head_of(self.model) if self.in_parts else Head(None)

    def states(
        self, input_ids: Tensor, attention_mask: Tensor, cache: Cache | None = None
    ) -> Tensor:
        """Returns the inputs of the head at every position, [B, T, D].

        Args:
            input_ids: Token ids, [B, T].
            attention_mask: 1 at real tokens, 0 at padding, [B, T]; padding on one side only.
            cache: Empty; takes the keys and values of all T positions.
        """
        return self.run(anatomy.padded_inputs(input_ids, attention_mask), cache)

    def run(self, inputs: Mapping[str, Tensor], cache: Cache | None = None) -> Tensor:
        """Returns the inputs of the head, [B, T, D], for a forward's own arguments.

        Args:
            inputs: Token ids or embeddings and, where there are any, mask and position ids.
            cache: Holds the tokens before these, if any; takes their keys and values.
        """
        given: dict[str, Any] = {**inputs, "use_cache": cache is not None}
        if cache is not None:
            given["past_key_values"] = cache
        if self.in_parts:
            return anatomy.run(self.model, given)
        return anatomy.run(self.model, given, whole=True)[..., : self.vocabulary_size]

    def hidden(self, batch: InstructionBatch, cache: Cache | None = None) -> Tensor:
        """Returns the inputs of the head at the positions that predict the scored targets, [N, D].

        Rows are ordered by record, then by position, as ``batch.targets()`` is.

        Args:
            batch: B records.
            cache: Empty; takes the keys and values of all positions.
        """
        states = self.states(batch.input_ids, batch.attention_mask, cache)
        return states[:, :-1][batch.response_mask[:, 1:]]


def _require_head(model: PreTrainedModel) -> Any:
    """Returns the module that maps hidden states to logits.

    Raises:
        UserError: The model has none, or does not read a text from left to right.
    """
    head = model.get_output_embeddings()
    if getattr(model.config, "is_encoder_decoder", False):
        fault = "is an encoder-decoder model"
    elif head is None:
        fault = "has no head over the vocabulary"
    elif not model.can_generate() or _reads_both_ways(model.config):
        fault = "is an encoder, which does not read a text from left to right"
    else:
        return head
    raise UserError(
        f"{type(model).__name__} {fault}: give a causal language model, such as "
        "AutoModelForCausalLM loads"
    )


def _reads_both_ways(config: PreTrainedConfig) -> bool:
    """Tells whether a model fills blanks, and was not made a decoder by its configuration."""
    fills_blanks = type(config) in AutoModelForMaskedLM._model_mapping
    return fills_blanks and not getattr(config, "is_decoder", False)


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
