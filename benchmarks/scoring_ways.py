"""Ways to score the same records with the loss, zlib, min_k and min_k_plus_plus attacks.

The two ways of others are written anew from what their code does with a forward pass, a record and
a token; they compute the same four scores as ours, so that every timing is of the same result.
"""

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import linear

from audits.membership.attacks import (
    DCPDD,
    EZ,
    WBC,
    Attack,
    LiRA,
    Loss,
    MinK,
    MinKPlusPlus,
    Reference,
    TopKLoss,
    Zlib,
)
from audits.membership.frequencies import TokenFrequencies
from audits.membership.measurements import Scored
from audits.membership.view import AuditView
from audits.scoring.statistics_file import StatisticsFile
from audits.scoring.token_statistics import TokenStatistics
from datamodules.batches import EncodedRecord, InstructionBatch, collate
from datamodules.records import InstructionRecord
from kdmodules.models.causal_lm import CausalLM
from kdmodules.scoring import token_statistics

Scores = dict[str, Tensor]
PROMPT_WIDTH = RESPONSE_WIDTH = 256


@dataclass(frozen=True)
class Workload:
    """Records, their tokens, and length-sorted batches of them.

    Attributes:
        records: the records.
        encoded: their tokens, in the same order.
        batches: all of them in batches of similar length, longest first.
        pad_id: token id that fills padding.
    """

    records: list[InstructionRecord]
    encoded: list[EncodedRecord]
    batches: list[InstructionBatch]
    pad_id: int


def floor(lm: CausalLM, work: Workload, chunk_tokens: int = 128) -> None:
    """The least a forward pass can do: the trunk once, the head on response positions only."""
    for batch in work.batches:
        for hidden in lm.hidden(batch).split(chunk_tokens):
            linear(hidden, _weight(lm))


def _weight(lm: CausalLM) -> Tensor:
    """The weight of the head, whose product every way forms."""
    weight = lm.head.weight
    if weight is None:
        raise TypeError("the benchmark's models have a head")
    return weight


def tiled_floor(lm: CausalLM, work: Workload, tokens: int = 512, width: int = 1024) -> None:
    """The same products in tiles of our size, each overwriting the last: a lower floor."""
    tile = torch.empty(tokens * width)
    for batch in work.batches:
        for hidden in lm.hidden(batch).split(tokens):
            for rows in _weight(lm).split(width):
                n, v = hidden.shape[0], rows.shape[0]
                torch.mm(hidden, rows.t(), out=tile[: n * v].view(n, v))


def all_logits(lm: CausalLM, work: Workload) -> None:
    """A bare forward pass with the head on every position, on the same batches."""
    for batch in work.batches:
        lm.model(input_ids=batch.input_ids, use_cache=False)


def _statistics(lm: CausalLM, work: Workload, outside_top: bool = False) -> TokenStatistics:
    places = {record.id: place for place, record in enumerate(work.records)}
    tables = (
        TokenStatistics.from_batch(
            batch.record_ids,
            batch.response_mask.sum(dim=1),
            token_statistics(lm.hidden(batch), lm.head, batch.targets(), outside_top=outside_top),
            token_ids=batch.targets(),
        )
        for batch in work.batches
    )
    batches = (([places[name] for name in table.record_ids], table) for table in tables)
    return StatisticsFile.of_batches(list(places), batches).read()


def ours(lm: CausalLM, work: Workload) -> Scores:
    """One pass, four attacks."""
    view = AuditView(work.records, {Scored(): _statistics(lm, work)})
    attacks: list[Attack] = [Loss(), Zlib(), MinK(), MinKPlusPlus()]
    return {attack.name: attack.score(view) for attack in attacks}


def ours_as_a_whole(lm: CausalLM, work: Workload) -> Scores:
    """The same of a model whose parts are not known: its own forward, logits at every token."""
    lm.difference = "measured as a whole"
    try:
        return ours(lm, work)
    finally:
        lm.difference = None


def ours_with_reference(lm: CausalLM, reference: CausalLM, work: Workload) -> Scores:
    """One pass of each model, every attack on log-probabilities of the records' own text."""
    return _with_reference(lm, reference, work, [])


def ours_by_access(lm: CausalLM, reference: CausalLM, work: Workload) -> Scores:
    """The same passes, with what an interface tells of its likeliest tokens."""
    return _with_reference(lm, reference, work, [TopKLoss(5), TopKLoss(20), EZ(), WBC()])


def _with_reference(
    lm: CausalLM, reference: CausalLM, work: Workload, further: Sequence[Attack]
) -> Scores:
    passes = {
        Scored(): _statistics(lm, work, outside_top=bool(further)),
        Scored(model="base"): _statistics(reference, work),
    }
    attacks: list[Attack] = [
        *(Loss(), Zlib(), MinK(), MinKPlusPlus(), DCPDD(), Reference(), LiRA(["base"])),
        *further,
    ]
    uniform = torch.full((lm.vocabulary_size,), -math.log(lm.vocabulary_size)).double()
    corpora = {one for one in DCPDD().requires if isinstance(one, TokenFrequencies)}
    view = AuditView(work.records, passes, frequencies=dict.fromkeys(corpora, uniform))
    return {attack.name: attack.score(view) for attack in attacks}


def _min_k(values: list[float], k: float = 0.2) -> float:
    lowest = sorted(values)[: max(1, math.ceil(k * len(values)))]
    return sum(lowest) / len(lowest)


