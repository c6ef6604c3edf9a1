"""What every way of decoding shares: prompts as batches, a model's state, the end of a response."""

import contextlib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TypeVar

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel

from common.errors import UserError
from datamodules.batches import length_buckets
from datamodules.encoding import EncodedRecord, RecordEncoder
from kdmodules.models.anatomy import context_window
from kdmodules.models.modes import evaluation_mode

Response = TypeVar("Response")


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The token ids that decoding needs to know.

    Attributes:
        size: Valid tokens; rows of the head beyond it are padding and get no probability.
        eos_id: Ends a response.
        pad_id: Fills the left of shorter prompts; may equal `eos_id`.
        other_ends: End a response too.
    """

    size: int
    eos_id: int
    pad_id: int
    other_ends: tuple[int, ...] = ()

    @classmethod
    def of(cls, size: int, encoder: RecordEncoder, *models: PreTrainedModel) -> "Vocabulary":
        """What models and the encoder of their text know.

        A response ends with the tokenizer's end token, with that of the template, and with any that
        a model's own generation configuration names.
        """
        named = [getattr(model.generation_config, "eos_token_id", None) for model in models]
        listed = chain.from_iterable(x if isinstance(x, list | tuple) else [x] for x in named)
        known = [one for one in listed if one is not None and one < size]
        ends = dict.fromkeys([*encoder.end_ids, *known])
        others = tuple(one for one in ends if one != encoder.eos_id)
        return cls(size, encoder.eos_id, encoder.pad_id, others)

    @property
    def ends(self) -> list[int]:
        """All ids that end a response."""
        return [self.eos_id, *self.other_ends]


def left_pad(
    prompts: Sequence[Sequence[int]], pad_id: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return prompts as one tensor that ends at the right edge, and its mask, both int64 [B, T].

    Raises:
        ValueError: If there is no prompt, or an empty one.
    """
    if not prompts or min(map(len, prompts)) == 0:
        raise ValueError("generation needs at least one prompt and at least one token in each")
    width = max(map(len, prompts))
    ids = [[pad_id] * (width - len(prompt)) + list(prompt) for prompt in prompts]
    mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def in_buckets(
    call: Callable[[list[Sequence[int]], list[str]], list[Response]],
    encoded: Sequence[EncodedRecord],
    new_tokens: int,
    pad_id: int,
    device: torch.device,
    batch_size: int,
    max_batch_tokens: int | None = None,
    synced: bool = False,
) -> list[Response]:
    """Calls a function with records in length buckets and puts the results back in order.

    Args:
        call: From prompts and record ids to a result for each.
        encoded: The records; only their prompts are read.
        new_tokens: Tokens that each prompt will grow by.
        pad_id: The padding token.
        device: Where the ranks count their rounds.
        batch_size: Most records in a bucket.
        max_batch_tokens: Most tokens in a bucket, or None.
        synced: All ranks run equally many rounds; a rank that is short of records repeats a bucket,
            or takes one padding token as its prompt, and drops the result.
    """

    def run(bucket: Sequence[EncodedRecord]) -> list[Response]:
        return call([record.prompt_ids for record in bucket], [r.record_id for r in bucket])

    lengths = [len(record.prompt_ids) + new_tokens for record in encoded]
    buckets = length_buckets(lengths, batch_size, max_batch_tokens) if encoded else []
    # The ranks agree on the number of rounds first: inside a round they only step models.
    rounds = largest_of_ranks(len(buckets), device) if synced else len(buckets)
    results: dict[int, Response] = {}
    for bucket in buckets:
        results.update(zip(bucket, run([encoded[index] for index in bucket]), strict=True))
    filler = EncodedRecord("", "", (pad_id,), ())
    spare = [encoded[index] for index in buckets[-1]] if buckets else [filler]
    for _ in range(rounds - len(buckets)):
        run(spare)
    return [results[index] for index in range(len(encoded))]


def largest_of_ranks(number: int, device: torch.device) -> int:
    """Return the largest of all ranks' numbers."""
    most = torch.tensor(number, device=device)
    torch.distributed.all_reduce(most, op=torch.distributed.ReduceOp.MAX)
    return int(most)


@contextlib.contextmanager
def inference_state(model: PreTrainedModel, bfloat16: bool = False) -> Iterator[None]:
    """Put a model in eval mode, without gradients and with empty generation defaults, for a while.

    A checkpoint's own generation defaults would otherwise be merged into every call.

    Args:
        model: The model; each module's own mode and the defaults come back, errors or not.
        bfloat16: Autocast where the device has it.
    """
    defaults = model.generation_config
    kind = model.device.type
    enabled = bfloat16 and (
        kind != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)
    )
    autocast = torch.autocast(kind, dtype=torch.bfloat16, enabled=enabled)
    model.generation_config = GenerationConfig()
    try:
        with evaluation_mode(model), torch.no_grad(), autocast:
            yield
    finally:
        model.generation_config = defaults


def check_window(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    record_ids: Sequence[str],
    max_new_tokens: int,
) -> None:
    """Refuse prompts that leave no room for the new tokens.

    Raises:
        UserError: Naming the first such record.
    """
    window = context_window(model)
    if window is None:
        return
    for prompt, record_id in zip(prompts, record_ids, strict=True):
        if len(prompt) + max_new_tokens > window:
            raise UserError(
                f"record {record_id}: a prompt of {len(prompt)} tokens and max_new_tokens="
                f"{max_new_tokens} exceed the model's window of {window}: lower one of them"
            )


def refuse_not_finite(rows: Tensor, record_ids: Sequence[str]) -> None:
    """Stop when a row met a next-token distribution that is not finite.

    Raises:
        UserError: Naming the first such record.
    """
    failed = rows.nonzero().flatten().tolist()
    if failed:
        raise UserError(
            f"record {record_ids[failed[0]]}: the model's next-token distribution is not finite "
            f"({len(failed)} of {len(record_ids)} records of the batch): its weights have diverged"
        )


def cut_at_end(tokens: Sequence[int], ends: Collection[int]) -> tuple[tuple[int, ...], bool]:
    """Return the tokens up to and including the first that ends a response, and if there was one.

    >>> cut_at_end([7, 2, 2, 2], ends=[2, 5])
    ((7, 2), True)
    """
    for place, token in enumerate(tokens):
        if token in ends:
            return tuple(tokens[: place + 1]), True
    return tuple(tokens), False
