"""Tokenizers: trained on the spot, loaded from a folder or the hub, compared by vocabulary."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from common.errors import UserError, first_line
from common.options import require_at_most
from datamodules.sources import Place, hub_is_there, place_of, require_gguf

END_OF_TEXT = "<|endoftext|>"
SMALLEST_VOCABULARY = 257
"""The 256 bytes and `END_OF_TEXT`: with fewer, some text could not be written."""
_LARGEST_VOCABULARY = 1_000_000

ROUND_TRIP_SENTENCE = "Twice:  does “Café No. 7” open at 8.30 ?\nI don't know ( yet ) ,  she SAID ."
"""Spaces, case, accents, a line break and marks that tokenizers are known to change."""

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model")
"""One of them lies wherever there is a tokenizer."""


def train_tokenizer(texts: Iterable[str], vocabulary_size: int) -> PreTrainedTokenizerFast:
    """Trains a byte-level BPE (Sennrich 2016, on bytes as in GPT-2), the same for the same texts.

    Any text comes back unchanged from its tokens: nothing is normalised and every byte has a token.
    The end of a text and padding share one id on purpose, as in GPT-2, so that masks made from ids
    instead of lengths show up as errors. No token is added at the beginning.

    Args:
        texts: what to train on; only the counts of its words matter, not their order.
        vocabulary_size: number of tokens, `END_OF_TEXT` included; its id is 0.

    Returns:
        The tokenizer, with exactly `vocabulary_size` tokens.

    Raises:
        UserError: if the size is below 257 or above a million, or the texts hold too few repeated
            pieces to reach it.
    """
    if vocabulary_size < SMALLEST_VOCABULARY:
        raise UserError(
            f"vocabulary_size is {vocabulary_size}, but 256 bytes and {END_OF_TEXT} need at least "
            f"{SMALLEST_VOCABULARY}: raise it"
        )
    require_at_most(_LARGEST_VOCABULARY, vocabulary_size=vocabulary_size)
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    reached = bpe.get_vocab_size()
    if reached < vocabulary_size:
        raise UserError(
            f"the texts reach a vocabulary of {reached} tokens, not vocabulary_size="
            f"{vocabulary_size}: give more text or a smaller vocabulary_size"
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        clean_up_tokenization_spaces=False,
    )


def _load(place: Place, *, local_only: bool) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(place.name, local_files_only=local_only, **place.options)


def _load_folder(place: Place) -> PreTrainedTokenizerBase:
    folder = Path(place.name)
    gguf = place.options.get("gguf_file")
    wanted = TOKENIZER_FILES if gguf is None else (str(gguf),)
    if not any((folder / name).is_file() for name in wanted):
        raise UserError(
            f"{folder} holds no tokenizer ({', '.join(wanted)}): "
            "name a folder written by save_pretrained of a tokenizer"
        )
    try:
        return _load(place, local_only=True)
    except Exception as error:  # the Rust reader raises bare Exception on a damaged file
        raise UserError(
            f"the tokenizer in {folder} cannot be read ({first_line(error)})"
        ) from error


def load_tokenizer(name_or_folder: str) -> PreTrainedTokenizerBase:
    """Loads a tokenizer from a `save_pretrained` folder, the hub's cache, or the hub.

    Args:
        name_or_folder: a folder on disk (this wins), else a hub name such as "gpt2", or one with
            a revision and a subfolder, "owner/name@revision:subfolder", or a GGUF file.

    Returns:
        The tokenizer as its files define it; no token is added or changed.

    Raises:
        UserError: in one line, if the folder is missing, holds no readable tokenizer, or the hub
            has none or cannot be reached.
    """
    place = place_of(name_or_folder)
    require_gguf(place)
    if place.is_folder:
        return _load_folder(place)
    if place.looks_like_a_path or Path(name_or_folder).exists():
        raise UserError(f"there is no tokenizer folder {name_or_folder!r}: correct the path")
    try:
        return _load(place, local_only=True)
    except (OSError, ValueError):  # not in the cache: the hub is asked next
        pass
    try:
        return _load(place, local_only=not hub_is_there())
    except (OSError, ValueError) as error:
        raise UserError(
            f"no tokenizer {name_or_folder!r}: there is no such folder, and the hub did not "
            "deliver one by that name (wrong name, no access, or no network)"
        ) from error


def altered_text_warning(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """What a reader must know of a tokenizer that does not give a text back; None of others."""
    encoded = tokenizer(ROUND_TRIP_SENTENCE, add_special_tokens=False, split_special_tokens=True)
    decoded = str(tokenizer.decode(encoded.input_ids))
    if decoded == ROUND_TRIP_SENTENCE:
        return None
    return (
        f"the tokenizer {tokenizer.name_or_path!r} does not give a text back: "
        f"{ROUND_TRIP_SENTENCE!r} became {decoded!r}; what models write is "
        "compared after the same change"
    )


def vocabulary_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """Hashes the map from tokens to ids, added tokens included.

    Two models can be compared token by token if and only if these hashes are equal. Names and
    sizes do not tell: OpenLLaMA and Llama-2 both have 32,000 tokens.

    Args:
        tokenizer: any tokenizer of `transformers`.

    Returns:
        SHA-256, 64 hexadecimal digits, of the pairs in order of id.
    """
    pairs = sorted((index, token) for token, index in tokenizer.get_vocab().items())
    return hashlib.sha256(json.dumps(pairs).encode("ascii")).hexdigest()


def beginning_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Ids that the tokenizer itself puts before a text: one or none.

    Its behaviour decides, not the presence of a `bos_token` (GPT-2 names one and never uses it).

    Args:
        tokenizer: any tokenizer of `transformers`.

    Returns:
        `[bos_token_id]` if an empty text is encoded with it (OPT, LLaMA), else an empty list.
    """
    beginning = tokenizer.bos_token_id
    return [beginning] if beginning is not None and beginning in tokenizer("").input_ids else []


def pad_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id that fills short rows: the pad token's, or the end token's where there is none.

    Args:
        tokenizer: any tokenizer of `transformers`.

    Returns:
        The id.

    Raises:
        UserError: if the tokenizer has neither token.
    """
    for candidate in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if candidate is not None:
            return candidate
    raise UserError(
        f"the tokenizer {tokenizer.name_or_path!r} has neither a pad nor an end token: "
        "set eos_token"
    )


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    """The texts of all special tokens, longest first: of several that fit a text, the longest is
    meant.

    Args:
        tokenizer: any tokenizer of `transformers`.
    """
    added = {str(one) for one in tokenizer.added_tokens_decoder.values() if one.special}
    return tuple(
        sorted(added | set(tokenizer.all_special_tokens), key=lambda one: (-len(one), one))
    )
