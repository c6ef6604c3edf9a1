"""A workplace of two small models over the built-in corpus."""

from pathlib import Path

import pytest
import torch

from benchmarks.lightning_step import Workplace, prepare


@pytest.fixture(scope="package")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """48 records of the built-in corpus, 1,050 tokens, one block each."""
    torch.set_num_threads(1)
    folder: Path = tmp_path_factory.mktemp("workplace")
    return prepare(folder, None, None, 48, 1050, ((1, 16, 2), (1, 32, 2)))
