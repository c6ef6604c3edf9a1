"""Models from a hub cache without a network: branches, revisions and subfolders."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from kdmodules.models.network import Network, build_network
from kdmodules.models.weight_files import find_weight_files
from tests.kdmodules.conftest import TINY
from tests.kdmodules.models.test_strict_loading import refusal


@pytest.fixture
def hub(
    family_model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> SimpleNamespace:
    """A hub cache without a network: main, and a tag v1 that has a subfolder too."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    repository = tmp_path / "cache" / "models--owner--name"
    models = {}
    for number, name in enumerate(("main", "v1", "v1/half")):
        reference, _, subfolder = name.partition("/")
        commit = f"{number if not subfolder else 1}" * 40
        place = repository / "snapshots" / commit / subfolder
        own = Network(family_model.config.model_type, None, TINY[family_model.config.model_type])
        models[name] = build_network(own, tokenizer, seed=number)
        models[name].save_pretrained(place)
        tokenizer.save_pretrained(place)
        (repository / "refs").mkdir(exist_ok=True)
        (repository / "refs" / reference).write_text(commit)
    return SimpleNamespace(models=models, snapshots=repository / "snapshots")


@pytest.mark.parametrize(
    ("source", "name"),
    [("owner/name", "main"), ("owner/name@v1", "v1"), ("owner/name@v1:half", "v1/half")],
)
def test_a_hub_cache_serves_revisions_and_subfolders(
    hub: SimpleNamespace, source: str, name: str, tokenizer: PreTrainedTokenizerFast
) -> None:
    expected = hub.models[name].state_dict()
    network = Network(hub.models[name].config.model_type, source)
    found = build_network(network, tokenizer, 0).state_dict()
    assert all(torch.equal(found[key], value) for key, value in expected.items())
    files = find_weight_files(source, {})
    assert files is not None
    assert all(
        torch.equal(files.rows(key, 0, len(value)), value)
        for key, value in hub.models[name].named_parameters()
    )
    shutil.rmtree(hub.snapshots)
    assert "cannot be loaded" in refusal(source)
