"""What was fitted to measurements: `python -m benchmarks.estimates` says what it should be."""

from dataclasses import dataclass

__all__ = ["FITTED", "LARGEST_ERROR", "MEASURED_ON", "Fitted"]


@dataclass(frozen=True)
class Fitted:
    """What counting alone does not tell.

    Attributes:
        kept_factor: Resident bytes of kept activations over those that autograd was counted to
            keep.
        temporary_widths: Gradients as wide as the feed-forward part that exist at once when the
            backward pass begins.
        process_bytes: Records, tokenizer and bookkeeping of a small run.
    """

    kept_factor: float
    temporary_widths: float
    process_bytes: float


FITTED = Fitted(kept_factor=1.015, temporary_widths=0.762, process_bytes=8.6e6)

LARGEST_ERROR = 0.05
"""Largest relative error of a measured peak, each left out of the fit that estimates it."""

MEASURED_ON = "one CPU process in float32"
"""Where the peaks were measured."""
