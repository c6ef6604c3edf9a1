"""Membership inference: token statistics, the view that attacks read, and the attacks."""

from callbacks.membership.token_statistics import StatisticsKey, TokenStatistics
from callbacks.membership.view import AuditView

__all__ = ["AuditView", "StatisticsKey", "TokenStatistics"]
