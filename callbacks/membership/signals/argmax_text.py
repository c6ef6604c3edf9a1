"""The text that a model would write token by token after a record's own tokens."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from callbacks.membership.signals.base import ModelAccess, RecordSignal
from datamodules.batches import EncodedRecord, collate, length_buckets
from datamodules.records import InstructionRecord
from kdmodules.causal_lm import CausalLM, model_device

_CHUNK_TOKENS = 128


@dataclass(frozen=True)
class CompressedArgmaxText(RecordSignal):
    """Bytes of the zlib-compressed text of the most likely tokens, teacher-forced, [B, 1]."""

    @property
    def label(self) -> str:
        """The signal's name."""
        return "audited: compressed argmax text"

    @property
    def passes(self) -> float:
        """One."""
        return 1.0

    def measure(
        self,
        access: ModelAccess,
        records: Sequence[InstructionRecord],
        encoded: Sequence[EncodedRecord],
    ) -> Tensor:
        """Returns the number of bytes, [B, 1] float64."""
        lengths = [len(record) for record in encoded]
        buckets = length_buckets(lengths, access.batch_size, access.max_batch_tokens)
        mine = access.ranks.share(buckets)
        found: list[list[tuple[int, int]]] = []
        with access.progress(self.label, len(mine)) as advance:
            for bucket in mine:
                sizes = _compressed_sizes(access, [encoded[index] for index in bucket])
                found.append(list(zip(bucket, sizes, strict=True)))
                advance()
        sizes_of = dict(pair for part in access.ranks.gather(found) for pair in part)
        ordered = [sizes_of[index] for index in range(len(encoded))]
        return torch.tensor(ordered, dtype=torch.float64).unsqueeze(1)


def _compressed_sizes(access: ModelAccess, encoded: Sequence[EncodedRecord]) -> list[int]:
    batch = collate(encoded, access.encoder.pad_id).to(model_device(access.lm))

    def best_tokens(lm: CausalLM) -> Tensor:
        weight = lm.head_weight[: lm.vocabulary_size]
        chunks = lm.hidden(batch).split(_CHUNK_TOKENS)
        return torch.cat([(chunk @ weight.T).argmax(dim=-1) for chunk in chunks])

    counts = batch.response_mask.sum(dim=1).tolist()
    rows = access.lm(best_tokens).cpu().split(counts)
    texts = access.encoder.tokenizer.batch_decode(
        [row.tolist() for row in rows], skip_special_tokens=True
    )
    return [len(zlib.compress(text.encode("utf-8"))) for text in texts]
