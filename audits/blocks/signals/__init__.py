"""What can be asked of every block, one signal per file."""

from audits.blocks.signals.attribution import Attribution as Attribution
from audits.blocks.signals.base import BlockAccess as BlockAccess
from audits.blocks.signals.base import BlockSignal as BlockSignal
from audits.blocks.signals.base import RecordedSignal as RecordedSignal
from audits.blocks.signals.base import RerunSignal as RerunSignal
from audits.blocks.signals.block_grad_norm import BlockGradNorm as BlockGradNorm
from audits.blocks.signals.block_mope import BlockMoPe as BlockMoPe
from audits.blocks.signals.block_swap import BlockSwap as BlockSwap
from audits.blocks.signals.hidden_probe import HiddenProbe as HiddenProbe
from audits.blocks.signals.logit_lens import LogitLens as LogitLens
from audits.blocks.signals.residual_norm import ResidualNorm as ResidualNorm
from audits.blocks.signals.tuned_lens import TunedLens as TunedLens
