"""A named progress bar for the long work inside a callback."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import RichProgressBar


@contextmanager
def progress(trainer: Trainer, description: str, total: int) -> Iterator[Callable[[], None]]:
    """Shows a named bar while the block runs.

    The bar is a task of the trainer's own rich display, since a terminal holds one at a time.

    Args:
        trainer: Whose display is used; without a rich display nothing is shown.
        description: What runs, such as "membership: scoring private".
        total: Steps until the end.

    Yields:
        A function to call after every step.
    """
    bar = trainer.progress_bar_callback
    if not isinstance(bar, RichProgressBar) or bar.is_disabled or bar.progress is None:
        yield lambda: None
        return
    display = bar.progress
    task = display.add_task(f"[{bar.theme.description}]{description}", total=total)

    def advance() -> None:
        display.update(task, advance=1)
        bar.refresh()

    try:
        yield advance
    finally:
        display.remove_task(task)
        bar.refresh()
