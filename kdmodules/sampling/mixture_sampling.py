"""Responses sampled token by token from a mixture of student and teacher (MiniLLM's rollouts).

At each token the behaviour policy is q~ = (1 - a) q + a p (Gu 2024, "MiniLLM", eq. 5). p is the
mean of the teachers' probabilities: each of n has the share a / n.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log

import torch
from torch import Tensor
from transformers import PreTrainedModel

from common.options import require_at_least, require_positive, require_share
from datamodules.encoding import EncodedRecord
from kdmodules.sampling.generation_batches import Vocabulary, cut_at_end, in_buckets
from kdmodules.sampling.joint_decoding import decode_jointly, log_mixture
from kdmodules.sampling.keyed_choice import RandomScope, keyed_choice


@dataclass(frozen=True)
class MixtureSettings:
    """How rollouts are sampled.

    Attributes:
        teacher_share: The teacher's weight a in the mixture, in [0, 1]; an ensemble's in all.
        max_new_tokens: Longest response in tokens, the end-of-sequence token included.
        temperature: Divides every model's logits in the behaviour policy. There is no top-p or
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
        require_share(teacher_share=self.teacher_share)
        require_at_least(1, max_new_tokens=self.max_new_tokens)
        require_positive(temperature=self.temperature)


@dataclass(frozen=True, slots=True)
class MixtureResponse:
    """A rollout with what its importance weights need.

    Attributes:
        record_id: The prompt's record.
        token_ids: n sampled tokens, the end-of-sequence token included if produced.
        ended: Whether an end-of-sequence token ended it.
        student_logp: log q_t(y_t) at temperature 1 when it was sampled, float32 [n], nats, on CPU.
        teacher_logp: log p_t(y_t) at temperature 1, likewise; of several teachers, of their mean.
        mixture_logp: log q~_t(y_t) of the behaviour policy, its temperature included; the
            importance weight is w_t = exp(student_logp - mixture_logp).
    """

    record_id: str
    token_ids: tuple[int, ...]
    ended: bool
    student_logp: Tensor
    teacher_logp: Tensor
    mixture_logp: Tensor


def sample_mixture(
    student: PreTrainedModel,
    teachers: Sequence[PreTrainedModel],
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
        teachers: At least one, with the student's vocabulary; p is the mean of their probabilities.
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
    keys, share = scope.keys(record_ids, student.device), settings.teacher_share
    shares = [1.0 - share, *[share / len(teachers)] * len(teachers)]
    kept: list[Tensor] = []  # of each step log q, log p and log of the behaviour policy, [3, B]

    def choose(logits: list[Tensor], position: int) -> Tensor:
        mixture = log_mixture(logits, shares, settings.temperature)
        choice = keyed_choice(mixture, keys, stream=position)
        token = choice.clamp(min=0)
        of_student, *of_teachers = (_log_probability(of_model, token) for of_model in logits)
        teacher = torch.stack(of_teachers).logsumexp(dim=0) - log(len(of_teachers))
        behaviour = mixture.gather(-1, token.unsqueeze(-1)).squeeze(-1)
        kept.append(torch.stack((of_student, teacher, behaviour)))
        return choice

    tokens = decode_jointly(
        (student, *teachers),
        prompts,
        record_ids,
        choose,
        vocabulary,
        settings.max_new_tokens,
        settings.bfloat16,
        synced_gpus,
    )
    logp = torch.stack(kept, dim=2).cpu()  # [3, B, steps]
    responses = []
    for row, (record_id, drawn) in enumerate(zip(record_ids, tokens.tolist(), strict=True)):
        token_ids, ended = cut_at_end(drawn, vocabulary.ends)
        of_tokens = (part.clone() for part in logp[:, row, : len(token_ids)])
        responses.append(MixtureResponse(record_id, token_ids, ended, *of_tokens))
    return responses


def _log_probability(logits: Tensor, token: Tensor) -> Tensor:
    """Return the log-probability of each row's token, [B], from logits [B, V]."""
    chosen = logits.gather(-1, token.unsqueeze(-1)).squeeze(-1)
    return chosen - logits.logsumexp(dim=-1)


def mixture_responses(
    student: PreTrainedModel,
    teachers: Sequence[PreTrainedModel],
    encoded: Sequence[EncodedRecord],
    settings: MixtureSettings,
    vocabulary: Vocabulary,
    scope: RandomScope,
    batch_size: int = 32,
    synced_gpus: bool = False,
) -> list[MixtureResponse]:
    """Roll out every record's prompt, in batches of prompts of similar length.

    The arguments are those of `sample_mixture` and of `sampling.generate_responses`.

    Returns:
        One rollout per record, in the order given.
    """
    return in_buckets(
        lambda prompts, names: sample_mixture(
            student, teachers, prompts, names, settings, vocabulary, scope, synced_gpus
        ),
        encoded,
        settings.max_new_tokens,
        vocabulary.pad_id,
        student.device,
        batch_size,
        synced=synced_gpus,
    )
