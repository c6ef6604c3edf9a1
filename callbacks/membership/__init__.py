"""Membership inference: token statistics, the view that attacks read, and the attacks."""

from callbacks.membership.statistics_file import StatisticsFile
from callbacks.membership.token_statistics import StatisticsKey, TokenStatistics
from callbacks.membership.view import AuditView

__all__ = ["AuditView", "StatisticsFile", "StatisticsKey", "TokenStatistics"]
