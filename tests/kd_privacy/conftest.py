"""The small studies of the studies tests, and the tokenizer of the small models."""

import json

import pytest
from transformers import PreTrainedTokenizerFast

from datamodules.tokenizer import train_tokenizer
from tests.kd_privacy.small_models import MEMBERS, NONMEMBERS
from tests.studies.conftest import (
    finished,
    finished_runs,
    plan_of,
    planted,
    project,
    tables,
    without_pictures,
)

__all__ = [
    "finished",
    "finished_runs",
    "plan_of",
    "planted",
    "project",
    "tables",
    "without_pictures",
]


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of 400 tokens, trained on the rows of both sides."""
    return train_tokenizer([json.dumps(row) for row in MEMBERS + NONMEMBERS], 400)
