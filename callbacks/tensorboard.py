"""TensorBoard's tags: groups in the order of reading, one tag for every curve."""

from collections.abc import Mapping
from typing import Any

from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_only

_GROUPS = ("membership", "memorization", "blocks", "utility", "training")
_WITHIN = dict.fromkeys(("exposure", "released", "spans", "transfer"), "memorization")
_APART = "~"


class OrderedTensorBoard(TensorBoardLogger):
    """Numbers the groups of tags: TensorBoard shows groups by the alphabet."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Logs values under numbered tags."""
        super().log_metrics({ordered(tag): value for tag, value in metrics.items()}, step)


def ordered(tag: str) -> str:
    """Returns a tag in its group, after the group's place.

    What is no audit's is the training's. Bounds of intervals stay behind all groups.

    >>> ordered("membership/private/loss/auroc"), ordered("exposure/repeated_4")
    ('1_membership/private/loss/auroc', '2_memorization/exposure/repeated_4')
    >>> ordered("val/loss"), ordered("~bounds/membership/private/loss/auroc/lower")
    ('5_training/val/loss', '~bounds/membership/private/loss/auroc/lower')
    """
    first = tag.partition("/")[0]
    if first.startswith(_APART):
        return tag
    group = _WITHIN.get(first, first if first in _GROUPS else "training")
    place = _GROUPS.index(group) + 1
    return f"{place}_{tag}" if first == group else f"{place}_{group}/{tag}"


def tag_in(logger: Logger, tag: str) -> str:
    """Returns the tag that a logger has a figure under."""
    return ordered(tag) if isinstance(logger, OrderedTensorBoard) else tag
