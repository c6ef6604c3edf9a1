"""Text of teachers that bounds what it tells of private records, with the bound in a file."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence

from lightning.pytorch.utilities.rank_zero import rank_zero_info

from common import guarantee
from common.errors import UserError
from common.guarantee import Guarantee
from datamodules.batches import EncodedRecord
from kdmodules.models.causal_lm import CausalLM, together
from kdmodules.privacy.disjoint_parts import (
    doubts_about_parts,
    doubts_about_public,
    doubts_about_split,
)
from kdmodules.responses.source import ResponseContext
from kdmodules.responses.teacher import TeacherResponses
from kdmodules.sampling.generation_batches import Vocabulary
from kdmodules.sampling.guarded_sampling import PaidResponse, Scheme, paid_responses
from kdmodules.sampling.keyed_choice import RandomScope
from kdmodules.sampling.sampler import GeneratedResponse, SamplingSettings

_NOT_REPEATABLE = "token draws are keyed by model.responses.draws_seed"


class GuardedResponses(TeacherResponses):
    """Sampled once as :class:`~kdmodules.responses.TeacherResponses`, by a scheme with a bound.

    Every token is drawn from all valid tokens, with random numbers of the operating system that are
    kept nowhere: a seed that is known makes the text a function of the teachers. What is guaranteed
    is written to ``guarantee.json`` of the run. Text that was paid for is free to train on, so the
    stored file serves every student of the same teachers, prompts and settings, whatever its seed.

    Args:
        sampling: The longest response, the temperature and the precision; nothing may cut off
            tokens.
        sampling_batch_size: Most prompts that are decoded together.
        cache_folder: Where the file is kept; the run's private folder if not given.
        draws_seed: For tests: keys the draws by this number, and voids the guarantee.

    Raises:
        UserError: If an option is out of range, or tokens would be cut off.
    """

    kept_as = PaidResponse
    text_alone = True
    defence = ""

    def __init__(
        self,
        sampling: SamplingSettings | None = None,
        sampling_batch_size: int = 64,
        cache_folder: str | None = None,
        draws_seed: int | None = None,
    ) -> None:
        super().__init__(sampling, sampling_batch_size, cache_folder)
        self.require_whole_vocabulary("bounds what its text tells and")
        self.draws_seed = draws_seed
        self._figures: dict[str, float] = {}

    def mechanism(self) -> dict[str, float]:
        """Returns how many prompts were answered, with how many tokens, and what that cost."""
        return dict(self._figures)

    @abstractmethod
    def _scheme(self, context: ResponseContext) -> Scheme:
        """Returns what the next token is drawn from."""

    @abstractmethod
    def _guarantee(self, stored: Sequence[PaidResponse], context: ResponseContext) -> Guarantee:
        """Returns what holds of this text if its draws were secret and its teachers apart."""

    def _models(self, context: ResponseContext) -> Sequence[CausalLM]:
        """Returns what the scheme reads, in its order."""
        return context.teachers

    def _vocabulary(self, context: ResponseContext) -> Vocabulary:
        return context.vocabulary

    def _drawn_by(self, context: ResponseContext) -> list[object]:
        return [self.defence, self.draws_seed]

    def _sample(
        self, records: Sequence[EncodedRecord], context: ResponseContext
    ) -> Sequence[PaidResponse]:
        models = self._models(context)
        seed = self.draws_seed
        return together(
            models,
            lambda: paid_responses(
                [one.model for one in models],
                records,
                self._scheme(context),
                self.sampling,
                self._vocabulary(context),
                None if seed is None else RandomScope(seed, self.defence),
                batch_size=self.sampling_batch_size,
                synced_gpus=context.synced,
            ),
        )

    def _take(
        self,
        records: Sequence[EncodedRecord],
        stored: Sequence[GeneratedResponse],
        context: ResponseContext,
    ) -> None:
        """Keeps the responses, and tells what is guaranteed of them."""
        super()._take(records, stored, context)
        paid = [one for one in stored if isinstance(one, PaidResponse)]
        tokens = sum(len(one.token_ids) for one in paid)
        self._figures = {"answered": len(paid), "prompts": len(records), "tokens": tokens}
        found = self._guarantee(paid, context).voided(
            *doubts_about_parts(context.teacher_sources),
            *doubts_about_public(
                "the student's start", context.student_source, context.teacher_sources
            ),
            *doubts_about_split(str(context.private_folder.parent), context.teacher_sources),
        )
        if self.draws_seed is not None:
            found = found.voided(_NOT_REPEATABLE)
        if context.rank == 0:
            guarantee.write(context.private_folder.parent, found)
        answered = f"{len(paid):,} of {len(records):,} prompts answered with {tokens:,} tokens"
        rank_zero_info("; ".join([answered, *found.covers, found.line]))


def require_text_alone(reads_rows: Mapping[str, bool]) -> None:
    """Refuses a student that reads more of its teachers than the text that they wrote for it.

    Args:
        reads_rows: Options by which it would read their probabilities -> whether it does.

    Raises:
        UserError: Naming the option.
    """
    for option, reads in reads_rows.items():
        if reads:
            raise UserError(
                f"model.responses bounds what the teachers' text tells, and {option} reads their "
                "probabilities: set it to 0, or null"
            )
