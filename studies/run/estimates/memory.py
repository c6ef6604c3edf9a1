"""Memory of one device in a training run, term by term, to be safe rather than exact.

What is held throughout is exact: weights, gradients, AdamW's state, teachers. The peak adds the
largest of three phases: a training step (activations that autograd keeps, logits), the writing of
responses, an audit. A step's activations follow from the family's widths (`Family.kept_widths`).

Not counted: the interpreter and its libraries, a CUDA context, the records and tokenizer, and what
allocators hold beyond what is asked of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from kdmodules.losses.reduction import ACCELERATOR_CHUNK_BYTES, CPU_CHUNK_BYTES
from studies.run.estimates.layout import Layout
from studies.run.estimates.networks import Figures

__all__ = ["Decoding", "MemoryEstimate", "TeacherWeights", "Term", "TrainingRun"]

HELD, STEP, WRITING, AUDIT = "held", "step", "writing", "audit"
_ATTENTION_DROPOUT_BYTES = 12
"""Bytes that a CPU keeps for each head and pair of tokens where attention has dropout, which its
fused kernel lacks: the probabilities, the mask and their product in float32."""


@dataclass(frozen=True)
class Term:
    """A part of the memory.

    Attributes:
        name: What it is.
        phase: When it is held.
        bytes: How much.
    """

    name: str
    phase: str
    bytes: float


@dataclass(frozen=True)
class MemoryEstimate:
    """Terms of one device's memory."""

    terms: tuple[Term, ...]

    def phase_bytes(self, phase: str) -> float:
        """Returns the sum of a phase."""
        return sum(term.bytes for term in self.terms if term.phase == phase)

    @property
    def peak_phase(self) -> str:
        """The phase that holds most."""
        return max((STEP, WRITING, AUDIT), key=self.phase_bytes)

    @property
    def bytes(self) -> float:
        """The peak."""
        return self.phase_bytes(HELD) + self.phase_bytes(self.peak_phase)


@dataclass(frozen=True)
class Decoding:
    """Text that a model writes.

    Attributes:
        tokens: Of all sequences that one device decodes together.
        writers: The networks that decode, each with a cache of its own.
    """

    tokens: int
    writers: tuple[Figures, ...]


@dataclass(frozen=True)
class TeacherWeights:
    """How frozen teachers are held.

    Attributes:
        bytes: Of a weight.
        shards: Over how many devices the weights lie; the root of a sharded teacher stays whole.
        offloaded: Whether the shards lie in host memory.
        cached: Whether steps read the teachers' hidden states from disk: then their heads alone are
            held, and the rest while the cache is filled and while an audit asks.
    """

    bytes: int = 4
    shards: int = 1
    offloaded: bool = False
    cached: bool = False

    def held(self, teacher: Figures) -> float:
        """Bytes of a teacher that a device holds, two gathered blocks of a sharded one included."""
        if self.shards == 1:
            return float(teacher.parameters * self.bytes)
        shard = 0.0 if self.offloaded else teacher.parameters / self.shards
        return (shard + teacher.root + 2 * teacher.block) * self.bytes


