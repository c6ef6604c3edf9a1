"""What watches: audits at every validation, their statistics, and their tables."""

from callbacks.blocks import BlockAudit
from callbacks.exposure import ExposureAudit
from callbacks.membership import MembershipAudit
from callbacks.memorization import MemorizationAudit
from callbacks.throughput import Throughput
from callbacks.utility import UtilityAudit

__all__ = [
    "BlockAudit",
    "ExposureAudit",
    "MembershipAudit",
    "MemorizationAudit",
    "Throughput",
    "UtilityAudit",
]
