"""Private prediction: text that a public model wrote, moved by an ensemble of private teachers."""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from common.errors import UserError
from common.guarantee import Certificate, Guarantee
from common.keys import key
from common.options import require_positive
from datamodules.batches import EncodedRecord, InstructionBatch, collate
from kdmodules.models.causal_lm import CausalLM, model_device
from kdmodules.models.weights_hash import weights_hash
from kdmodules.privacy.concentrated import clipped_mean_rho, epsilon_of, rho_within
from kdmodules.privacy.disjoint_parts import doubts_about_public
from kdmodules.responses.guarded import GuardedResponses
from kdmodules.responses.rewriting import is_filler, records_of
from kdmodules.responses.source import ResponseContext
from kdmodules.sampling.generation_batches import Vocabulary
from kdmodules.sampling.guarded_sampling import PaidResponse, Scheme, clipped_mean_scores
from kdmodules.sampling.sampler import GeneratedResponse, SamplingSettings
from kdmodules.teachers import Teachers, TeacherWeights

_OUTSIDE = (
    "a second text of the same teachers",
    "the teachers' own weights",
    "audits and curves of this run",
    "a choice among models by results on these records",
)


class PrivateEnsembleResponses(GuardedResponses):
    """Text that is differentially private in the teachers' records, each of which one teacher met.

    The next token is drawn from softmax((phi_0 + mean_i clip_C(phi_i - phi_0)) / tau): phi_0 the
    log-probabilities of a public model, phi_i those of k teachers of disjoint parts of the private
    split (``data.splits.private_parts``). A token costs rho = 2 C^2 / (k tau)^2
    (`privacy.concentrated.clipped_mean_rho`). Prompts are answered in an order that no private
    record decides, as long as the budget pays for a longest response; rows of prompts that were
    left train on a response that another prompt got. Epsilon is that of the tokens that might have
    been written, since how many were is itself told by the text.

    Source: Amin et al. 2024 (arXiv 2407.12108), who clip logits and take public predictions where
    these agree; here differences to a public model are clipped, and every token is paid for.

    Args:
        public: Folder, checkpoint or hub name of the public model, of the teachers' vocabulary.
        clip: C, the most that a teacher moves a log-probability by, in nats.
        epsilon: Target; None answers every prompt and tells what that costs.
        delta: At which epsilon holds.
        sampling: As in :class:`~kdmodules.responses.guarded.GuardedResponses`.
        sampling_batch_size: Most prompts that are decoded together.
        cache_folder: Where the text is kept; the run's private folder if not given.
        draws_seed: For tests: keys the draws by this number, and voids the guarantee.

    Raises:
        UserError: If an option is out of range, or tokens would be cut off.
    """

    defence = "private_ensemble"
    fixed_text = False

    def __init__(
        self,
        public: str,
        clip: float = 0.1,
        epsilon: float | None = 8.0,
        delta: float = 1e-5,
        sampling: SamplingSettings | None = None,
        sampling_batch_size: int = 64,
        cache_folder: str | None = None,
        draws_seed: int | None = None,
    ) -> None:
        super().__init__(sampling, sampling_batch_size, cache_folder, draws_seed)
        require_positive("model.responses.", clip=clip, delta=delta)
        if epsilon is not None:
            require_positive("model.responses.", epsilon=epsilon)
        if delta >= 1:
            raise UserError(f"model.responses.delta is {delta}: give a number below 1")
        self.public = public
        self.clip = clip
        self.epsilon = epsilon
        self.delta = delta
        self._reference: CausalLM | None = None
        self._answered: dict[str, EncodedRecord] = {}

    def prepare(self, context: ResponseContext) -> None:
        """Samples as `TeacherResponses` does, with the public model in memory meanwhile.

        Raises:
            UserError: If the public model cannot be had or is a teacher, or the budget pays for no
                response.
        """
        context.require_teacher()
        if self.public in context.teacher_sources:
            raise UserError(f"model.responses.public is a teacher, {self.public}: name another")
        loaded = Teachers([self.public], TeacherWeights(sharded=False))
        device = model_device(context.student)
        loaded.load(context.encoder.tokenizer, context.encoder.max_tokens, None, device)
        loaded.to(device)
        (self._reference,) = loaded.models
        super().prepare(context)
        self._reference = None

    def tokens_paid_for(self, teachers: int) -> int | None:
        """Returns how many tokens the target epsilon pays for; None without one."""
        if self.epsilon is None:
            return None
        return int(rho_within(self.epsilon, self.delta) / self._rho(teachers))

    def replace(self, batch: InstructionBatch, context: ResponseContext) -> InstructionBatch:
        """Returns the batch's prompts with their responses; where one has none, another prompt.

        Which one is keyed by (seed, epoch, record).
        """
        every = list(self._answered.values())
        rows = [
            record
            if is_filler(record)
            else self._answered.get(record.record_id)
            or every[key(context.seed, "paid for", context.epoch, record.record_id) % len(every)]
            for record in records_of(batch)
        ]
        return collate(rows, context.encoder.pad_id).to(batch.input_ids.device)

    def _rho(self, teachers: int) -> float:
        return clipped_mean_rho(teachers, self.clip, self.sampling.temperature)

    def _models(self, context: ResponseContext) -> Sequence[CausalLM]:
        return (self._public_model, *context.teachers)

    @property
    def _public_model(self) -> CausalLM:
        if self._reference is None:
            raise ValueError("the public model is in memory during prepare alone")
        return self._reference

    def _vocabulary(self, context: ResponseContext) -> Vocabulary:
        known = context.vocabulary
        return replace(known, size=min(known.size, self._public_model.vocabulary_size))

    def _scheme(self, context: ResponseContext) -> Scheme:
        rho = self._rho(len(context.teachers))

        def scheme(logits: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
            scores = clipped_mean_scores(logits, self.clip, self.sampling.temperature)
            return scores, torch.full(scores.shape[:1], rho, dtype=torch.float64)

        return scheme

    def _drawn_by(self, context: ResponseContext) -> list[object]:
        public = weights_hash(self._public_model)
        return [*super()._drawn_by(context), self.clip, self.epsilon, self.delta, public]

    def _written(
        self, records: Sequence[EncodedRecord], context: ResponseContext
    ) -> list[PaidResponse]:
        longest, paid = self.sampling.max_new_tokens, self.tokens_paid_for(len(context.teachers))
        left = longest * len(records) if paid is None else paid
        self._require_budget(left, len(context.teachers))
        waiting = sorted(records, key=lambda record: key("paid for", record.record_id))
        written: list[PaidResponse] = []
        while waiting and left >= longest:
            share, waiting = waiting[: left // longest], waiting[left // longest :]
            mine = share[context.rank :: context.world_size]
            answers = context.gather(list(self._sample(mine, context)))
            left -= sum(len(answer.token_ids) for answer in answers)
            written += answers
        return written

    def _require_budget(self, tokens: int, teachers: int) -> None:
        longest = self.sampling.max_new_tokens
        if tokens < longest and self.epsilon is not None:
            rho = rho_within(self.epsilon, self.delta)
            clip = teachers * self.sampling.temperature * math.sqrt(rho / (2 * longest))
            raise UserError(
                f"epsilon {self.epsilon:g} at delta {self.delta:g} pays for {tokens} tokens of "
                f"{teachers} teachers with clip {self.clip:g}, and a response may take {longest}: "
                f"lower model.responses.clip below {clip:.2g} (a tenth of that pays for 100 "
                "responses), or train more teachers"
            )

    def _take(
        self,
        records: Sequence[EncodedRecord],
        stored: Sequence[GeneratedResponse],
        context: ResponseContext,
    ) -> None:
        super()._take(records, stored, context)
        by_id = {record.record_id: record for record in records}
        self._answered = {
            one.record_id: replace(by_id[one.record_id], response_ids=one.token_ids, scored=None)
            for one in sorted(stored, key=lambda one: one.record_id)
        }

    def _guarantee(self, stored: Sequence[PaidResponse], context: ResponseContext) -> Guarantee:
        teachers, prompts = len(context.teachers), int(self._figures["prompts"])
        most, paid = prompts * self.sampling.max_new_tokens, self.tokens_paid_for(teachers)
        most = most if paid is None else min(paid, most)
        self._figures["tokens_paid_for"] = most
        rho = most * self._rho(teachers)
        return Guarantee(
            certificate=Certificate.dp,
            defence=self.defence,
            epsilon=epsilon_of(rho, self.delta),
            delta=self.delta,
            covers=(
                f"students that read of {teachers} teachers these {len(stored)} responses alone "
                f"(at most {most:,} tokens, rho {rho:.3g})",
            ),
            does_not_cover=_OUTSIDE,
            voided_by=doubts_about_public("the public model", self.public, context.teacher_sources),
        )
