"""Response sources: who wrote the responses that a student trains on."""

from kdmodules.responses.dataset import DatasetResponses
from kdmodules.responses.source import ResponseContext, ResponseSource

__all__ = ["DatasetResponses", "ResponseContext", "ResponseSource"]
