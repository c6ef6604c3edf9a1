"""Filling blanks in a text with a masked language model, all blanks of a window at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from transformers import AutoModelForMaskedLM, PreTrainedModel, PreTrainedTokenizerBase

from common.errors import UserError
from common.keys import key
from datamodules.batches import length_buckets
from datamodules.sources import place_of
from datamodules.tokenizer import load_tokenizer
from kdmodules.models.strict_loading import require_names
from kdmodules.sampling.keyed_choice import keyed_choice

_BATCH_SIZE = 64
_BATCH_TOKENS = 8192
_POSITIONS_NEVER_USED = 2  # RoBERTa numbers its positions from 2; BERT could use them


@dataclass(frozen=True)
class _Window:
    """One stretch of a text: its text, its place there, its ids, and the places to fill."""

    text: int
    start: int
    ids: list[int]
    blanks: list[int]


@dataclass(frozen=True)
class MaskedLM:
    """A masked language model and its tokenizer.

    Attributes:
        model: In evaluation mode.
        tokenizer: With a mask token.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase

    def tokens(self, texts: Sequence[str]) -> list[tuple[list[int], list[tuple[int, int]]]]:
        """Returns each text's token ids and their places in characters, without special tokens."""
        found = self.tokenizer(
            list(texts),
            add_special_tokens=False,
            split_special_tokens=True,
            return_offsets_mapping=True,
        )
        return list(zip(found["input_ids"], found["offset_mapping"], strict=True))

    def text(self, ids: Sequence[int]) -> str:
        """Returns what some tokens read as, without white space around it."""
        return str(self.tokenizer.decode(list(ids))).strip()

    @torch.no_grad()
    def fill(
        self, ids: Sequence[list[int]], blanks: Sequence[list[int]], keys: Sequence[int]
    ) -> list[list[int]]:
        """Draws a token for every blank, given all that is not blank, never the token that was.

        A text longer than the model's window is cut into windows, each filled on its own.

        Args:
            ids: Token ids of each text.
            blanks: Places to fill in each text, ascending.
            keys: What each text's draws depend on.

        Returns:
            The texts' ids with the blanks filled.

        Raises:
            FloatingPointError: If the model's output is not a number.
        """
        filled = [list(one) for one in ids]
        windows = [
            window for text, one in enumerate(ids) for window in self._windows(text, one, blanks)
        ]
        extra = len(self._head) + len(self._tail)
        lengths = [len(window.ids) + extra for window in windows]
        for bucket in length_buckets(lengths, _BATCH_SIZE, _BATCH_TOKENS):
            batch = [windows[index] for index in bucket]
            drawn = iter(self._draw(batch, keys))
            for window in batch:
                for place in window.blanks:
                    filled[window.text][window.start + place] = next(drawn)
        return filled

    @property
    def _head(self) -> list[int]:
        first = self.tokenizer.cls_token_id
        return [] if first is None else [first]

    @property
    def _tail(self) -> list[int]:
        last = self.tokenizer.sep_token_id
        return [] if last is None else [last]

    def _windows(self, text: int, ids: list[int], blanks: Sequence[list[int]]) -> list[_Window]:
        positions = self.model.config.max_position_embeddings - _POSITIONS_NEVER_USED
        room = positions - len(self._head) - len(self._tail)
        windows = []
        for start in range(0, len(ids), room):
            inside = [place - start for place in blanks[text] if start <= place < start + room]
            if inside:
                windows.append(_Window(text, start, ids[start : start + room], inside))
        return windows

    def _draw(self, batch: Sequence[_Window], keys: Sequence[int]) -> list[int]:
        """Returns the drawn tokens of all blanks of some windows, window by window."""
        device = self.model.device
        rows: list[list[int]] = []
        places: list[tuple[int, int]] = []
        true: list[int] = []
        draws: list[int] = []
        for window in batch:
            content = list(window.ids)
            for place in window.blanks:
                places.append((len(rows), len(self._head) + place))
                true.append(content[place])
                draws.append(key(keys[window.text], window.start + place))
                content[place] = self.tokenizer.mask_token_id
            rows.append([*self._head, *content, *self._tail])
        width = max(map(len, rows))
        padded = torch.tensor([row + [0] * (width - len(row)) for row in rows], device=device)
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
        logits = self.model(input_ids=padded, attention_mask=mask.to(device)).logits
        row, column = torch.tensor(places, device=device).T
        scores = logits[row, column].float().cpu()  # [blanks, V]
        scores = self._allowed(scores, torch.tensor(true))
        chosen = keyed_choice(scores, torch.tensor(draws), stream=0)
        if bool((chosen < 0).any()):
            raise FloatingPointError("the masked language model's output is not a number")
        return chosen.tolist()

    def _allowed(self, scores: Tensor, true: Tensor) -> Tensor:
        """The scores [blanks, V] with special tokens, padding rows and true tokens ruled out."""
        scores[:, self.tokenizer.all_special_ids] = -torch.inf
        scores[:, len(self.tokenizer) :] = -torch.inf
        return scores.scatter(1, true[:, None], -torch.inf)


@lru_cache(maxsize=1)
def load_masked_lm(source: str, device: torch.device) -> MaskedLM:
    """Loads a masked language model, once for all its uses in a row.

    Args:
        source: Hub name or ``save_pretrained`` folder.
        device: Where it runs.

    Raises:
        UserError: If there is no such model there, or its tokenizer has no mask.
    """
    tokenizer = load_tokenizer(source)
    if tokenizer.mask_token_id is None:
        raise UserError(f"{source}: its tokenizer has no mask token; name a masked language model")
    place = place_of(source)
    try:
        model, found = AutoModelForMaskedLM.from_pretrained(
            place.name,
            dtype=torch.float32,
            use_safetensors=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **place.options,
        )
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"masked language model {source!r} cannot be loaded: {reason}") from error
    # Encoders are stored with the other heads of their pre-training, which no mask is filled by.
    what = f"masked language model {source!r}"
    require_names(what, found["missing_keys"], (), found["mismatched_keys"])
    return MaskedLM(model.eval().to(device), tokenizer)
