"""What an audit says while it runs: what it is about to do, how long that takes, and bars."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from time import perf_counter

from rich.console import Console
from rich.progress import Progress

from audits.context import AuditContext
from audits.scoring.scoring_pass import score_records
from kd_privacy.audited_model import AuditedModel, dtype_of
from kdmodules.models.causal_lm import model_device

_TIMED_RECORDS = 8


class AuditProgress:
    """Lines and bars on standard error, or none.

    Args:
        shown: Whether there are any.
    """

    def __init__(self, shown: bool) -> None:
        self.shown = shown
        self.display = Progress(console=Console(stderr=True), transient=True, disable=not shown)

    def say(self, what: str, line: str) -> None:
        """Writes a line, its first words in a column of their own."""
        if self.shown:
            text = f"{what:<14}  {line}"
            self.display.console.print(text, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def bar(self, title: str, total: int) -> Iterator[Callable[[], None]]:
        """Shows a named bar of so many steps, and yields what advances it by one."""
        task = self.display.add_task(title, total=total)
        try:
            yield lambda: self.display.advance(task)
        finally:
            self.display.remove_task(task)


def model_line(audited: AuditedModel) -> str:
    """Returns what a model is, how large, and where."""
    lm = audited.context.model.lm
    millions = sum(one.numel() for one in lm.model.parameters()) / 1e6
    about = (lm.model.config.model_type, f"{millions:.3g} M parameters", dtype_of(lm))
    return f"{audited.source} ({', '.join(about)}, {model_device(lm)})"


def pass_seconds(audited: AuditedModel) -> float:
    """Returns about how long one forward pass over all audited records takes."""
    return audited.load.tokens * _seconds_per_token(audited.context)


def _seconds_per_token(context: AuditContext) -> float:
    """Times a small batch, after one record that warms up."""
    records = context.answered("held_out")[:_TIMED_RECORDS]
    encoded = context.model.encoder.encode_all(records)
    quiet = replace(context.model, progress=lambda title, total: nullcontext(lambda: None))
    score_records(quiet, encoded[:1], "warming up")
    start = perf_counter()
    score_records(quiet, encoded, "timing")
    return (perf_counter() - start) / sum(len(one) for one in encoded)


def duration(seconds: float) -> str:
    """Says a time as one does.

    >>> duration(0.2), duration(75), duration(4000)
    ('1 s', '75 s', '67 min')
    """
    return f"{max(1, round(seconds))} s" if seconds < 120 else f"{round(seconds / 60)} min"
