"""A start without noise: what libraries say that no user of these commands can act on."""

import logging
import re
import sys
import threading
import warnings

from common.errors import mistake_behind

_LOGGERS = ("lightning.pytorch", "lightning.fabric")

_SAID = re.compile(
    # Adverts.
    "💡 Tip: For seamless cloud |"
    # The four lines at the start say it.
    "(GPU|TPU) available: |Seed set to \\d|"
    # Steps of Lightning's own, of which the next line or the bar tells.
    "Loading `train_dataloader` to estimate number of stepping batches\\.|"
    "Restoring states from the checkpoint path at |"
    "`Trainer\\.fit` stopped: `max_(steps|epochs)=\\d+` reached\\.|"
    # The line of the interruption itself says it, and how to go on.
    "\\n?Detected KeyboardInterrupt, attempting graceful shutdown"
)

_WARNED = (
    # Lightning's own use of PyTorch.
    (
        r"`isinstance\(treespec, LeafSpec\)` is deprecated",
        r"lightning\.pytorch\.utilities\._pytree",
    ),
    # Of runs of a few steps; the last losses stand in the bar.
    (
        r"The number of training batches \(\d+\) is smaller than the logging interval",
        r"lightning\.pytorch\.loops\.fit_loop",
    ),
    # Of a validation with other audits than the fit had, as is its purpose.
    (
        r"Be aware that when using `ckpt_path`, callbacks used to create the checkpoint need",
        r"lightning\.pytorch\.trainer\.call",
    ),
)
"""Beginnings of warnings, and the modules that give them."""


class _StandardError:
    """Standard error as it is when something is written: a bar may stand in for it."""

    def write(self, text: str) -> None:
        sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


def quieten() -> None:
    """Leaves out single messages of libraries, each named above; everything else is still said."""
    for message, module in _WARNED:
        warnings.filterwarnings("ignore", message=message, module=module)
    for name in _LOGGERS:
        for handler in logging.getLogger(name).handlers:
            if type(handler) is logging.StreamHandler:  # Lightning's own; others know their place
                handler.setStream(_StandardError())
                handler.filters = [_is_told]
    threading.excepthook = _tell_thread


def _is_told(record: logging.LogRecord) -> bool:
    return not _SAID.match(record.getMessage())


def _tell_thread(error: threading.ExceptHookArgs) -> None:
    """Leaves out a full disk: who gave a thread something to write is told of it, and says so."""
    if mistake_behind(error.exc_value) is None:
        threading.__excepthook__(error)
