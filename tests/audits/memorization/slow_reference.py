"""Greedy text as anyone would generate it: whole logits, no cache, token by token."""

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from audits.scoring.model_access import ModelAccess
from datamodules.encoding import EncodedRecord


def next_logits(model: PreTrainedModel, rows: Sequence[Sequence[int]], size: int) -> torch.Tensor:
    """Next-token logits of rows of equal length, [B, size]."""
    with torch.no_grad():
        ids = torch.tensor([list(row) for row in rows])
        return model(input_ids=ids, use_cache=False, logits_to_keep=1).logits[:, -1, :size]


def greedy_texts(
    access: ModelAccess, starts: Sequence[Sequence[int]], tokens: Sequence[int]
) -> list[list[int]]:
    """Continues every start by up to so many tokens, eos included; equal lengths go together."""
    model, size = access.lm.model, access.lm.vocabulary_size
    texts: list[list[int]] = [[] for _ in starts]
    for length in {len(start) for start in starts}:
        group = [row for row, start in enumerate(starts) if len(start) == length]
        open_rows = [row for row in group if tokens[row] > 0]
        while open_rows:
            given = [[*starts[row], *texts[row]] for row in open_rows]
            best = next_logits(model, given, size).argmax(dim=-1).tolist()
            for row, token in zip(open_rows, best, strict=True):
                texts[row].append(token)
            open_rows = [
                row
                for row in open_rows
                if texts[row][-1] != access.encoder.eos_id and len(texts[row]) < tokens[row]
            ]
    return texts


def half_learnt_records(
    access: ModelAccess, n: int, longest: int, seed: int
) -> list[EncodedRecord]:
    """Records whose responses follow the model's own choice except for a token here and there.

    Lengths run from 1 to `longest`; a response ends in eos where the model ends it, and about half
    of the others are cut.
    """
    draw = torch.Generator().manual_seed(seed)
    model, size, eos_id = access.lm.model, access.lm.vocabulary_size, access.encoder.eos_id
    starts = [torch.randint(size, (3 + row % 4,), generator=draw).tolist() for row in range(n)]
    lengths = torch.randint(1, longest + 1, (n,), generator=draw).tolist()
    faults = (torch.rand(n, longest, generator=draw) < 0.06).tolist()
    others = torch.randint(size, (n, longest), generator=draw).tolist()
    texts: list[list[int]] = [[] for _ in starts]
    for step in range(longest):
        for width in range(3, 7):
            rows = [
                row
                for row in range(n)
                if len(starts[row]) == width and step < lengths[row] and eos_id not in texts[row]
            ]
            if not rows:
                continue
            given = [[*starts[row], *texts[row]] for row in rows]
            best = next_logits(model, given, size).argmax(dim=-1).tolist()
            for row, token in zip(rows, best, strict=True):
                fault = faults[row][step] and others[row][step] != eos_id
                texts[row].append(others[row][step] if fault else token)
    records = []
    for row, text in enumerate(texts):
        cut = text[-1] != eos_id and row % 2 == 0
        ids = text if cut or text[-1] == eos_id else [*text, eos_id]
        records.append(
            EncodedRecord(f"r{row}", "open_qa", tuple(starts[row]), tuple(ids), False, cut)
        )
    return records


def with_frequent_end(access: ModelAccess) -> ModelAccess:
    """Makes a token that the model often writes its end of text, so that many texts end early."""
    draw = torch.Generator().manual_seed(11)
    size = access.lm.vocabulary_size
    starts = torch.randint(size, (24, 5), generator=draw).tolist()
    seen = [token for text in greedy_texts(access, starts, [12] * 24) for token in text[3:]]
    access.encoder.eos_id = max(set(seen), key=lambda token: (seen.count(token), token))
    return access
