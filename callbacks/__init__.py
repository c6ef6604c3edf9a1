"""What watches: audits at every validation, their statistics, and their tables."""

from callbacks.blocks.callback import BlockAudit
from callbacks.membership.callback import MembershipAudit
from callbacks.memorization.callback import MemorizationAudit
from callbacks.memorization.exposure_callback import ExposureAudit
from callbacks.throughput.callback import Throughput
from callbacks.utility.callback import UtilityAudit

__all__ = [
    "BlockAudit",
    "ExposureAudit",
    "MembershipAudit",
    "MemorizationAudit",
    "Throughput",
    "UtilityAudit",
]
