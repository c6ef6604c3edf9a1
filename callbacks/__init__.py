"""What watches: audits at every validation, their statistics, and their tables."""

from typing import TYPE_CHECKING

from common.lazy_names import lazy_names

if TYPE_CHECKING:
    from callbacks.blocks import BlockAudit as BlockAudit
    from callbacks.exposure import ExposureAudit as ExposureAudit
    from callbacks.membership import MembershipAudit as MembershipAudit
    from callbacks.memorization import MemorizationAudit as MemorizationAudit
    from callbacks.spans import SpanAudit as SpanAudit
    from callbacks.text_bound import TextBoundAudit as TextBoundAudit
    from callbacks.throughput import Throughput as Throughput
    from callbacks.utility import UtilityAudit as UtilityAudit

_MODULES = {
    "BlockAudit": "callbacks.blocks",
    "ExposureAudit": "callbacks.exposure",
    "MembershipAudit": "callbacks.membership",
    "MemorizationAudit": "callbacks.memorization",
    "SpanAudit": "callbacks.spans",
    "TextBoundAudit": "callbacks.text_bound",
    "Throughput": "callbacks.throughput",
    "UtilityAudit": "callbacks.utility",
}
__all__ = list(_MODULES)
__getattr__, __dir__ = lazy_names(__name__, _MODULES)
