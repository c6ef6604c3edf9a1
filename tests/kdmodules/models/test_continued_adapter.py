"""An adapter that goes on from an init run's, as the published LoRA students do."""

import copy
import json
from pathlib import Path

import peft
import pytest
import torch
from lightning.pytorch.cli import LightningArgumentParser
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from callbacks.weights import _adapter_base
from common.errors import UserError
from kdmodules.models.adapters import Adapter, merge_adapter, save_adapter
from kdmodules.models.network import Network, build_network, load_model
from tests.configs.conftest import ROOT, build, compose, parser
from tests.kdmodules.conftest import TINY
from tests.kdmodules.models.test_adapters import ADAPTER, logits, trained

__all__ = ["parser"]

CONTINUED = Adapter(r=4, alpha=12, dropout=0.3, continued=True)


@pytest.fixture(params=sorted(TINY))
def init(request: pytest.FixtureRequest, tokenizer: PreTrainedTokenizerFast, tmp_path: Path):
    """The family, the trained init model, its base's folder and the folder that it exported."""
    family = request.param
    base, export = tmp_path / "base", tmp_path / "init" / "export"
    build_network(Network(family, None, TINY[family]), tokenizer, seed=1).save_pretrained(base)
    model = trained(family, tokenizer)
    save_adapter(model, model.state_dict(), export / "adapter", str(base))
    merge_adapter(copy.deepcopy(model)).save_pretrained(export)
    for folder in (base, export):
        tokenizer.save_pretrained(folder)
    return family, model, base, export


def adapters(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    return {name: p.detach() for name, p in model.named_parameters() if "lora_" in name}


def test_the_students_adapter_is_the_inits_and_its_frozen_weights_the_bases(
    init, tokenizer: PreTrainedTokenizerFast
) -> None:
    family, trained_init, base, export = init
    for source in (export, export / "adapter"):
        if source == export / "adapter":
            tokenizer.save_pretrained(source)
        network = Network(family, str(source), adapter=CONTINUED)
        student = build_network(network, tokenizer, seed=9)
        assert student.training
        expected, found = adapters(trained_init), adapters(student)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)
        free = {name for name, p in student.named_parameters() if p.requires_grad}
        assert free == set(found)
        plain = load_model(str(base)).state_dict()
        for name, value in student.state_dict().items():
            if "lora_" not in name:
                assert torch.equal(value, plain[name.replace(".base_layer", "")])
        # What PEFT itself makes of base and adapter.
        theirs = peft.PeftModel.from_pretrained(
            AutoModelForCausalLM.from_pretrained(base), export / "adapter"
        )
        torch.testing.assert_close(logits(student.eval()), logits(theirs.eval()), atol=1e-5, rtol=0)
        # A student's own export must name the base, not what the init run merged.
        assert _adapter_base(network) == str(base)


def test_by_default_a_new_adapter_starts_on_merged_weights(
    init, tokenizer: PreTrainedTokenizerFast
) -> None:
    family, trained_init, _, export = init
    network = Network(family, str(export), adapter=ADAPTER)
    student = build_network(network, tokenizer, seed=9).eval()
    torch.testing.assert_close(logits(student), logits(trained_init), atol=1e-5, rtol=0)
    assert all(not value.any() for name, value in adapters(student).items() if "lora_B" in name)
    assert _adapter_base(network) == str(export)


def test_another_adapter_than_said_is_refused(init, tokenizer: PreTrainedTokenizerFast) -> None:
    family, _, base, export = init

    def refused(message: str, source: Path | None, **options: object) -> None:
        adapter = Adapter(**{"r": 4, "alpha": 12, "continued": True, **options})
        config = TINY[family] if source is None else {}
        with pytest.raises(UserError, match=message) as caught:
            build_network(
                Network(family, source and str(source), config, adapter=adapter), tokenizer, 0
            )
        assert "\n" not in str(caught.value)

    refused("r is 4 in .* and 8 in this run's", export, r=8)
    refused("lora_alpha is 12 in .* and 13", export, alpha=13)
    other = {"gpt2": ["c_fc"], "opt": ["fc1"], "llama": ["up_proj"]}[family]
    refused("targets is ", export, targets=other)
    refused("holds no adapter to go on with", base)
    refused("holds no adapter to go on with", None)
    file = export / "adapter" / "adapter_model.safetensors"
    weights = peft.utils.load_peft_weights(str(export / "adapter"), device="cpu")
    first, *rest = sorted(weights)
    save_file({f"x{first}": weights[first], **{name: weights[name] for name in rest}}, file)
    refused("lora_A.weight is missing, xbase_model.* is unexpected", export)
    pickled = export / "adapter" / "adapter_model.bin"
    torch.save(weights, pickled)
    file.unlink()
    refused("there is no adapter_model.safetensors; allow_pickle: true reads", export)
    pickled.unlink()
    file.write_bytes(b"half a file")
    refused("cannot be read", export)
    save_file(weights, file)
    config = export / "adapter" / "adapter_config.json"
    named = json.loads(config.read_text(encoding="utf-8"))
    config.write_text(json.dumps({**named, "use_rslora": True}), encoding="utf-8")
    refused("use_rslora is True", export)


def test_the_preset_goes_over_the_published_family(
    parser: LightningArgumentParser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    listed = ["base/student", "data/dolly", "families/open_llama-3b", "techniques/kd"]
    for preset, continued in (([], False), (["presets/as_released/continued_adapter"], True)):
        adapter = build(parser, compose(parser, *listed, *preset)).model.network.adapter
        assert adapter == Adapter(16, 64, 0.1, ["q_proj", "v_proj"], continued)
