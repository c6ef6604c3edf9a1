"""What watches: audits at every validation, their statistics, and their tables."""

from callbacks.membership.callback import MembershipAudit
from callbacks.utility.callback import UtilityAudit

__all__ = ["MembershipAudit", "UtilityAudit"]
