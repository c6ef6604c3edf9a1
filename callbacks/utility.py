"""The utility audit: what the model is still good for, beside what it gives away."""

from typing import Literal

from audits.context import Measurements
from audits.rows import Audit
from audits.utility.audit import audit_utility
from callbacks.audit import AuditCallback
from callbacks.run import RunContext
from common.errors import UserError
from common.options import require_at_least
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

    audit = Audit.utility

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
        require_at_least(0, max_prompts=max_prompts, samples=samples)
        self.max_prompts = max_prompts
        if samples < 0:
            raise UserError(f"samples is {samples}: give 0 or more")
        self.samples = samples
        if max_new_tokens is not None and max_new_tokens < 1:
            raise UserError(f"max_new_tokens is {max_new_tokens}: give at least 1, or null")
        self.max_new_tokens = max_new_tokens

    def check(self, context: RunContext) -> None:
        """Refuses a population that is not there or holds no response."""
        self.audit_context(context).require_responses(self.utility_population)

    def measure(self, context: RunContext) -> Measurements:
        """Returns rows of perplexity and of responses, over all tasks and per task, and curves."""
        module, teachers = context.module, None
        if isinstance(module, StudentModule) and module.teachers.sources:
            teachers = module.loaded_teachers
        return audit_utility(
            self.audit_context(context),
            self.utility_population,
            self.max_prompts,
            self.max_new_tokens,
            self.samples,
            teachers,
        )
