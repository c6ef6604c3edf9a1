"""Weights that do not fit are never used: folders, shards, pickles, adapters and checkpoints."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from common.errors import UserError
from kdmodules.models.adapters import Adapter
from kdmodules.models.blueprint import source_blueprint
from kdmodules.models.checkpoints import (
    METADATA_KEY,
    checkpoint_metadata,
    require_checkpoint_fits,
)
from kdmodules.models.network import Network, build_network, load_model
from kdmodules.models.weight_files import find_weight_files
from tests.kdmodules.conftest import TINY

Weights = dict[str, Tensor]
FILE = "model.safetensors"
BLOCKS = {"gpt2": "transformer.h", "opt": "model.decoder.layers", "llama": "model.layers"}


@pytest.fixture
def folder(family_model: PreTrainedModel, tmp_path: Path) -> Path:
    family_model.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def rewrite(folder: Path, change: Callable[[Weights], Weights], name: str = FILE) -> None:
    save_file(change(load_file(folder / name)), folder / name, metadata={"format": "pt"})


def refusal(source: Path | str, allow_pickle: bool = False) -> str:
    """The one line by which a source is refused, whole and by files alike."""
    assert find_weight_files(str(source), {}) is None
    with pytest.raises(UserError) as caught:
        source_blueprint(str(source), allow_pickle).build()
    line = str(caught.value)
    assert "\n" not in line
    return line


def half_the_blocks(weights: Weights) -> Weights:
    return {
        name: value
        for name, value in weights.items()
        if not any(f"{blocks}.1." in name for blocks in BLOCKS.values())
    }


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod."])
def test_prefixed_names_are_refused_and_the_prefix_named(
    folder: Path, prefix: str, capfd: pytest.CaptureFixture[str]
) -> None:
    rewrite(folder, lambda weights: {prefix + name: value for name, value in weights.items()})
    line = refusal(folder)
    assert f"begins with '{prefix}'" in line
    rest = re.search(r", and (\d+) more;", line)
    assert rest is not None
    # A tied head counts too; names that end like a mask that GPT-2 once stored do not.
    assert abs(int(rest.group(1)) + 3 - 2 * len(load_file(folder / FILE))) <= 2
    assert line.count(" is missing") + line.count(" is unexpected") == 3
    assert "LOAD REPORT" not in capfd.readouterr().err


def test_missing_blocks_are_refused(folder: Path) -> None:
    rewrite(folder, half_the_blocks)
    line = refusal(folder)
    assert ".1." in line
    assert "is missing" in line
    assert "unexpected" not in line


def test_weights_that_no_module_takes_are_refused(folder: Path) -> None:
    rewrite(folder, lambda weights: {**weights, "extra.weight": torch.ones(2)})
    assert refusal(folder).endswith("extra.weight is unexpected")


def test_another_shape_is_refused_with_both(folder: Path) -> None:
    name = next(
        name
        for name in load_file(folder / FILE)
        if name.endswith("norm.weight") or "ln_f.weight" in name
    )
    rewrite(folder, lambda weights: {**weights, name: torch.ones(7)})
    assert f"{name} has the shape [7], not [32]" in refusal(folder)


def test_what_the_architecture_ignores_is_ignored(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    model = build_network(Network("gpt2", None, TINY["gpt2"]), tokenizer, 1)
    model.save_pretrained(tmp_path)
    mask = torch.ones(1, 1, 128, 128).tril()
    rewrite(tmp_path, lambda weights: {**weights, "transformer.h.0.attn.bias": mask})
    assert find_weight_files(str(tmp_path), {}) is not None
    assert torch.equal(load_model(str(tmp_path)).lm_head.weight, model.lm_head.weight)


@pytest.mark.parametrize("family", ["gpt2", "opt"])
def test_a_head_that_differs_from_its_tied_embedding_is_refused(
    family: str, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    model = build_network(Network(family, None, TINY[family]), tokenizer, 1)
    model.save_pretrained(tmp_path)
    embedding = model.get_input_embeddings().weight.detach()
    rewrite(tmp_path, lambda weights: {**weights, "lm_head.weight": embedding.clone()})
    assert torch.equal(load_model(str(tmp_path)).get_output_embeddings().weight, embedding)
    other = embedding.clone()
    other[[3, 8]] += 1
    rewrite(tmp_path, lambda weights: {**weights, "lm_head.weight": other})
    line = refusal(tmp_path)
    assert "tie_word_embeddings" in line
    assert "lm_head.weight differs from" in line
    assert "in 2 of 300 rows" in line
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}))
    assert torch.equal(load_model(str(tmp_path)).get_output_embeddings().weight, other)


def sharded(model: PreTrainedModel, folder: Path) -> list[Path]:
    model.save_pretrained(folder, max_shard_size="30KB")
    files = sorted(folder.glob("model-*.safetensors"))
    assert len(files) > 1
    return files


def test_shards_load_and_a_missing_one_is_refused(
    family_model: PreTrainedModel, tmp_path: Path
) -> None:
    files = sharded(family_model, tmp_path)
    loaded = load_model(str(tmp_path)).state_dict()
    assert all(torch.equal(loaded[n], value) for n, value in family_model.state_dict().items())
    assert find_weight_files(str(tmp_path), {}) is not None
    files[-1].unlink()
    assert files[-1].name in refusal(tmp_path)


def test_a_shard_without_its_tensors_is_refused(
    family_model: PreTrainedModel, tmp_path: Path
) -> None:
    file = sharded(family_model, tmp_path)[-1]
    first = next(iter(load_file(file)))
    rewrite(
        tmp_path,
        lambda weights: {n: v for n, v in weights.items() if n != first} or {"x": torch.ones(1)},
        file.name,
    )
    assert "is missing" in refusal(tmp_path)


def test_a_damaged_file_is_refused(folder: Path) -> None:
    (folder / FILE).write_bytes((folder / FILE).read_bytes()[:500])
    assert "cannot be loaded" in refusal(folder)


def pickled(folder: Path) -> None:
    """Leaves the folder's weights in a pickle alone."""
    torch.save(load_file(folder / FILE), folder / "pytorch_model.bin")
    (folder / FILE).unlink()


