"""What can be asked of every block, one signal per file."""

from audits.blocks.signals.attribution import Attribution
from audits.blocks.signals.base import BlockAccess, BlockSignal, RecordedSignal, RerunSignal
from audits.blocks.signals.block_grad_norm import BlockGradNorm
from audits.blocks.signals.block_mope import BlockMoPe
from audits.blocks.signals.block_swap import BlockSwap
from audits.blocks.signals.hidden_probe import HiddenProbe
from audits.blocks.signals.logit_lens import LogitLens
from audits.blocks.signals.residual_norm import ResidualNorm
from audits.blocks.signals.tuned_lens import TunedLens

__all__ = [
    "Attribution",
    "BlockAccess",
    "BlockGradNorm",
    "BlockMoPe",
    "BlockSignal",
    "BlockSwap",
    "HiddenProbe",
    "LogitLens",
    "RecordedSignal",
    "RerunSignal",
    "ResidualNorm",
    "TunedLens",
]