def _standardised(row: Tensor, token: int) -> float:
    """The Min-K%++ value of one token from its whole distribution, [V] log-probabilities."""
    probabilities = row.exp()
    mean = (probabilities * row).sum()
    sigma = (probabilities * (row - mean).square()).sum().sqrt()
    return ((row[token] - mean) / sigma).item()


def one_document_at_a_time(lm: CausalLM, work: Workload, chosen: Sequence[int]) -> Scores:
    """A document-level tool's way, such as mimir's (Duan et al. 2024, arXiv 2402.07841).

    Per document one forward pass as ``get_probabilities`` of its ``mimir/models.py`` does it: the
    model is given labels, so that it works out a loss of all positions too, which nobody reads;
    then softmax and log-softmax of all positions, the moments of Min-K%++ over all of them, and a
    Python loop over a tensor of tokens. What belongs to the response is kept.
    """
    columns: dict[str, list[float]] = {"loss": [], "zlib": [], "min_k": [], "min_k_plus_plus": []}
    for index in chosen:
        item = work.encoded[index]
        ids = torch.tensor([item.prompt_ids + item.response_ids])
        logits = lm.model(input_ids=ids, labels=ids.clone()).logits[0, :-1].contiguous()
        logp, probabilities = torch.log_softmax(logits, dim=-1), torch.softmax(logits, dim=-1)
        mean = (probabilities * logp).sum(dim=-1)
        sigma = ((probabilities * logp.square()).sum(dim=-1) - mean.square()).sqrt()
        values = []
        for place, token in enumerate(ids[0, 1:]):
            if token != -100:
                values.append(logp[place, token].item())
        scaled = (torch.tensor(values) - mean) / sigma
        standardised: list[float] = scaled.tolist()
        first = len(item.prompt_ids) - 1
        values, standardised = values[first:], standardised[first:]
        loss = sum(values) / len(values)
        columns["loss"].append(loss)
        columns["zlib"].append(loss / len(zlib.compress(work.records[index].response.encode())))
        columns["min_k"].append(_min_k(values))
        columns["min_k_plus_plus"].append(_min_k(standardised))
    return {name: torch.tensor(column, dtype=torch.float64) for name, column in columns.items()}


def one_forward_per_attack(
    lm: CausalLM, work: Workload, chosen: Sequence[int], batch_size: int = 8
) -> Scores:
    """The published way: prompts padded on the left to 256 tokens, responses on the right to 256.

    Each attack runs the model again on every batch, takes the log-softmax of all logits and walks
    over tokens in Python.
    """
    columns: dict[str, list[float]] = {"loss": [], "zlib": [], "min_k": [], "min_k_plus_plus": []}
    for start in range(0, len(chosen), batch_size):
        rows = chosen[start : start + batch_size]
        batch = fixed_width([work.encoded[index] for index in rows], work.pad_id)
        for name, column in columns.items():
            for index, values in zip(rows, _walk(lm, batch, name), strict=True):
                column.append(_aggregate(name, values, work.records[index]))
    return {name: torch.tensor(column, dtype=torch.float64) for name, column in columns.items()}


def fixed_width(encoded: Sequence[EncodedRecord], pad_id: int) -> InstructionBatch:
    """Pads each prompt on the left to 256 tokens and each response on the right to 256."""
    prompts = [EncodedRecord("", "", e.prompt_ids, (), False, False) for e in encoded]
    responses = [EncodedRecord("", "", (), e.response_ids, False, False) for e in encoded]
    widest = EncodedRecord("", "", (pad_id,) * PROMPT_WIDTH, (), False, False)
    longest = EncodedRecord("", "", (), (pad_id,) * RESPONSE_WIDTH, False, False)
    left = collate([*prompts, widest], pad_id, padding_side="left")
    right = collate([*responses, longest], pad_id)
    return InstructionBatch(
        input_ids=torch.cat([left.input_ids[:-1], right.input_ids[:-1]], dim=1),
        attention_mask=torch.cat([left.attention_mask[:-1], right.attention_mask[:-1]], dim=1),
        response_mask=torch.cat([left.response_mask[:-1], right.response_mask[:-1]], dim=1),
        record_ids=[e.record_id for e in encoded],
        tasks=[e.task for e in encoded],
    )


def _walk(lm: CausalLM, batch: InstructionBatch, name: str) -> list[list[float]]:
    """Per record the values that one attack averages, from a forward pass of its own."""
    logits = lm.model(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        position_ids=(batch.attention_mask.cumsum(dim=1) - 1).clamp(min=0),
        use_cache=False,
    ).logits
    logp = torch.log_softmax(logits, dim=-1)
    found: list[list[float]] = []
    for row in range(batch.input_ids.shape[0]):
        values: list[float] = []
        for place in range(1, batch.input_ids.shape[1]):
            if not batch.response_mask[row, place]:
                continue
            token = int(batch.input_ids[row, place])
            if name == "min_k_plus_plus":
                values.append(_standardised(logp[row, place - 1], token))
            else:
                values.append(logp[row, place - 1, token].item())
        found.append(values)
    return found


def _aggregate(name: str, values: list[float], record: InstructionRecord) -> float:
    if name.startswith("min_k"):
        return _min_k(values)
    mean = sum(values) / len(values)
    return mean / len(zlib.compress(record.response.encode())) if name == "zlib" else mean