@dataclass(frozen=True)
class TrainingRun:
    """What the memory of a run follows from.

    Attributes:
        student: The network that is trained.
        teachers: The frozen networks beside it.
        layout: Devices, strategy, precision.
        records: Records of the largest micro-batch of a device.
        tokens: Tokens of its longest sequence, padding included.
        text_tokens: Tokens of plain text that a device reads at once.
        checkpointed: Whether blocks are recomputed in the backward pass.
        writing: Responses written while training, or None.
        audit_tokens: Of an audit's largest batch; 0 without audits.
        audit_writes: Whether an audit has the model write.
        reference: Parameters of the largest reference model of the audits; 0 without one.
        teacher_weights: How the teachers are held.
    """

    student: Figures
    teachers: tuple[Figures, ...]
    layout: Layout
    records: int
    tokens: int
    text_tokens: int = 0
    checkpointed: bool = False
    writing: Decoding | None = None
    audit_tokens: int = 0
    audit_writes: bool = False
    reference: int = 0
    teacher_weights: TeacherWeights = TeacherWeights()

    @cached_property
    def memory(self) -> MemoryEstimate:
        """What one device holds, terms of 0 bytes left out."""
        terms = (*self._state(), *self._teacher_terms(), *self._step(), *self._others())
        return MemoryEstimate(tuple(term for term in terms if term.bytes))

    def _state(self) -> list[Term]:
        """Weights P/s, AdamW's two moments 2P'/s, gradients P'/s; P' are trained, s the shards.

        Around sharded weights lie the root, whole, one block at work and the next on its way, with
        their gradients in the backward pass.
        """
        layout, student = self.layout, self.student
        gradients = student.trainable * layout.weight_bytes
        gathered = 0.0
        if layout.weight_shards > 1:
            share = 1 + student.trainable / student.parameters
            gathered = (student.root + 2 * student.block) * layout.weight_bytes * share
        state = student.trainable * layout.state_bytes / layout.state_shards
        weights = student.parameters * layout.weight_bytes / layout.weight_shards
        return [
            Term("weights", HELD, weights),
            Term("gradients", HELD, gradients / layout.state_shards),
            Term("optimiser state", HELD, state),
            Term("buckets of gradients", HELD, gradients if layout.strategy == "ddp" else 0),
            Term("gathered weights and gradients", HELD, gathered),
        ]

    def _teacher_terms(self) -> list[Term]:
        weights = self.teacher_weights
        whole = sum(weights.held(teacher) for teacher in self.teachers)
        heads = sum(one.vocabulary * one.width * weights.bytes for one in self.teachers)
        if not weights.cached:
            return [Term("teachers", HELD, whole)]
        visits = [Term("teachers", phase, whole) for phase in (WRITING, AUDIT)]
        return [Term("teachers' heads", HELD, heads), *visits]

    def _step(self) -> list[Term]:
        """What autograd keeps, 16-bit copies of weights, and the chunks of logits with gradient."""
        student, layout = self.student, self.layout
        tokens = self.records * self.tokens + self.text_tokens
        block = float(student.kept * layout.activation_bytes)
        if layout.on_cpu and student.attention_dropout:
            block += _ATTENTION_DROPOUT_BYTES * student.heads * self.tokens
        stream = student.width * layout.activation_bytes
        kept = student.depth * stream + block if self.checkpointed else student.depth * block
        copies = 2 * student.parameters / layout.weight_shards if layout.is_mixed else 0
        budget = CPU_CHUNK_BYTES if layout.on_cpu else ACCELERATOR_CHUNK_BYTES
        row = 4 * student.vocabulary
        logits = min(tokens, max(1, budget // row)) * row * (2 + len(self.teachers))
        head = 4 * student.vocabulary * student.width if student.head_trained else 0
        return [
            Term("activations", STEP, tokens * (kept + 3 * stream)),
            Term("16-bit copies of weights", STEP, copies),
            Term("chunks of logits", STEP, logits),
            Term("gradient of the head", STEP, head),
        ]

    def _others(self) -> list[Term]:
        """Caches of what is written, forward passes without gradient, and reference models."""
        writing = self.writing or Decoding(0, ())
        audited = Decoding(self.audit_tokens, (self.student,))
        cache = self._cache(audited) if self.audit_writes else 0
        return [
            Term("keys and values", WRITING, self._cache(writing)),
            Term("forward pass", WRITING, self._pass(writing.writers, writing.tokens)),
            Term("keys and values", AUDIT, cache),
            Term("forward pass", AUDIT, self._pass(audited.writers, audited.tokens)),
            Term("reference model", AUDIT, 4 * self.reference / self.layout.weight_shards),
        ]

    def _cache(self, decoding: Decoding) -> float:
        """Keys and values of all blocks: tokens x 2 x depth x width."""
        widths = sum(2 * one.depth * one.kv_width for one in decoding.writers)
        return float(decoding.tokens * widths * self.layout.activation_bytes)

    def _pass(self, networks: Sequence[Figures], tokens: int) -> float:
        """A forward pass that keeps nothing: two residual streams and two inner layers, or q, k, v
        and their kin.
        """
        widths = [max(2 * one.width + 2 * one.inner, 6 * one.width) for one in networks]
        return float(tokens * max(widths, default=0) * self.layout.activation_bytes)
