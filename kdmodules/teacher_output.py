"""What a teacher tells of its next-token distribution, coarsened before an objective reads it."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from common.errors import UserError
from common.keys import key
from common.options import require_at_least, require_positive
from datamodules.batches import InstructionBatch
from kdmodules.losses import KDLoss, Reduction, TopKRows
from kdmodules.losses.divergence import ValuesAndGrad, Wrapped
from kdmodules.losses.step import Chunk
from kdmodules.responses import ResponseSource, TeacherMixedRollouts, TeacherResponses
from kdmodules.token_hashes import mixed, prefix_hashes, uniform

_CONTEXT = "teacher output context"
_SAMPLING = (TeacherResponses, TeacherMixedRollouts)


@dataclass(frozen=True)
class TeacherOutput:
    """Defences that coarsen the rows of log-probabilities which a student is shown.

    Temperature, the likeliest tokens alone and rounding are the mitigations of Shokri et al. (2017,
    arXiv 1610.05820, section VIII); noise on the output is MemGuard's idea (Jia et al. 2019, arXiv
    1909.10594), here Gaussian and not fitted to an attack. None certifies anything: attacks that
    read labels alone pass by them (Choquette-Choo et al. 2021, arXiv 2007.14321). They are applied
    in the order of the attributes.

    Attributes:
        noise: Standard deviation of Gaussian noise on every logit. It is a function of the text
            before and of the key, so that asking again does not average it away.
        temperature: Divides the logits.
        top_k: Only so many of the likeliest tokens keep their log-probabilities; the rest share
            what is left evenly.
        bits: Log-probabilities are rounded to one of 2^bits values; None leaves them exact.
        range_nats: The values of ``bits`` are spread evenly from 0 down to minus this; what is less
            likely counts as that.
        key: Of the noise.

    Raises:
        UserError: An option is out of range, or none is given.
    """

    noise: float = 0.0
    temperature: float = 1.0
    top_k: int | None = None
    bits: int | None = None
    range_nats: float = 16.0
    key: int = 0

    def __post_init__(self) -> None:
        where = "model.teacher_output."
        require_at_least(0, where, noise=self.noise)
        require_positive(where, temperature=self.temperature, range_nats=self.range_nats)
        counts = {"top_k": self.top_k, "bits": self.bits}
        require_at_least(1, where, **{name: n for name, n in counts.items() if n is not None})
        if (self.noise, self.temperature, self.top_k, self.bits) == (0, 1, None, None):
            raise UserError(
                "model.teacher_output changes nothing: give noise, temperature, top_k or bits"
            )

    def shown(self, teacher_logp: Tensor, contexts: Tensor | None) -> Tensor:
        """Returns log-probabilities as the student is shown them, [N, V].

        Args:
            teacher_logp: [N, V] log p.
            contexts: [N] int64 hashes of the text before each; None without noise.
        """
        logits = teacher_logp
        if contexts is not None:
            logits = logits + self.noise * _standard_normal(contexts, logits)
        logp = torch.log_softmax(logits / self.temperature, -1)
        if self.top_k is not None and self.top_k < logp.shape[-1]:
            kept = TopKRows.of(logp, self.top_k)
            logp = kept.logits(slice(None), torch.empty_like(logp))
        if self.bits is not None:
            step = self.range_nats / (2**self.bits - 1)
            logp = torch.round(logp.clamp(min=-self.range_nats) / step) * step
        return torch.log_softmax(logp, -1)

    def with_contexts(self, batch: InstructionBatch) -> InstructionBatch:
        """Returns the batch with what the noise needs: a hash of the text before each token."""
        if not self.noise:
            return batch
        own_key = key(self.key, "teacher output")
        contexts = prefix_hashes(batch.input_ids, batch.attention_mask, own_key)
        return replace(batch, extras={**batch.extras, _CONTEXT: contexts})


def _standard_normal(contexts: Tensor, like: Tensor) -> Tensor:
    """[N, V] standard normal numbers, a function of the context's hash and the token."""
    tokens = torch.arange(like.shape[-1], device=contexts.device)
    drawn = uniform(mixed(contexts.unsqueeze(1) ^ mixed(tokens)))
    return (math.sqrt(2.0) * torch.erfinv(2.0 * drawn - 1.0)).to(like.dtype)


class CoarseTeacher(Wrapped):
    """An objective against what the teacher tells.

    Args:
        objective: The objective, which reads `TeacherOutput.shown`.
        output: What is told, at temperature 1.
        temperature: That the objective reads it at.
    """

    def __init__(self, objective: KDLoss, output: TeacherOutput, temperature: float = 1.0) -> None:
        super().__init__(objective)
        self.output = output
        self.temperature = temperature

    def chunk_values(self, chunk: Chunk) -> Tensor:
        """[len(terms), n] values of the objective."""
        return self.objective.chunk_values(self._shown(chunk))

    def chunk_values_with_grad(self, chunk: Chunk) -> ValuesAndGrad:
        """Values and gradient of the objective."""
        return self.objective.chunk_values_with_grad(self._shown(chunk))

    def _shown(self, chunk: Chunk) -> Chunk:
        rows = chunk.teacher_logp
        if self.temperature != 1:
            rows = torch.log_softmax(rows * self.temperature, -1)
        shown = self.output.shown(rows, chunk.extras.get(_CONTEXT))
        if self.temperature != 1:
            shown = torch.log_softmax(shown / self.temperature, -1)
        return replace(chunk, teacher_logp=shown)


def check_teacher_output(
    output: TeacherOutput | None,
    responses: ResponseSource,
    reduction: Reduction,
    text_kd_ratio: float,
) -> None:
    """Refuses a coarsened output beside which the student reads the teacher in another way.

    Raises:
        UserError: The objective reads no rows, the teacher writes text, or rows of plain text.
    """
    if output is None:
        return
    if reduction.kd_ratio == 0:
        channel = "model.reduction.kd_ratio is 0, so that no objective reads its rows"
    elif isinstance(responses, _SAMPLING):
        channel = f"{type(responses).__name__} samples from the teacher as it is"
    elif text_kd_ratio > 0:
        channel = "model.text_kd_ratio reads its rows of plain text as they are"
    else:
        return
    raise UserError(
        f"model.teacher_output cannot protect this student: {channel}; take a technique whose "
        "objective alone reads the teacher, such as kd or imitkd, or leave it out"
    )
