"""Responses sampled token by token from a mixture of student and teacher (MiniLLM's rollouts).

At each token the behaviour policy is q~ = (1 - a) q + a p (Gu 2024, "MiniLLM", eq. 5; techniques.md
section 6), so both models step side by side, each with its own cache. `generate` steps one
model, hence the loop here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from datamodules.encoding import EncodedRecord
from datamodules.errors import UserError
from kdmodules.generation_batches import (
    BucketRounds,
    Vocabulary,
    check_window,
    inference_state,
    left_pad,
    refuse_not_finite,
)
from kdmodules.keyed_choice import RandomScope, keyed_choice


@dataclass(frozen=True)
class MixtureSettings:
    """How rollouts are sampled.

    Attributes:
        teacher_share: The teacher's weight a in the mixture, in [0, 1].
        max_new_tokens: Longest response in tokens, the end-of-sequence token included.
        temperature: Divides both models' logits in the behaviour policy. There is no top-p or
            top-k: a behaviour policy without full support has no unbiased importance weights.
        bfloat16: Run the models under bfloat16 autocast where the device has it.
    """

    teacher_share: float = 0.2
    max_new_tokens: int = 256
    temperature: float = 1.0
    bfloat16: bool = False

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            UserError: If a value is out of range; the line names it.
        """
        if not 0 <= self.teacher_share <= 1:
            raise UserError(f"teacher_share is {self.teacher_share}: give a share in [0, 1]")
        if self.max_new_tokens < 1:
            raise UserError(f"max_new_tokens is {self.max_new_tokens}: give at least 1")
        if not 0 < self.temperature < float("inf"):
            raise UserError(f"temperature is {self.temperature}: give a positive number")


@dataclass(frozen=True, slots=True)
class MixtureResponse:
    """A rollout with what its importance weights need.

    Attributes:
        record_id: The prompt's record.
        token_ids: n sampled tokens, the end-of-sequence token included if produced.
        ended: Whether an end-of-sequence token ended it.
        student_logp: log q_t(y_t) at temperature 1 when it was sampled, float32 [n], nats, on CPU.
        teacher_logp: log p_t(y_t) at temperature 1, likewise.
        mixture_logp: log q~_t(y_t) of the behaviour policy, its temperature included; the
            importance weight is w_t = exp(student_logp - mixture_logp).
    """

    record_id: str
    token_ids: tuple[int, ...]
    ended: bool
    student_logp: Tensor
    teacher_logp: Tensor
    mixture_logp: Tensor


@dataclass
class _Trace:
    """Tokens and log-probabilities step by step, each a list of [B] tensors."""

    tokens: list[Tensor] = field(default_factory=list)
    student: list[Tensor] = field(default_factory=list)
    teacher: list[Tensor] = field(default_factory=list)
    mixture: list[Tensor] = field(default_factory=list)


class _CachedModel:
    """A model that yields its next-token log-probabilities while its cache grows."""

    def __init__(self, model: PreTrainedModel, mask: Tensor, vocabulary_size: int) -> None:
        self.model = model
        self.mask = mask  # [B, tokens seen and about to be seen]
        self.vocabulary_size = vocabulary_size
        self.cache = DynamicCache(config=model.config)

    def next_logits(self, ids: Tensor) -> Tensor:
        """Read the next tokens, [B, T], and return the logits after them, float32 [B, V]."""
        # Padding is masked, so its position only has to be a valid one.
        positions = (self.mask.cumsum(dim=1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        logits = self.model(
            input_ids=ids,
            attention_mask=self.mask,
            position_ids=positions,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(ids), 1)], dim=1)
        return logits[:, -1, : self.vocabulary_size].float()


def mixture_log_probabilities(
    student_logits: Tensor, teacher_logits: Tensor, teacher_share: float, temperature: float
) -> Tensor:
    """Return log((1 - a) q + a p) at a temperature, float32 [B, V], by logaddexp.

    Args:
        student_logits: float32 [B, V].
        teacher_logits: float32 [B, V].
        teacher_share: The teacher's weight a, in [0, 1].
        temperature: Divides both logits.
    """
    log_shares = torch.tensor([1.0 - teacher_share, teacher_share]).log().tolist()
    return torch.logaddexp(
        log_shares[0] + (student_logits / temperature).log_softmax(dim=-1),
        log_shares[1] + (teacher_logits / temperature).log_softmax(dim=-1),
    )


