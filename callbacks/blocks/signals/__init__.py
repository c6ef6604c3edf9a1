"""What can be asked of every block, one signal per file."""

from callbacks.blocks.signals.attribution import Attribution
from callbacks.blocks.signals.base import BlockAccess, BlockSignal, RecordedSignal, RerunSignal
from callbacks.blocks.signals.block_grad_norm import BlockGradNorm
from callbacks.blocks.signals.block_mope import BlockMoPe
from callbacks.blocks.signals.block_swap import BlockSwap
from callbacks.blocks.signals.hidden_probe import HiddenProbe
from callbacks.blocks.signals.logit_lens import LogitLens
from callbacks.blocks.signals.residual_norm import ResidualNorm
from callbacks.blocks.signals.tuned_lens import TunedLens

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
