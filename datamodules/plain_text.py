"""Plain text for the language-modelling loss: documents and eos, packed into blocks of tokens.

Nothing holds a whole corpus: blocks are read in windows, as training comes to them.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from common.errors import UserError
from common.keys import numpy_generator
from common.options import require_at_least
from datamodules.plain_documents import PlainDocuments

WINDOW_BLOCKS = 20_000
_DOCUMENTS_AT_ONCE = 256

ReadBlocks = Callable[[], Iterator[np.ndarray]]
"""Begins a corpus anew: yields its blocks in order, [some, block_tokens] int32 at a time."""


class PlainTextBlocks:
    """Blocks of a corpus in an endless keyed order, none twice before all have come once.

    The corpus is cut into windows of consecutive blocks. A pass serves window after window, each in
    a keyed order of its own, and the next pass begins at the first window again. So block number p
    of the endless order is a pure function of the corpus, the seed and p: a resumed run needs no
    state, and ranks can each take their share of the same draw. A corpus of one window is shuffled
    whole; of a longer one, two seeds order the blocks of a window differently, not the windows.

    One window is held at a time. Going back, as a resume does in a corpus of several, reads the
    text again from its beginning.

    Args:
        read: reads the corpus.
        seed: of the order.
        window_blocks: blocks of a window, all of them in memory: of 512 tokens, 2 KiB each.
    """

    def __init__(self, read: ReadBlocks, seed: int = 0, window_blocks: int = WINDOW_BLOCKS) -> None:
        self._windows = _Windows(read, window_blocks)
        self._seed = seed
        self._number = -1
        self._order = np.empty(0, np.int64)

    @property
    def distinct(self) -> int | None:
        """Blocks of the corpus; None while its end has not been seen."""
        return self._windows.total

    def blocks(self, step: int, n: int) -> Tensor:
        """Draws the blocks of a step.

        Args:
            step: number of the step, from 0; every step draws the same `n`.
            n: blocks of a step, over all ranks.

        Returns:
            [n, block_tokens] int64.
        """
        rows = [self._row(place) for place in range(step * n, (step + 1) * n)]
        return torch.from_numpy(np.stack(rows)).long()

    def _row(self, place: int) -> np.ndarray:
        total = self._windows.total
        number_of_pass, offset = (0, place) if total is None else divmod(place, total)
        index, row = divmod(offset, self._windows.size)
        window = self._windows.window(index)
        if row >= len(window):
            return self._row(place)  # the corpus has just ended: now its length is known
        windows = 0 if number_of_pass == 0 else -(-(total or 0) // self._windows.size)
        return window[self._order_of(number_of_pass * windows + index, len(window))[row]]

    def _order_of(self, number: int, size: int) -> np.ndarray:
        """Order of the blocks of a window; windows are numbered over all passes."""
        if number != self._number:
            generator = numpy_generator(self._seed, "plain text", number)
            self._number, self._order = number, generator.permutation(size)
        return self._order


class _Windows:
    """Windows of a corpus in its own order, read forward, and from its beginning if need be.

    Attributes:
        size: blocks of every window but the last.
        total: blocks of the corpus, once its end has been seen.
    """

    def __init__(self, read: ReadBlocks, size: int) -> None:
        require_at_least(1, window_blocks=size)
        self.size = size
        self.total: int | None = None
        self._read = read
        self._rows = _rows(read())
        self._index = -1
        self._held = np.empty((0, 0), np.int32)

    def window(self, index: int) -> np.ndarray:
        """[<= size, block_tokens] blocks of a window; none beyond the end of the corpus."""
        if index < self._index:
            self._rows, self._index = _rows(self._read()), -1
        while self._index < index:
            found = list(islice(self._rows, self.size))
            if len(found) < self.size and self.total is None:
                self.total = (self._index + 1) * self.size + len(found)
            if not found:
                return self._held[:0]
            self._index, self._held = self._index + 1, np.stack(found)
        return self._held


def _rows(some: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    for blocks in some:
        yield from blocks


def read_plain_text(
    documents: PlainDocuments,
    tokenizer: PreTrainedTokenizerBase,
    *,
    block_tokens: int = 512,
    max_blocks: int | None = None,
    window_blocks: int = WINDOW_BLOCKS,
    seed: int = 0,
) -> PlainTextBlocks:
    """Opens a corpus: its first window is read at once, so that faults show before training.

    Args:
        documents: the text.
        tokenizer: of the model; its beginning token is not used.
        block_tokens: tokens of a block.
        max_blocks: the corpus is the text's first so many blocks; None takes all there are.
        window_blocks: blocks that are held and shuffled together.
        seed: of the order of blocks.

    Returns:
        The blocks.

    Raises:
        UserError: as `packed_blocks`; a window without room.
    """

    def read() -> Iterator[np.ndarray]:
        return packed_blocks(documents, tokenizer, block_tokens, max_blocks)

    corpus = PlainTextBlocks(read, seed, window_blocks)
    corpus.blocks(0, 1)
    return corpus


def packed_blocks(
    documents: PlainDocuments,
    tokenizer: PreTrainedTokenizerBase,
    block_tokens: int,
    max_blocks: int | None,
) -> Iterator[np.ndarray]:
    """Puts eos after each document and packs all into blocks; an unfilled one is left out.

    Args:
        documents: the text.
        tokenizer: of the model; its beginning token is not used.
        block_tokens: tokens of a block.
        max_blocks: stops after so many; None goes on to the end.

    Yields:
        [some, block_tokens] int32, at least one block at a time.

    Raises:
        UserError: a missing or wrongly encoded file, an unknown data set or column, a tokenizer
            without eos, less text than one block.
    """
    require_at_least(1, block_tokens=block_tokens)
    if max_blocks is not None:
        require_at_least(1, max_blocks=max_blocks)
    if tokenizer.eos_token_id is None:
        raise UserError(f"tokenizer {tokenizer.name_or_path!r} has no eos token to end documents")
    rest, packed = np.empty(0, np.int32), 0
    for some in _grouped(documents.read(), _DOCUMENTS_AT_ONCE):
        encoded = tokenizer(some, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        pieces = [np.array([*ids, tokenizer.eos_token_id], np.int32) for ids in encoded]
        rest = np.concatenate([rest, *pieces])
        n = len(rest) // block_tokens
        n = n if max_blocks is None else min(n, max_blocks - packed)
        if n > 0:
            yield rest[: n * block_tokens].reshape(n, block_tokens)
        rest, packed = rest[n * block_tokens :], packed + n
        if packed == max_blocks:
            return
    if packed == 0:
        raise UserError(
            f"{', '.join(documents.sources)}: {len(rest)} tokens, fewer than one block of "
            f"{block_tokens}; give more text or a smaller block_tokens"
        )


def _grouped(texts: Iterable[str], size: int) -> Iterator[list[str]]:
    remaining = iter(texts)
    while group := list(islice(remaining, size)):
        yield group