def sample_mixture(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    record_ids: Sequence[str],
    settings: MixtureSettings,
    vocabulary: Vocabulary,
    scope: RandomScope,
    synced_gpus: bool = False,
) -> list[MixtureResponse]:
    """Roll out one batch of prompts under the mixture.

    Args:
        student: The student q; its modes are restored afterwards.
        teacher: The teacher p, with the same vocabulary.
        prompts: Token ids of each prompt.
        record_ids: The prompts' records: names in errors, and keys of the random numbers.
        settings: How to sample.
        vocabulary: Valid tokens, end and padding.
        scope: What the random numbers depend on besides the record id.
        synced_gpus: Keep stepping until every rank is done, as sharded strategies need.

    Returns:
        One rollout per prompt, in order.

    Raises:
        UserError: If a prompt and the new tokens exceed a model's window, or a distribution is
            not finite.
        ValueError: If prompts and record ids do not pair up, or a prompt is empty.
    """
    if len(prompts) != len(record_ids):
        raise ValueError(f"{len(prompts)} prompts but {len(record_ids)} record ids")
    for model in (student, teacher):
        check_window(model, prompts, record_ids, settings.max_new_tokens)
    ids, mask = left_pad(prompts, vocabulary.pad_id, student.device)
    keys = scope.keys(record_ids, student.device)
    with inference_state(student, settings.bfloat16), inference_state(teacher, settings.bfloat16):
        models = tuple(_CachedModel(model, mask, vocabulary.size) for model in (student, teacher))
        trace, not_finite = _roll_out(models, ids, keys, settings, vocabulary, synced_gpus)
    refuse_not_finite(not_finite, record_ids)
    return _responses(trace, record_ids, vocabulary.eos_id)


def _roll_out(
    models: tuple[_CachedModel, ...],
    ids: Tensor,
    keys: Tensor,
    settings: MixtureSettings,
    vocabulary: Vocabulary,
    synced_gpus: bool,
) -> tuple[_Trace, Tensor]:
    """Return the trace of all steps and the rows that met a distribution that is not finite."""
    trace = _Trace()
    ended = torch.zeros_like(keys, dtype=torch.bool)
    not_finite = torch.zeros_like(ended)
    for position in range(settings.max_new_tokens):
        student, teacher = (model.next_logits(ids) for model in models)  # [B, V] each
        mixture = mixture_log_probabilities(
            student, teacher, settings.teacher_share, settings.temperature
        )
        choice = keyed_choice(mixture, keys, stream=position)
        not_finite |= (choice < 0) & ~ended
        token = choice.clamp(min=0)
        trace.tokens.append(token)
        trace.student.append(_log_probability(student, token))
        trace.teacher.append(_log_probability(teacher, token))
        trace.mixture.append(mixture.gather(-1, token.unsqueeze(-1)).squeeze(-1))
        ended |= token == vocabulary.eos_id
        if _all_ended(ended, synced_gpus):
            break
        ids = token.masked_fill(ended, vocabulary.pad_id).unsqueeze(-1)
    return trace, not_finite


def _log_probability(logits: Tensor, token: Tensor) -> Tensor:
    """Return the log-probability of each row's token, [B], from logits [B, V]."""
    chosen = logits.gather(-1, token.unsqueeze(-1)).squeeze(-1)
    return chosen - logits.logsumexp(dim=-1)


def _all_ended(ended: Tensor, synced_gpus: bool) -> bool:
    remaining = (~ended).sum()
    if synced_gpus:
        torch.distributed.all_reduce(remaining)
    return int(remaining) == 0


def _responses(trace: _Trace, record_ids: Sequence[str], eos_id: int) -> list[MixtureResponse]:
    """Cut each row of the trace after its first end-of-sequence token."""
    tokens, student, teacher, mixture = (
        torch.stack(steps, dim=1).cpu()  # [B, steps]
        for steps in (trace.tokens, trace.student, trace.teacher, trace.mixture)
    )
    responses = []
    for row, record_id in enumerate(record_ids):
        ends = (tokens[row] == eos_id).nonzero().flatten().tolist()
        kept = slice(0, ends[0] + 1 if ends else tokens.shape[1])
        responses.append(
            MixtureResponse(
                record_id,
                tuple(tokens[row, kept].tolist()),
                bool(ends),
                student[row, kept].clone(),
                teacher[row, kept].clone(),
                mixture[row, kept].clone(),
            )
        )
    return responses


def mixture_responses(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    encoded: Sequence[EncodedRecord],
    settings: MixtureSettings,
    vocabulary: Vocabulary,
    scope: RandomScope,
    batch_size: int = 32,
    max_batch_tokens: int | None = None,
    synced_gpus: bool = False,
) -> list[MixtureResponse]:
    """Roll out every record's prompt, in batches of prompts of similar length.

    The arguments are those of `sample_mixture` and of `sampling.generate_responses`.

    Returns:
        One rollout per record, in the order given.
    """

    def run(records: Sequence[EncodedRecord]) -> list[MixtureResponse]:
        prompts = [record.prompt_ids for record in records]
        names = [record.record_id for record in records]
        return sample_mixture(
            student, teacher, prompts, names, settings, vocabulary, scope, synced_gpus
        )

    rounds = BucketRounds(batch_size, max_batch_tokens, settings.max_new_tokens, synced_gpus)
    return rounds.run(encoded, run, vocabulary.pad_id, student.device)
