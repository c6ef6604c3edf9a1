"""What one device holds throughout a training run: weights, gradients, AdamW's state, teachers.

Activations, caches of what is written, audits, the interpreter, its libraries and a CUDA context
come on top: they follow from batches and kernels and are not estimated.
"""

from dataclasses import dataclass
from functools import cached_property

from studies.run.estimates.layout import Layout
from studies.run.estimates.networks import Figures


@dataclass(frozen=True)
class TeacherWeights:
    """How frozen teachers are held.

    Attributes:
        bytes: Of a weight.
        shards: Over how many devices the weights lie; the root of a sharded teacher stays whole.
        offloaded: Whether the shards lie in host memory.
        cached: Whether steps read the teachers' hidden states from disk: then their heads alone are
            held throughout.
    """

    bytes: int = 4
    shards: int = 1
    offloaded: bool = False
    cached: bool = False

    def held(self, teacher: Figures) -> float:
        """Bytes of a teacher that a device holds, two gathered blocks of a sharded one included."""
        if self.cached:
            return float(teacher.head * self.bytes)
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
        teacher_weights: How the teachers are held.
    """

    student: Figures
    teachers: tuple[Figures, ...]
    layout: Layout
    teacher_weights: TeacherWeights = TeacherWeights()

    @cached_property
    def terms(self) -> dict[str, float]:
        """Bytes by what they hold, those of 0 left out.

        Weights P/s, gradients P'/s and AdamW's two moments 2P'/s; P' are trained, s the shards.
        Around sharded weights lie the root, whole, one block at work and the next on its way, with
        their gradients in the backward pass.
        """
        layout, student = self.layout, self.student
        gradients = student.trainable * layout.weight_bytes
        gathered = 0.0
        if layout.weight_shards > 1:
            share = 1 + student.trainable / student.parameters
            gathered = (student.root + 2 * student.block) * layout.weight_bytes * share
        terms = {
            "weights": student.parameters * layout.weight_bytes / layout.weight_shards,
            "gradients": gradients / layout.state_shards,
            "optimiser state": student.trainable * layout.state_bytes / layout.state_shards,
            "buckets of gradients": gradients if layout.strategy == "ddp" else 0.0,
            "gathered weights and gradients": gathered,
            "teachers": sum(self.teacher_weights.held(teacher) for teacher in self.teachers),
        }
        return {name: size for name, size in terms.items() if size}

    @property
    def bytes(self) -> float:
        """All of it."""
        return sum(self.terms.values())
