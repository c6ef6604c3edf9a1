"""The utility audit: what the model is still good for, beside what it gives away."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Literal

import numpy as np
import torch

from audits.context import AuditContext, Measurements
from audits.rows import ResultRow, bounds, told_tasks
from audits.scoring.divergence import divergences
from audits.scoring.segments import segment_sum
from audits.statistics.means import UtilityEstimate, ratio_interval, rows_of
from audits.utility.generations import Figure, Generations
from audits.utility.perplexity import perplexity
from datamodules.batches import EncodedRecord
from datamodules.records import InstructionRecord
from kdmodules.models.anatomy import context_window
from kdmodules.models.causal_lm import CausalLM
from kdmodules.sampling.generation_batches import Vocabulary
from kdmodules.sampling.keyed_choice import RandomScope
from kdmodules.sampling.sampler import GeneratedResponse, SamplingSettings, generate_responses

_CURVES = (
    *("perplexity", "teacher_kl", "rouge_l_f1", "rouge_l_f1_sampled", "distinct_2"),
    "length_tokens",
)
"""Metrics that are followed over a run; the results table holds all."""

Teachers = Callable[[], AbstractContextManager[Sequence[CausalLM]]]


def audit_utility(
    context: AuditContext,
    population: str,
    max_prompts: int,
    max_new_tokens: int | None,
    samples: int,
    teachers: Teachers | None = None,
) -> Measurements:
    """Measures generated responses and perplexity on one population.

    Args:
        context: The model and its records.
        population: Whose records.
        max_prompts: Prompts that are answered; 0 leaves responses out, and all that is generated.
        max_new_tokens: Longest generated response in tokens; None: as long as the longest of the
            prompts' own responses, as far as the model's window leaves room.
        samples: Sampled responses to each prompt, at temperature 1; 0 leaves them out.
        teachers: Opens the teachers of a student, for the divergence from them; None leaves it out.

    Returns:
        Rows over all tasks and per task, and curves.
    """
    figures: list[tuple[Figure, dict[str, object]]]
    figures = [(figure, {}) for figure in _perplexities(context, population)]
    if teachers is not None:
        with teachers() as models:
            figures += [(figure, {}) for figure in _divergences(context, population, models)]
    ways: list[tuple[Literal["greedy", "sample"], int, str]] = []
    ways += [("greedy", 1, "")] if max_prompts else []
    ways += [("sample", samples, "_sampled")] if max_prompts and samples else []
    records = context.answered(population)[:max_prompts]
    for decoding, draws, suffix in ways:
        encoded = context.model.encoder.encode_last(records)
        longest = max_new_tokens or _fitting_tokens(context.model.lm, encoded)
        settings = SamplingSettings(decoding=decoding, max_new_tokens=longest)
        ids = [_answers(context, encoded, settings, draw) for draw in range(draws)]
        decode = context.model.encoder.tokenizer.batch_decode
        generations = Generations(
            [record.response for record in records],
            [record.task for record in records],
            context.data.clusters(records),
            ids,
            [decode(draw, skip_special_tokens=True) for draw in ids],
            suffix,
        )
        params = _params(settings, draws)
        figures += [(figure, params) for figure in generations.figures()]
    rows = [_row(population, figure, params) for figure, params in figures]
    curves = {
        f"utility/{row['metric']}": value
        for row in rows
        if row["task"] is None
        and row["metric"] in _CURVES
        and isinstance(value := row.get("value"), float)
    }
    return Measurements(results=rows, curves=curves)


def _perplexities(context: AuditContext, population: str) -> list[Figure]:
    statistics = context.token_statistics(population)
    records = {record.id: record for record in context.population(population)}
    kept = [records[record_id] for record_id in statistics.record_ids]
    lengths = statistics.lengths.numpy()
    parts = [segment_sum(part.logp, part.offsets) for part in statistics.shards()]
    sums = torch.cat(parts).numpy()
    return [
        _figure("perplexity", task, perplexity(sums[rows], lengths[rows], clusters))
        for task, rows, clusters in _by_task(context, kept)
    ]


def _divergences(
    context: AuditContext, population: str, teachers: Sequence[CausalLM]
) -> list[Figure]:
    records, model = context.answered(population), context.model
    encoded = model.encoder.encode_all(records)
    # Leaking less than another student means something only beside this: a student that is far
    # from its teacher has learnt less of everything.
    sums = divergences(model, teachers, encoded, "utility: distance from the teacher")
    lengths = np.array([record.n_scored for record in encoded])
    return [
        _figure("teacher_kl", task, ratio_interval(sums[rows], lengths[rows], clusters))
        for task, rows, clusters in _by_task(context, records)
    ]


def _figure(name: str, task: str | None, estimate: UtilityEstimate) -> Figure:
    return Figure(name, name, task, estimate, estimate.n)


def _by_task(
    context: AuditContext, records: Sequence[InstructionRecord]
) -> Iterator[tuple[str | None, list[int], list[str]]]:
    """Yields rows and clusters of all records together under None, then those of each task."""
    tasks, clusters = [record.task for record in records], context.data.clusters(records)
    for task in (None, *told_tasks(tasks)):
        rows = list(range(len(tasks))) if task is None else rows_of(tasks, task)
        yield task, rows, [clusters[row] for row in rows]


def _answers(
    context: AuditContext,
    encoded: list[EncodedRecord],
    settings: SamplingSettings,
    draw: int,
) -> list[list[int]]:
    """Returns the token ids of every record's response, whole on every rank."""
    model = context.model
    ranks, encoder = model.ranks, model.encoder
    vocabulary = Vocabulary.of(len(encoder.tokenizer), encoder, model.lm.model)
    mine = ranks.share(encoded)

    def compute(lm: CausalLM) -> tuple[GeneratedResponse, ...]:
        responses = generate_responses(
            lm.model,
            mine,
            settings,
            vocabulary,
            RandomScope(model.seed, "utility", draw=draw),
            model.batch_size,
            model.max_batch_tokens,
            synced_gpus=ranks.world_size > 1,
        )
        return tuple(responses)

    with model.progress(f"utility: {settings.decoding} responses", 1) as advance:
        found = ranks.gather(list(model.lm(compute)))
        advance()
    return [list(response.token_ids) for response in found[: len(encoded)]]


def _row(population: str, figure: Figure, params: dict[str, object]) -> ResultRow:
    return ResultRow(
        population=population,
        task=figure.task,
        name=figure.name,
        params=params,
        metric=figure.metric,
        n_nonmembers=figure.n,
        **bounds(figure.estimate),
    )


def _fitting_tokens(lm: CausalLM, encoded: Sequence[EncodedRecord]) -> int:
    """Returns the longest response's tokens, fewer where the longest prompt leaves no room."""
    room = (context_window(lm.model) or sys.maxsize) - max(len(one.prompt_ids) for one in encoded)
    return min(room, max(len(one.response_ids) for one in encoded))


def _params(settings: SamplingSettings, draws: int) -> dict[str, object]:
    params: dict[str, object] = {
        "decoding": settings.decoding,
        "max_new_tokens": settings.max_new_tokens,
    }
    if settings.decoding == "greedy":
        return params
    return {**params, "temperature": settings.temperature, "draws": draws}
