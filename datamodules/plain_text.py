"""Plain text for the language-modelling loss: documents and eos, packed into blocks of tokens."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Literal

import datasets
import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from datamodules.errors import UserError
from datamodules.keys import numpy_generator
from datamodules.record_files import decode_lines
from datamodules.synthetic import BUILTIN, generate_documents

DocumentEnd = Literal["blank_line", "line", "file"]
_DOCUMENTS_AT_ONCE = 256


class PlainTextBlocks:
    """Blocks of a corpus in an endless keyed order.

    Block number p of the endless order is block `order(p // n)[p % n]` of the n there are, with a
    new keyed permutation for each pass, so that a step's blocks are a pure function of its number:
    a resumed run needs no state, and ranks can each take their share of the same draw.

    Args:
        blocks: [n, block_tokens] int32 or int64 token ids.
        seed: of the order.
    """

    def __init__(self, blocks: Tensor, seed: int = 0) -> None:
        if blocks.dim() != 2 or not len(blocks):
            raise ValueError(f"blocks must be [n >= 1, block_tokens], found {list(blocks.shape)}")
        self._blocks = blocks
        self._seed = seed
        self._pass = -1
        self._order = np.empty(0, np.int64)

    def __len__(self) -> int:
        """Distinct blocks."""
        return len(self._blocks)

    def blocks(self, step: int, n: int) -> Tensor:
        """Draws the blocks of a step.

        Args:
            step: number of the step, from 0; every step draws the same `n`.
            n: blocks of a step, over all ranks.

        Returns:
            [n, block_tokens] int64.
        """
        places = range(step * n, (step + 1) * n)
        rows = [int(self._order_of(p // len(self))[p % len(self)]) for p in places]
        return self._blocks[rows].long()

    def _order_of(self, number: int) -> np.ndarray:
        if number != self._pass:
            generator = numpy_generator(self._seed, "plain text", number)
            self._pass, self._order = number, generator.permutation(len(self))
        return self._order


def read_plain_text(
    sources: str | list[str],
    tokenizer: PreTrainedTokenizerBase,
    *,
    block_tokens: int = 512,
    max_blocks: int | None = None,
    documents: DocumentEnd = "blank_line",
    hub_split: str = "train",
    text_field: str = "text",
    seed: int = 0,
) -> PlainTextBlocks:
    """Reads documents, puts eos after each and packs all into blocks; an unfilled one is left out.

    Args:
        sources: UTF-8 text files, a hub name, or "builtin" for endless passages like those of the
            built-in corpus.
        tokenizer: of the model; its beginning token is not used.
        block_tokens: tokens of a block.
        max_blocks: stop reading once there are so many; a hub data set is streamed then.
        documents: what ends a document in a text file: an empty line, every line, the file's end.
        hub_split: split of a hub data set.
        text_field: text column of a hub data set.
        seed: of the order of blocks.

    Returns:
        The blocks.

    Raises:
        UserError: a missing or wrongly encoded file, an unknown data set or column, a tokenizer
            without eos, less text than one block, endless text without `max_blocks`.
    """
    names = [sources] if isinstance(sources, str) else sources
    if block_tokens < 1 or (max_blocks is not None and max_blocks < 1):
        raise UserError(
            f"block_tokens and max_blocks must be at least 1, found {block_tokens} and {max_blocks}"
        )
    if tokenizer.eos_token_id is None:
        raise UserError(f"tokenizer {tokenizer.name_or_path!r} has no eos token to end documents")

    if BUILTIN in names and max_blocks is None:
        raise UserError("the built-in plain text has no end: give plain_text.max_blocks")

    def texts() -> Iterator[str]:
        for name in names:
            if name == BUILTIN:
                yield from generate_documents(seed)
            elif Path(name).suffix or Path(name).exists():
                yield from _file_documents(name, documents)
            else:
                yield from _hub_documents(name, hub_split, text_field, max_blocks is not None)

    wanted = None if max_blocks is None else max_blocks * block_tokens
    ids = _packed(texts(), tokenizer, wanted)
    n_blocks = len(ids) // block_tokens
    if n_blocks == 0:
        raise UserError(
            f"{', '.join(names)}: {len(ids)} tokens, fewer than one block of {block_tokens}; give "
            "more text or a smaller block_tokens"
        )
    packed = torch.from_numpy(ids[: n_blocks * block_tokens])
    return PlainTextBlocks(packed.view(n_blocks, block_tokens), seed)


def _packed(
    texts: Iterable[str], tokenizer: PreTrainedTokenizerBase, wanted: int | None
) -> np.ndarray:
    """[n] int32 ids of all documents, each with its eos; n <= `wanted`."""
    pieces: list[np.ndarray] = []
    total = 0
    for some in _grouped(texts, _DOCUMENTS_AT_ONCE):
        for ids in tokenizer(some, add_special_tokens=False, split_special_tokens=True)[
            "input_ids"
        ]:
            pieces.append(np.array([*ids, tokenizer.eos_token_id], np.int32))
            total += len(pieces[-1])
        if wanted is not None and total >= wanted:
            break
    return np.concatenate(pieces or [np.empty(0, np.int32)])[:wanted]


def _grouped(texts: Iterable[str], size: int) -> Iterator[list[str]]:
    group: list[str] = []
    for text in texts:
        group.append(text)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


def _file_documents(name: str, documents: DocumentEnd) -> Iterator[str]:
    try:
        content = Path(name).expanduser().read_bytes()
    except OSError as error:
        raise UserError(f"{name}: cannot be read: {error.strerror}") from error
    lines = decode_lines(content, name)
    ends: dict[DocumentEnd, Callable[[str], bool]] = {
        "blank_line": lambda line: not line.strip(),
        "line": lambda line: True,
        "file": lambda line: False,
    }
    document: list[str] = []
    for line in [*lines, ""]:
        document.append(line)
        if ends[documents](line) or line == "":
            text = "".join(document).strip()
            if text:
                yield text
            document = []


def _hub_documents(name: str, split: str, text_field: str, streaming: bool) -> Iterator[str]:
    try:
        rows = datasets.load_dataset(name, split=split, streaming=streaming)
    except Exception as error:  # the hub client has no common base class of its own for its faults
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"{name}: neither a file here nor a data set of the hub: {reason}"
        ) from error
    for row in rows:
        if text_field not in row:
            raise UserError(f"{name}: no column {text_field!r}; it has {', '.join(row)}")
        yield row[text_field]