def test_pickles_are_read_by_request_alone(
    folder: Path, family_model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    pickled(folder)
    tokenizer.save_pretrained(folder)
    assert "allow_pickle: true" in refusal(folder)
    network = Network(family_model.config.model_type, str(folder), allow_pickle=True)
    loaded = build_network(network, tokenizer, 0).state_dict()
    assert all(torch.equal(loaded[n], value) for n, value in family_model.state_dict().items())


def test_pickled_weights_have_to_fit_too(folder: Path) -> None:
    rewrite(folder, half_the_blocks)
    pickled(folder)
    assert "is missing" in refusal(folder, allow_pickle=True)


class Harm:
    """What a pickle may hold: something to be run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.path,))


def test_a_pickle_runs_nothing(folder: Path, tmp_path: Path) -> None:
    (folder / FILE).unlink()
    torch.save({"harm": Harm(tmp_path / "ran")}, folder / "pytorch_model.bin")
    assert "cannot be loaded" in refusal(folder, allow_pickle=True)
    torch.save({"harm": Harm(tmp_path / "ran"), METADATA_KEY: {}}, tmp_path / "last.ckpt")
    assert "cannot be read" in refusal(tmp_path / "last.ckpt")
    assert not (tmp_path / "ran").exists()


@pytest.fixture
def adapter(family_model: PreTrainedModel, folder: Path, tmp_path: Path) -> Path:
    """PEFT's folder of an adapter on the model of the folder."""
    family = family_model.config.model_type
    targets = {"gpt2": ["c_attn"]}.get(family, ["q_proj", "v_proj"])
    config = LoraConfig(r=2, target_modules=targets, init_lora_weights=False)
    model = load_model(str(folder))
    model.name_or_path = str(folder)
    theirs = get_peft_model(model, config)
    theirs.save_pretrained(tmp_path / "adapter")
    load_model(str(tmp_path / "adapter"))
    return tmp_path / "adapter"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda all: {f"module.{n}": v for n, v in all.items()}, "begins with 'module.'"),
        (lambda all: {n: v for n, v in all.items() if ".0." in n}, "is missing"),
        (lambda all: {**all, "base_model.model.x": torch.ones(1)}, "model.x is unexpected"),
        (
            lambda all: {n: v[:1].clone() if "lora_A" in n else v for n, v in all.items()},
            "not [2, 32]",
        ),
    ],
    ids=["prefixed", "half", "extra", "shape"],
)
def test_an_adapter_has_to_fit_its_base(
    adapter: Path, change: Callable[[Weights], Weights], told: str
) -> None:
    rewrite(adapter, change, "adapter_model.safetensors")
    assert told in refusal(adapter)


