"""How much a run computes, in units that compare the cells of one study."""

from dataclasses import dataclass

from datamodules.instruction import InstructionDataModule
from datamodules.split_options import Fractions
from datamodules.synthetic import BUILTIN
from studies.plan.settings import Settings, default_of
from studies.run.estimates.networks import Figures

__all__ = ["Work", "trained_split", "work_of"]

_SPLIT_OF = {"TeacherModule": "private", "StudentModule": "public"}
# What Lightning trains for where neither epochs nor steps are given.
_UNBOUNDED_EPOCHS = 1000


@dataclass(frozen=True)
class Work:
    """Work of a run.

    Attributes:
        unit: Runs compare within a unit: "records" counts them, "share" is a share of a source of
            unknown size.
        amount: Parameters x passes x records that are served, with a forward and backward pass at
            3 and a forward pass at 1.
    """

    unit: str
    amount: float


def trained_split(settings: Settings) -> str:
    """Returns the split that a run trains on."""
    return settings.text("model.split", _SPLIT_OF.get(settings.class_name("model"), "public"))


def global_batch(settings: Settings) -> int:
    """Returns the records of an optimiser step over all devices."""
    batch = settings.count("data.batch_size", default_of(InstructionDataModule, "batch_size"))
    return batch * settings.count("data.published_devices", 1)


def work_of(settings: Settings, student: Figures, teachers: tuple[Figures, ...]) -> Work | None:
    """Measures a run: parameters x tokens x updates, its tokens in records of one mean length.

    Args:
        settings: The run's.
        student: The network that is trained.
        teachers: Those that run forward beside it.

    Returns:
        The work; None where the split's size is said neither in records nor as a share.
    """
    passes = 3 * student.parameters + sum(one.parameters for one in teachers)
    steps = settings.count("trainer.max_steps", -1)
    if steps > 0:
        return Work("records", float(passes * steps * global_batch(settings)))
    size = _split_size(settings, trained_split(settings))
    if size is None:
        return None
    epochs = settings.count("trainer.max_epochs", _UNBOUNDED_EPOCHS)
    return Work(size.unit, passes * size.amount * epochs)


def _split_size(settings: Settings, split: str) -> Work | None:
    if settings.text("data.splits.protocol", "swap") != "swap" or not hasattr(Fractions, split):
        return None
    pool = split in ("private", "held_out")
    cap = settings.count("data.splits.caps." + ("pool" if pool else split), 0) / (2 if pool else 1)
    parts = 1
    if split == "private" and settings.get("data.private_part") is not None:
        parts = settings.count("data.splits.private_parts", 1)
    share = settings.number(f"data.splits.fractions.{split}", getattr(Fractions, split))
    total = settings.count("data.splits.max_records", 0)
    if settings.text("data.source", BUILTIN) == BUILTIN:
        built = settings.count("data.n_records", default_of(InstructionDataModule, "n_records"))
        total = min(total or built, built)
    if total:
        return Work("records", min(share * total, cap or share * total) / parts)
    return Work("records", cap / parts) if cap else Work("share", share / parts)
