"""Memory of one device in a training run, term by term.

A term is held throughout or in one phase of the run; the peak is what is held throughout and the
largest phase. The phases, in the order of a step: `sampling` (responses are written), `teacher`
(its forward pass), `forward` (the student's, ending with the loss and its gradient by the head),
`backward` (its beginning, when everything is kept still), `update` (the optimiser); and `audit`.
Lightning clears a step's gradients between the next step's forward and backward pass, so that they
are there in every phase but the backward.

Not counted: the interpreter and its libraries, a CUDA context, a large data set, and what
allocators hold beyond what is asked of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from kdmodules.losses.reduction import (
    ACCELERATOR_CHUNK_BYTES,
    CPU_CHUNK_BYTES,
    CPU_TILE_BYTES,
)
from studies.run.estimates.fitted import FITTED, Fitted
from studies.run.estimates.layout import Layout
from studies.run.estimates.networks import Figures
from studies.run.estimates.training_run import TrainingRun

__all__ = ["MemoryEstimate", "Term", "estimate_memory"]

HELD, SAMPLING, TEACHER, FORWARD, BACKWARD, UPDATE, AUDIT = (
    *("held", "sampling", "teacher", "forward"),
    *("backward", "update", "audit"),
)


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
        """What is held in a phase, beside what is held throughout."""
        return sum(term.bytes for term in self.terms if term.phase == phase)

    @property
    def peak_phase(self) -> str:
        """The phase that holds most."""
        phases = [term.phase for term in self.terms if term.phase != HELD]
        return max(phases, key=self.phase_bytes)

    @property
    def bytes(self) -> float:
        """The peak."""
        return self.phase_bytes(HELD) + self.phase_bytes(self.peak_phase)


def estimate_memory(run: TrainingRun, fitted: Fitted = FITTED) -> MemoryEstimate:
    """Adds up what one device holds.

    Args:
        run: What it follows from.
        fitted: What was measured and not counted.

    Returns:
        All terms, those of 0 bytes left out.
    """
    terms = [
        Term("the process", HELD, fitted.process_bytes),
        *_state(run),
        *_gathered(run),
        *_activations(run, fitted),
        *_head(run),
        *_teacher_pass(run),
        *_update(run),
        *_written(run),
        *_audit(run),
    ]
    return MemoryEstimate(tuple(term for term in terms if term.bytes))


def _state(run: TrainingRun) -> list[Term]:
    """Weights P/s, AdamW's two moments 2P'/s, gradients P'/s; P' are trained, s the shards."""
    layout, student = run.layout, run.student
    gradients = student.trainable * layout.weight_bytes
    phases = [SAMPLING, TEACHER, FORWARD, UPDATE, AUDIT]
    if run.accumulate > 1:
        phases.append(BACKWARD)
    buckets = gradients if layout.strategy == "ddp" else 0
    home = run.teacher_home
    teachers = sum(home.held(one) for one in run.teachers)
    homes = (SAMPLING, AUDIT) if home.cached else (HELD,)
    heads = sum(one.vocabulary * one.head_width * home.bytes for one in run.teachers)
    return [
        Term("weights", HELD, student.parameters * layout.weight_bytes / layout.weight_shards),
        Term("optimiser state", HELD, student.trainable * layout.state_bytes / layout.state_shards),
        Term("buckets of gradients", HELD, buckets),
        *(Term("teachers", phase, teachers) for phase in homes),
        Term("teachers' heads", HELD, heads if home.cached else 0.0),
        *(Term("gradients", phase, gradients / layout.state_shards) for phase in phases),
    ]


def _gathered(run: TrainingRun) -> list[Term]:
    """What lies around sharded weights: the root whole, one block at work and the next on its way.

    In the backward pass the gradients of both are whole too, before they are dealt out.
    """
    layout, student = run.layout, run.student
    terms = []
    if layout.weight_shards > 1:
        whole = (student.root + 2 * student.block) * layout.gathered_bytes
        trained = student.trainable / student.parameters
        root = student.root if student.head_trained else 0
        gradients = (root + 2 * student.block * trained) * layout.gathered_bytes
        terms += [Term("gathered weights", phase, whole) for phase in (FORWARD, BACKWARD)]
        terms += [Term("gathered weights", phase, whole) for phase in (SAMPLING, AUDIT)]
        terms.append(Term("whole gradients", BACKWARD, gradients))
    if layout.casts:
        blocks = 1 if run.checkpointed else student.depth
        cast = run.kept.cast * blocks
        terms += [Term("weights cast by autocast", phase, cast) for phase in (FORWARD, BACKWARD)]
    return terms


def _activations(run: TrainingRun, fitted: Fitted) -> list[Term]:
    """Kept: tokens x depth x a block's; or the blocks' inputs, and one block's when redone."""
    student, kept = run.student, run.kept
    attention = kept.attention * run.tokens if run.layout.on_cpu else 0.0
    block = kept.block + attention
    each = student.width * run.layout.activation_bytes if run.checkpointed else block
    tokens = fitted.kept_factor * run.kept_tokens
    saved = tokens * (student.depth * each + max(0.0, kept.outside))
    redone = tokens * block if run.checkpointed else 0.0
    wide = run.kept_tokens * student.inner * run.layout.activation_bytes
    return [
        *(Term("activations", phase, saved) for phase in (FORWARD, BACKWARD)),
        Term("activations of a recomputed block", BACKWARD, redone),
        Term("gradients of activations", BACKWARD, fitted.temporary_widths * wide),
    ]