def test_a_pickled_adapter_is_read_by_request_alone(adapter: Path) -> None:
    file = adapter / "adapter_model.safetensors"
    expected = load_model(str(adapter)).state_dict()
    torch.save(load_file(file), adapter / "adapter_model.bin")
    file.unlink()
    assert "allow_pickle: true" in refusal(adapter)
    found = load_model(str(adapter), allow_pickle=True).state_dict()
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_an_adapter_on_a_broken_base_is_refused(adapter: Path, folder: Path) -> None:
    rewrite(folder, half_the_blocks)
    assert str(folder) in refusal(adapter)


def saved(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, path: Path) -> Weights:
    state = {f"lm.model.{name}": value for name, value in model.state_dict().items()}
    torch.save({"state_dict": state, METADATA_KEY: checkpoint_metadata(model, tokenizer)}, path)
    return state


def test_a_checkpoint_without_half_its_blocks_is_refused(
    family_model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    path = tmp_path / "last.ckpt"
    state = saved(family_model, tokenizer, path)
    metadata = checkpoint_metadata(family_model, tokenizer)
    torch.save({"state_dict": half_the_blocks(state), METADATA_KEY: metadata}, path)
    assert ".1." in refusal(path)
    half = {"state_dict": half_the_blocks(state), METADATA_KEY: metadata}
    with pytest.raises(UserError, match=r"\.1\..*is missing"):
        require_checkpoint_fits(half, lambda: state, metadata)


def test_a_checkpoint_of_another_network_is_refused_though_its_shapes_fit(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    def built(**changes: int | float) -> PreTrainedModel:
        return build_network(Network("gpt2", None, {**TINY["gpt2"], **changes}), tokenizer, 1)

    state = {f"lm.model.{name}": value for name, value in built().state_dict().items()}
    written = {"state_dict": state, METADATA_KEY: checkpoint_metadata(built(), tokenizer)}
    require_checkpoint_fits(
        written, lambda: state, checkpoint_metadata(built(attn_pdrop=0.4), tokenizer)
    )
    with pytest.raises(UserError, match="its n_head is 2, this run's is 4"):
        require_checkpoint_fits(
            written, lambda: state, checkpoint_metadata(built(n_head=4), tokenizer)
        )
    other = checkpoint_metadata(built(), tokenizer) | {"vocabulary_hash": "another"}
    with pytest.raises(UserError, match="another vocabulary"):
        require_checkpoint_fits(written, lambda: state, other)
    adapted = Network("gpt2", None, TINY["gpt2"], adapter=Adapter())
    model = build_network(adapted, tokenizer, 1)
    fresh = {f"lm.model.{name}": value for name, value in model.state_dict().items()}
    with pytest.raises(UserError, match="base_layer.bias is missing"):
        require_checkpoint_fits(written, lambda: fresh, checkpoint_metadata(model, tokenizer))


def test_a_checkpoint_of_an_adapter_at_another_scale_is_refused(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    def adapted(**changes: float) -> tuple[Weights, dict[str, Any]]:
        own = Network("gpt2", None, TINY["gpt2"], adapter=Adapter(**changes))
        model = build_network(own, tokenizer, 1)
        state = {f"lm.model.{name}": value for name, value in model.state_dict().items()}
        return state, checkpoint_metadata(model, tokenizer)

    state, metadata = adapted(alpha=64)
    written = {"state_dict": state, METADATA_KEY: metadata}
    require_checkpoint_fits(written, lambda: state, adapted(alpha=64, dropout=0.4)[1])
    with pytest.raises(UserError, match="its adapter's alpha is 64, this run's is 32"):
        require_checkpoint_fits(written, lambda: state, adapted(alpha=32)[1])


def test_code_that_a_folder_brings_is_not_run(folder: Path, tmp_path: Path) -> None:
    """Nor is anybody asked whether it should be."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    custom = {"AutoConfig": "custom.Config", "AutoModelForCausalLM": "custom.Model"}
    changed = {**config, "model_type": "custom", "auto_map": custom}
    (folder / "config.json").write_text(json.dumps(changed), encoding="utf-8")
    code = f"from pathlib import Path\nPath({str(tmp_path / 'ran')!r}).touch()\n"
    (folder / "custom.py").write_text(code, encoding="utf-8")
    assert "custom code" in refusal(folder)
    assert not (tmp_path / "ran").exists()
