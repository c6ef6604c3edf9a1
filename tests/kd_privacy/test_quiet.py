"""What is left out at a start is named word for word; everything else is still said."""

import logging
import warnings
from collections.abc import Iterator

import pytest

from kd_privacy.quiet import quieten

LOGGER = logging.getLogger("lightning.pytorch")


@pytest.fixture(autouse=True)
def _alone() -> Iterator[None]:
    """One handler of its own, as Lightning has it, whatever imports and tests left there."""
    handlers, level, disabled = LOGGER.handlers, LOGGER.level, LOGGER.disabled
    LOGGER.handlers = [logging.StreamHandler()]
    LOGGER.setLevel(logging.INFO)
    LOGGER.disabled = False
    with warnings.catch_warnings():
        yield
    LOGGER.handlers = handlers
    LOGGER.setLevel(level)
    LOGGER.disabled = disabled


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("GPU available: True (cuda), used: True", False),
        ("TPU available: False, using: 0 TPU cores", False),
        ("💡 Tip: For seamless cloud logging and experiment tracking, try [x](y)", False),
        ("`Trainer.fit` stopped: `max_steps=4` reached.", False),
        ("`Trainer.fit` stopped: No training batches.", True),
        ("Restored all states from the checkpoint at x", True),
        ("note: 3 prompts are cut", True),
        ("SHIFTED DATA: what a GPU available: True would hide", True),
    ],
)
def test_adverts_are_left_out_and_nothing_else(
    line: str, *, told: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    quieten()
    quieten()  # as where one process runs several commands
    LOGGER.info(line)
    assert capsys.readouterr().err == (f"{line}\n" if told else "")


@pytest.mark.parametrize(
    ("message", "module", "told"),
    [
        (
            "`isinstance(treespec, LeafSpec)` is deprecated, use another",
            "lightning.pytorch.utilities._pytree",
            False,
        ),
        ("`isinstance(treespec, LeafSpec)` is deprecated, use another", "somebody.else", True),
        ("this loss is not a number", "lightning.pytorch.utilities._pytree", True),
        ("the weights do not fit", "transformers", True),
    ],
)
def test_a_warning_that_matters_is_still_given(message: str, module: str, *, told: bool) -> None:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        quieten()
        warnings.warn_explicit(message, UserWarning, f"{module}.py", 1, module)
    assert [str(one.message) for one in seen] == ([message] if told else [])
