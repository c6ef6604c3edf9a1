"""The utility audit: what the model is still good for, beside what it gives away."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer

from audits.results import Row
from audits.scoring.segments import segment_sum
from audits.statistics.means import ratio_interval, rows_of
from audits.utility.generations import Figure, Generations
from audits.utility.perplexity import perplexity
from audits.utility.teacher_kl import teacher_divergences
from callbacks.audit import AuditCallback, Measurements
from callbacks.progress import progress
from callbacks.run import AuditContext
from common.errors import UserError
from datamodules.batches import EncodedRecord
from kdmodules.models.causal_lm import CausalLM
from kdmodules.models.families import context_window
from kdmodules.sampling.generation_batches import Vocabulary
from kdmodules.sampling.keyed_choice import RandomScope
from kdmodules.sampling.sampler import GeneratedResponse, SamplingSettings, generate_responses
from kdmodules.student import StudentModule

Population = Literal["never", "held_out", "public", "private", "development"]


class UtilityAudit(AuditCallback):
    """Measures generated responses and perplexity on records that nobody trained on.

    Responses are judged by ROUGE-L, by their share of distinct n-grams and by their length, once
    decoded greedily and once sampled. A student is also compared with its teachers: `teacher_kl` is
    the forward divergence from them in nats per token.

    Held-out records are no such records in a study with counterfactuals, whose teachers train on
    them; records of ``never`` are, for every run.

    Args:
        population: Whose records.
        max_prompts: Prompts that are answered, the same for every run on the same data.
        max_new_tokens: Longest generated response in tokens; None: as long as the longest of the
            prompts' own responses, as far as the model's window leaves room.
        samples: Sampled responses to each prompt, at temperature 1; 0 leaves them out.
        every_n_validations: Audits every n-th validation of a fit and the last one; 0, only that;
            None, as the run's other audits (``audits.every_n_validations``).
        max_records: Most records of the perplexity.
        batch_size: Most records in a batch.
        max_batch_tokens: Most tokens in a batch with its padding.
    """

    audit = "utility"
    writes = True

    def __init__(
        self,
        population: Population = "never",
        max_prompts: int = 64,
        max_new_tokens: int | None = None,
        samples: int = 3,
        every_n_validations: int | None = None,
        max_records: int | None = None,
        batch_size: int = 64,
        max_batch_tokens: int = 8192,
    ) -> None:
        super().__init__(every_n_validations, max_records, batch_size, max_batch_tokens)
        self.utility_population = population
        self.max_prompts = max_prompts
        if samples < 0:
            raise UserError(f"samples is {samples}: give 0 or more")
        self.samples = samples
        if max_new_tokens is not None and max_new_tokens < 1:
            raise UserError(f"max_new_tokens is {max_new_tokens}: give at least 1, or null")
        self.max_new_tokens = max_new_tokens

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuses, before anything is trained, a population that holds no response.

        Raises:
            UserError: Naming the population.
        """
        self.require_responses(AuditContext.of(trainer, pl_module), self.utility_population)

    def measure(self, context: AuditContext) -> Measurements:
        """Returns rows of perplexity and of responses, over all tasks and per task, and curves."""
        found = Measurements()
        self._add_perplexity(found, context)
        if isinstance(context.module, StudentModule) and context.module.teachers.sources:
            with context.module.loaded_teachers() as teachers:
                self._add_teacher_kl(found, context, teachers)
        self._add_generations(found, context, "greedy", 1, "")
        if self.samples:
            self._add_generations(found, context, "sample", self.samples, "_sampled")
        for row in found.results:
            value = row.get("value")
            if row["task"] is None and isinstance(value, float):
                found.curves[f"utility/{row['metric']}"] = value
        return found

    def _add_perplexity(self, found: Measurements, context: AuditContext) -> None:
        statistics = self.token_statistics(context, self.utility_population)
        records = {
            record.id: record for record in self.population(context, self.utility_population)
        }
        kept = [records[record_id] for record_id in statistics.record_ids]
        lengths = statistics.lengths
        parts = [segment_sum(part.logp, part.offsets) for part in statistics.shards()]
        sums = torch.cat(parts).numpy()
        clusters = context.data.clusters(kept)
        tasks = [record.task for record in kept]
        for task in [None, *sorted(set(tasks))]:
            rows = range(len(kept)) if task is None else rows_of(tasks, task)
            estimate = perplexity(
                sums[list(rows)], lengths.numpy()[list(rows)], [clusters[row] for row in rows]
            )
            figure = Figure("perplexity", "perplexity", task, estimate, estimate.n)
            found.results.append(self._row(figure, {}))

    def _add_teacher_kl(
        self, found: Measurements, context: AuditContext, teachers: Sequence[CausalLM]
    ) -> None:
        records = self.population(context, self.utility_population)
        records = [record for record in records if record.response]
        encoded = context.data.encoder.encode_all(records)
        sums = teacher_divergences(
            context.module.language_model,
            teachers,
            encoded,
            context.data.pad_id,
            context.ranks,
            self.batch_size,
            self.max_batch_tokens,
            lambda total: progress(context.trainer, "utility: distance from the teacher", total),
        )
        lengths = np.array([len(record.response_ids) for record in encoded])
        clusters = context.data.clusters(records)
        tasks = [record.task for record in records]
        for task in [None, *sorted(set(tasks))]:
            rows = list(range(len(records))) if task is None else rows_of(tasks, task)
            own = [clusters[row] for row in rows]
            estimate = ratio_interval(sums[rows], lengths[rows], own)
            figure = Figure("teacher_kl", "teacher_kl", task, estimate, estimate.n)
            found.results.append(self._row(figure, {}))

    def _add_generations(
        self,
        found: Measurements,
        context: AuditContext,
        decoding: Literal["greedy", "sample"],
        draws: int,
        suffix: str,
    ) -> None:
        records = self.population(context, self.utility_population)
        records = [record for record in records if record.response][: self.max_prompts]
        encoded = context.data.encoder.encode_all(records)
        tokenizer = context.data.encoder.tokenizer
        longest = self.max_new_tokens
        if longest is None:
            longest = _fitting_tokens(context.module.language_model, encoded)
        settings = SamplingSettings(decoding=decoding, max_new_tokens=longest)
        ids = [self._answers(context, encoded, settings, draw) for draw in range(draws)]
        generations = Generations(
            [record.response for record in records],
            [record.task for record in records],
            context.data.clusters(records),
            ids,
            [tokenizer.batch_decode(draw, skip_special_tokens=True) for draw in ids],
            suffix,
        )
        params = _params(settings, draws)
        for one in generations.figures():
            found.results.append(self._row(one, params))

    def _answers(
        self,
        context: AuditContext,
        encoded: list[EncodedRecord],
        settings: SamplingSettings,
        draw: int,
    ) -> list[list[int]]:
        """Returns the token ids of every record's response, whole on every rank."""
        ranks = context.ranks
        encoder = context.data.encoder
        vocabulary = Vocabulary(len(encoder.tokenizer), encoder.eos_id, encoder.pad_id)
        mine = ranks.share(encoded)

        def compute(lm: CausalLM) -> tuple[GeneratedResponse, ...]:
            responses = generate_responses(
                lm.model,
                mine,
                settings,
                vocabulary,
                RandomScope(context.module.seed, "utility", draw=draw),
                self.batch_size,
                self.max_batch_tokens,
                synced_gpus=ranks.world_size > 1,
            )
            return tuple(responses)

        with progress(context.trainer, f"utility: {settings.decoding} responses", 1) as advance:
            found = ranks.gather(list(context.module.language_model(compute)))
            advance()
        return [list(response.token_ids) for response in found[: len(encoded)]]

    def _row(self, figure: Figure, params: dict[str, object]) -> Row:
        row: Row = {
            "population": self.utility_population,
            "task": figure.task,
            "name": figure.name,
            "params": params,
            "metric": figure.metric,
            "n_nonmembers": figure.n,
        }
        if figure.estimate is None:
            return row
        bounds = {"lower": figure.estimate.lower, "upper": figure.estimate.upper}
        return {**row, "value": figure.estimate.value, **bounds}


def _fitting_tokens(lm: CausalLM, encoded: Sequence[EncodedRecord]) -> int:
    """Returns the longest response's tokens, fewer where the longest prompt leaves no room."""
    room = context_window(lm.model) - max(len(one.prompt_ids) for one in encoded)
    return min(room, max(len(one.response_ids) for one in encoded))


def _params(settings: SamplingSettings, draws: int) -> dict[str, object]:
    params: dict[str, object] = {
        "decoding": settings.decoding,
        "max_new_tokens": settings.max_new_tokens,
    }
    if settings.decoding == "greedy":
        return params
    return {**params, "temperature": settings.temperature, "draws": draws}
