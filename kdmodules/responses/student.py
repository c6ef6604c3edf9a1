"""Responses that the student samples afresh at every step."""

from collections.abc import Sequence

from common.options import require_at_least
from datamodules.batches import InstructionBatch
from kdmodules.responses.rewriting import is_filler, records_of, replace_responses
from kdmodules.responses.source import ResponseContext, ResponseSource
from kdmodules.sampling.keyed_choice import RandomScope
from kdmodules.sampling.sampler import SamplingSettings, generate_responses


class StudentResponses(ResponseSource):
    """Every batch carries responses that the student has just sampled: on-policy distillation.

    The student decodes in evaluation mode. What a record gets is keyed by (seed, step, record id),
    so that neither its batch nor the number of ranks changes it. Source: Lin et al. 2020 (ImitKD)
    in the form of the DistiLLM repository, which samples afresh at each step.

    Args:
        sampling: How the student decodes; by default at temperature 1, up to 256 tokens.
        sampling_batch_size: Most prompts that are decoded together.

    Raises:
        UserError: If ``sampling_batch_size`` is below 1.
    """

    def __init__(
        self, sampling: SamplingSettings | None = None, sampling_batch_size: int = 64
    ) -> None:
        require_at_least(1, sampling_batch_size=sampling_batch_size)
        self.sampling = sampling or SamplingSettings()
        self.sampling_batch_size = sampling_batch_size

    def prepare(self, context: ResponseContext) -> None:
        """Checks that prompt and response fit the window."""
        context.require_room(self.sampling.max_new_tokens)

    def replace(self, batch: InstructionBatch, context: ResponseContext) -> InstructionBatch:
        """Returns the batch's prompts with fresh responses."""
        return self.sampled(batch, context, [True] * len(batch.record_ids))

    def sampled(
        self, batch: InstructionBatch, context: ResponseContext, chosen: Sequence[bool]
    ) -> InstructionBatch:
        """Returns the batch with fresh responses in the chosen rows; fillers stay fillers.

        Every rank must come here for the same step, with chosen rows or without.
        """
        records = records_of(batch)
        rows = [i for i, record in enumerate(records) if chosen[i] and not is_filler(record)]
        if not rows and not context.synced:
            return batch
        prompts = [records[index].last_turn for index in rows]
        scope = RandomScope(context.seed, "student responses", context.step)
        generated = context.student(
            lambda lm: generate_responses(
                lm.model,
                prompts,
                self.sampling,
                context.vocabulary,
                scope,
                self.sampling_batch_size,
                synced_gpus=context.synced,
            )
        )
        responses = {row: response.token_ids for row, response in zip(rows, generated, strict=True)}
        return replace_responses(batch, responses, context.vocabulary.pad_id)
