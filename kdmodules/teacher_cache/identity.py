"""What a cached teacher depends on, in one line each: a teacher's weights, a record's tokens."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from transformers.utils import cached_file

from common.errors import UserError, first_line
from datamodules.batches import EncodedRecord, InstructionBatch, collate
from datamodules.sources import place_of
from kdmodules.models.adapter_files import adapter_folder_of, named_base

_PATTERNS = ("config.json", "adapter_config.json", "*.safetensors", "*.bin", "*.index.json")
_COLLATED_TOGETHER = 64


def source_hash(source: str, adapter_base: str | None = None) -> str:
    """Returns a hash of the weights and configuration behind a source, without a model in memory.

    Unlike :func:`kdmodules.models.weights_hash.weights_hash` it reads files as they are: the same
    weights in other files have another hash, and are then cached once more.

    Args:
        source: A ``save_pretrained`` folder, a folder with a LoRA adapter alone, a checkpoint, a
            GGUF file, or a hub name, also with a revision and a subfolder; what counts is the
            commit.
        adapter_base: Takes the place of the base that an adapter names.

    Raises:
        UserError: If there is no model.
    """
    path = Path(source).expanduser()
    if source.endswith(".ckpt"):
        if not path.is_file():
            raise UserError(f"checkpoint {source} does not exist")
        return file_hash(path)
    if source.endswith(".gguf") and path.is_file():
        return file_hash(path)
    adapter = adapter_folder_of(source)
    base = [] if adapter is None else [source_hash(adapter_base or named_base(adapter))]
    if not path.is_dir():
        named = "config.json" if adapter is None else "adapter_config.json"
        return "+".join([_revision(source, named), *base])
    files = sorted({file for pattern in _PATTERNS for file in path.glob(pattern)})
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.name} {file_hash(file)}\n".encode())
    for hashed in base:
        digest.update(hashed.encode())
    return digest.hexdigest()


def file_hash(path: Path) -> str:
    """Returns a hash of what a file holds."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _revision(source: str, file_name: str) -> str:
    # The hub's cache has a folder for each revision, named by the commit.
    place = place_of(source)
    options = {name: value for name, value in place.options.items() if name != "trust_remote_code"}
    try:
        file = cached_file(place.name, file_name, **options)
    except (OSError, ValueError) as error:
        raise UserError(f"model {source!r} cannot be loaded: {first_line(error)}") from error
    within = Path(str(file)).parent.parts
    if "snapshots" not in within[:-1]:
        raise UserError(f"model {source!r} has no revision to cache it by: give a local folder")
    start = len(within) - within[::-1].index("snapshots")
    return ":".join((f"{place.name}@{within[start]}", *within[start + 1 :]))


def row_hashes(batch: InstructionBatch) -> list[str | None]:
    """Returns a hash of every row's tokens and of which of them are scored.

    A teacher's hidden states at the scored positions depend on nothing else.

    Args:
        batch: B rows.

    Returns:
        B hashes; None for a row without a scored token.
    """
    tokens = batch.input_ids.cpu().numpy().astype("<i4")
    real = batch.attention_mask.cpu().numpy().astype(bool)
    scored = batch.response_mask.cpu().numpy()
    hashes: list[str | None] = []
    for ids, keep, mask in zip(tokens, real, scored, strict=True):
        if not mask.any():
            hashes.append(None)
            continue
        digest = hashlib.sha256(ids[keep].tobytes())
        digest.update(np.packbits(mask[keep]).tobytes())
        hashes.append(digest.hexdigest()[:32])
    return hashes


def distinct_texts(
    records: Sequence[EncodedRecord], pad_id: int
) -> Iterator[tuple[str, EncodedRecord]]:
    """Yields each text once, with its hash: records with the same tokens are one text."""
    seen: set[str] = set()
    for start in range(0, len(records), _COLLATED_TOGETHER):
        part = records[start : start + _COLLATED_TOGETHER]
        for record, text in zip(part, row_hashes(collate(part, pad_id)), strict=True):
            if text is not None and text not in seen:
                seen.add(text)
                yield text, record
