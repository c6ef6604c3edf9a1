"""What is exported is whole and plain, and the trained model stays as it was."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import (
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    PreTrainedModel,
)

from callbacks.weights import told_template, whole_model
from datamodules.templates import ALPACA, chosen_template
from datamodules.tokenizer import train_tokenizer
from kdmodules.models.adapters import Adapter, adapter_of, add_adapter
from kdmodules.models.causal_lm import CausalLM
from kdmodules.models.sharding import whole_weights


def models() -> list[PreTrainedModel]:
    torch.manual_seed(0)
    return [
        GPT2LMHeadModel(GPT2Config(vocab_size=50, n_layer=2, n_head=2, n_embd=16)),
        OPTForCausalLM(
            OPTConfig(
                vocab_size=50,
                num_hidden_layers=2,
                num_attention_heads=2,
                hidden_size=16,
                word_embed_proj_dim=16,
                ffn_dim=32,
            )
        ),
        LlamaForCausalLM(
            LlamaConfig(
                vocab_size=50,
                num_hidden_layers=2,
                num_attention_heads=2,
                hidden_size=16,
                intermediate_size=32,
            )
        ),
    ]


def logits(model: PreTrainedModel) -> Tensor:
    with torch.no_grad():
        return model.eval()(torch.arange(20).reshape(2, 10), use_cache=False).logits


@pytest.mark.parametrize("index", range(3))
@pytest.mark.parametrize("adapted", [False, True])
def test_the_whole_model_is_plain_and_shares_no_change(
    index: int, adapted: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    model = models()[index]
    names = model.state_dict().keys()
    if adapted:
        add_adapter(model, Adapter(r=2, alpha=4, dropout=0.0), seed=1)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter.normal_()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    whole = whole_model(model, whole_weights(CausalLM(model, 50)))
    assert whole.state_dict().keys() == names
    assert adapter_of(whole) is None
    folder = tmp_path_factory.mktemp("export")
    whole.save_pretrained(folder)
    loaded = type(model).from_pretrained(folder)
    torch.testing.assert_close(logits(loaded), logits(model), atol=1e-5, rtol=0)
    assert (adapter_of(model) is not None) == adapted
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_template_file_is_what_plain_transformers_renders(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(["one two three four five"] * 9, 270)
    file = tmp_path / "own.jinja"
    file.write_text(
        "{% for m in messages %}[{{ m.role }}] {{ m.content }}{{ eos_token }}{% endfor %}"
    )
    told_template(tokenizer, chosen_template(str(file), [], tokenizer)).save_pretrained(tmp_path)
    chat = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}]
    plain = AutoTokenizer.from_pretrained(tmp_path)
    end = tokenizer.eos_token
    assert plain.apply_chat_template(chat, tokenize=False) == f"[user] one{end}[assistant] two{end}"
    assert told_template(tokenizer, ALPACA) is tokenizer
    assert tokenizer.chat_template is None
    own = chosen_template("chat", [], plain)
    assert told_template(plain, own) is plain
