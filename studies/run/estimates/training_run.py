"""What the memory of a training run follows from."""

from dataclasses import dataclass, field

from studies.run.estimates.activations import Kept
from studies.run.estimates.layout import Layout
from studies.run.estimates.networks import Figures

__all__ = ["Audit", "Sampling", "TeacherHome", "TrainingRun"]


@dataclass(frozen=True)
class Sampling:
    """Responses that are written during training.

    Attributes:
        rows: Most responses, or beams, that one device decodes together.
        tokens: Tokens of prompt and response.
        writers: The networks that decode, each with a cache of its own.
    """

    rows: int
    tokens: int
    writers: tuple[Figures, ...]


@dataclass(frozen=True)
class Audit:
    """The largest batches of a run's audits.

    Attributes:
        tokens: Of a batch.
        writes: Whether an audit has the model write, which takes a cache.
        reference: Parameters of the largest reference model; 0 without one.
    """

    tokens: int
    writes: bool
    reference: int


@dataclass(frozen=True)
class TeacherHome:
    """How frozen teachers are held.

    Attributes:
        bytes: Of a weight.
        shards: Over how many devices the weights lie.
        offloaded: Whether the shards lie in host memory.
        cached: Whether steps read the teachers' hidden states from disk: then their heads alone are
            held, and the rest while the cache is filled and while an audit asks.
    """

    bytes: int = 4
    shards: int = 1
    offloaded: bool = False
    cached: bool = False

    def held(self, teacher: Figures) -> float:
        """Bytes of a teacher that a device holds; the root of a sharded one stays whole."""
        if self.shards == 1:
            return float(teacher.parameters * self.bytes)
        shard = 0.0 if self.offloaded else teacher.parameters / self.shards
        return (shard + teacher.root) * self.bytes

    def visiting(self, teacher: Figures) -> float:
        """Bytes of the block at work and the next one, where blocks are gathered."""
        return 2.0 * teacher.block * self.bytes if self.shards > 1 else 0.0


@dataclass(frozen=True)
class TrainingRun:
    """What the memory of a run follows from.

    Attributes:
        student: The network that is trained.
        kept: What autograd keeps of it.
        teachers: The frozen networks beside it.
        layout: Devices, strategy, precision.
        records: Records of the largest micro-batch of a device.
        tokens: Tokens of its longest sequence, padding included.
        text_tokens: Tokens of plain text that a device reads at once.
        scored: Most scored tokens of a micro-batch; None: all of them may be.
        accumulate: Micro-batches of an optimiser step.
        checkpointed: Whether blocks are recomputed in the backward pass.
        sampling: Responses written while training, or None.
        audit: The audits, or None.
        teacher_home: How the teachers are held.
    """

    student: Figures
    kept: Kept
    teachers: tuple[Figures, ...]
    layout: Layout
    records: int
    tokens: int
    text_tokens: int = 0
    scored: int | None = None
    accumulate: int = 1
    checkpointed: bool = False
    sampling: Sampling | None = None
    audit: Audit | None = None
    teacher_home: TeacherHome = field(default_factory=TeacherHome)

    @property
    def batch_tokens(self) -> int:
        """Tokens of a micro-batch of a device."""
        return self.records * self.tokens

    @property
    def kept_tokens(self) -> int:
        """Tokens whose activations are kept at once.

        Text is read with the last micro-batch; of several parts one at a time is kept.
        """
        if self.accumulate == 1:
            return self.batch_tokens + self.text_tokens
        return max(self.batch_tokens, self.text_tokens)
