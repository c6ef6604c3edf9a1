"""The statistics of an audit under the name that scripts know them by; see `audits.statistics`."""

from audits.statistics import *  # noqa: F403
from audits.statistics import __all__ as __all__