def _head(run: TrainingRun) -> list[Term]:
    """The chunked reduction: [N, D] states and their gradient, [V, D], and buffers of chunks.

    N is at most the batch's tokens. No [N, V] tensor exists (`kdmodules.losses.reduction`).
    """
    student, layout = run.student, run.layout
    scored = run.kept_tokens if run.scored is None else run.scored
    row = 4 * student.vocabulary
    states = scored * student.head_width * (layout.activation_bytes + 4)
    gradient = 4.0 * student.vocabulary * student.head_width if student.head_trained else 0.0
    budget = CPU_CHUNK_BYTES if layout.on_cpu else ACCELERATOR_CHUNK_BYTES
    tile_budget = CPU_TILE_BYTES if layout.on_cpu else ACCELERATOR_CHUNK_BYTES
    chunk, tile = (min(scored, max(1, one // row)) * row for one in (budget, tile_budget))
    # Logits of a chunk for each model; of a tile the log-probabilities of both sides, the
    # gradient, and what an objective forms it from.
    buffers = (1 + len(run.teachers)) * chunk + (4 if run.teachers else 2) * tile
    teacher_states = sum(scored * one.head_width * layout.activation_bytes for one in run.teachers)
    widened = 0 if layout.on_cpu or not layout.is_half else 2 * student.vocabulary
    return [
        *(Term("states before the head", phase, states) for phase in (FORWARD, BACKWARD)),
        *(Term("gradient of the head", phase, gradient) for phase in (FORWARD, BACKWARD)),
        Term("chunks of logits", FORWARD, buffers),
        Term("16-bit head", FORWARD, widened * student.head_width),
        Term("teachers' states", FORWARD, teacher_states),
    ]


def _teacher_pass(run: TrainingRun) -> list[Term]:
    """Working memory of the largest teacher's forward pass, which keeps nothing."""
    if run.teacher_home.cached:
        return []
    working = [
        _passing_bytes(one, run.kept_tokens, run.layout) + run.teacher_home.visiting(one)
        for one in run.teachers
    ]
    return [Term("forward pass without gradient", TEACHER, max(working, default=0.0))]


def _passing_bytes(network: Figures, tokens: int, layout: Layout) -> float:
    """Working memory of a forward pass without gradient: two residual streams, two inner layers."""
    widths = max(2 * network.width + 2 * network.inner, 6 * network.width)
    return float(tokens * widths * layout.activation_bytes)


def _update(run: TrainingRun) -> list[Term]:
    """Off the CPU, AdamW forms its denominators for all weights at once."""
    layout = run.layout
    size = 0 if layout.on_cpu else run.student.trainable * layout.weight_bytes
    return [Term("denominators of the update", UPDATE, size / layout.state_shards)]


def _cache_bytes(networks: Sequence[Figures], tokens: int, layout: Layout) -> float:
    """Keys and values of all blocks: tokens x 2 x depth x width."""
    widths = sum(2 * one.depth * one.kv_width for one in networks)
    return float(tokens * widths * layout.activation_bytes)


def _written(run: TrainingRun) -> list[Term]:
    sampling = run.sampling
    if sampling is None:
        return []
    tokens = sampling.rows * sampling.tokens
    prompts = max(_passing_bytes(one, tokens, run.layout) for one in sampling.writers)
    whole = max((run.teacher_home.visiting(one) for one in run.teachers), default=0.0)
    return [
        Term("keys and values", SAMPLING, _cache_bytes(sampling.writers, tokens, run.layout)),
        Term("forward pass without gradient", SAMPLING, prompts),
        Term("gathered blocks of a teacher", SAMPLING, whole),
    ]


def _audit(run: TrainingRun) -> list[Term]:
    audit = run.audit
    if audit is None:
        return []
    cache = _cache_bytes([run.student], audit.tokens, run.layout) if audit.writes else 0.0
    return [
        Term("forward pass", AUDIT, _passing_bytes(run.student, audit.tokens, run.layout)),
        Term("keys and values", AUDIT, cache),
        Term("reference model", AUDIT, 4 * audit.reference / run.layout.weight_shards),
    ]
