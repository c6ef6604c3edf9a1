"""The utility audit: what the model is still good for, beside what it gives away."""

from typing import Literal

import numpy as np

from callbacks.audit import AuditCallback, Measurements
from callbacks.progress import progress
from callbacks.results import Row
from callbacks.run import Scene
from callbacks.utility.estimates import UtilityEstimate, rows_of, share_interval
from callbacks.utility.perplexity import perplexity
from callbacks.utility.rouge import rouge_l_f1
from datamodules.batches import EncodedRecord
from kdmodules.causal_lm import CausalLM
from kdmodules.generation_batches import Vocabulary
from kdmodules.keyed_choice import RandomScope
from kdmodules.sampling import GeneratedResponse, SamplingSettings, generate_responses

Population = Literal["never", "held_out", "public", "private", "development"]


class UtilityAudit(AuditCallback):
    """Measures ROUGE-L of greedy responses and perplexity on records that nobody trained on.

    Held-out records are no such records in a study with counterfactuals, whose teachers train on
    them; records of ``never`` are, for every run.

    Args:
        population: Whose records.
        max_prompts: Prompts that are answered, the same for every run on the same data.
        max_new_tokens: Longest generated response in tokens.
        every_n_validations: Audits every n-th validation of a fit and the last one; 0, only that.
        max_records: Most records of the perplexity.
        batch_size: Most records in a batch.
        max_batch_tokens: Most tokens in a batch with its padding.
    """

    audit = "utility"

    def __init__(
        self,
        population: Population = "never",
        max_prompts: int = 64,
        max_new_tokens: int = 128,
        every_n_validations: int = 1,
        max_records: int | None = None,
        batch_size: int = 64,
        max_batch_tokens: int = 8192,
    ) -> None:
        super().__init__(every_n_validations, max_records, batch_size, max_batch_tokens)
        self.utility_population = population
        self.max_prompts = max_prompts
        self.settings = SamplingSettings(decoding="greedy", max_new_tokens=max_new_tokens)

    def measure(self, scene: Scene) -> Measurements:
        """Returns perplexity and ROUGE-L rows, over all tasks and per task, and their curves."""
        found = Measurements()
        self._add_perplexity(found, scene)
        self._add_rouge(found, scene)
        for row in found.results:
            if row["task"] is None:
                found.curves[f"utility/{row['metric']}"] = float(str(row["value"]))
        return found

    def _add_perplexity(self, found: Measurements, scene: Scene) -> None:
        statistics = self.token_statistics(scene, self.utility_population)
        records = {record.id: record for record in self.population(scene, self.utility_population)}
        kept = [records[record_id] for record_id in statistics.record_ids]
        lengths = statistics.lengths
        places = np.repeat(np.arange(len(statistics)), lengths.numpy())
        sums = np.bincount(places, weights=statistics.logp.double().numpy(), minlength=len(kept))
        clusters = scene.data.clusters(kept)
        tasks = [record.task for record in kept]
        for task in [None, *sorted(set(tasks))]:
            rows = range(len(kept)) if task is None else rows_of(tasks, task)
            estimate = perplexity(
                sums[list(rows)], lengths.numpy()[list(rows)], [clusters[row] for row in rows]
            )
            found.results.append(self._row("perplexity", "perplexity", task, estimate, {}))

    def _add_rouge(self, found: Measurements, scene: Scene) -> None:
        records = self.population(scene, self.utility_population)
        records = [record for record in records if record.response][: self.max_prompts]
        encoded = scene.data.encoder.encode_all(records)
        texts = self._greedy_texts(scene, encoded)
        scores = rouge_l_f1([record.response for record in records], texts)
        clusters = scene.data.clusters(records)
        tasks = [record.task for record in records]
        params = {"decoding": "greedy", "max_new_tokens": self.settings.max_new_tokens}
        for task in [None, *sorted(set(tasks))]:
            rows = list(range(len(records))) if task is None else rows_of(tasks, task)
            estimate = share_interval(scores[rows], [clusters[row] for row in rows])
            found.results.append(self._row("rouge_l", "rouge_l_f1", task, estimate, params))

    def _greedy_texts(self, scene: Scene, encoded: list[EncodedRecord]) -> list[str]:
        """Returns every record's greedy response, whole on every rank."""
        ranks = scene.ranks
        encoder = scene.data.encoder
        vocabulary = Vocabulary(len(encoder.tokenizer), encoder.eos_id, encoder.pad_id)
        mine = ranks.share(encoded)

        def compute(lm: CausalLM) -> tuple[GeneratedResponse, ...]:
            responses = generate_responses(
                lm.model,
                mine,
                self.settings,
                vocabulary,
                RandomScope(scene.module.seed, "utility"),
                self.batch_size,
                self.max_batch_tokens,
                synced_gpus=ranks.world_size > 1,
            )
            return tuple(responses)

        with progress(scene.trainer, "utility: greedy responses", 1) as advance:
            found = ranks.gather(list(scene.module.language_model(compute)))
            advance()
        ids = [response.token_ids for response in found[: len(encoded)]]
        return encoder.tokenizer.batch_decode(ids, skip_special_tokens=True)

    def _row(
        self,
        name: str,
        metric: str,
        task: str | None,
        estimate: UtilityEstimate,
        params: dict[str, object],
    ) -> Row:
        return {
            "population": self.utility_population,
            "task": task,
            "name": name,
            "params": params,
            "metric": metric,
            "value": estimate.value,
            "lower": estimate.lower,
            "upper": estimate.upper,
            "n_nonmembers": estimate.n,
        }
