"""Every decoder is scored, trained and watched as its own forward computes."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertLMHeadModel,
    LlamaConfig,
    LlamaForSequenceClassification,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
)

from audits.blocks.audit import check_blocks
from audits.blocks.recorder import watching
from common.errors import UserError
from datamodules.batches import EncodedRecord, InstructionBatch, collate
from kdmodules.losses import ForwardKL, KDStep, Reduction
from kdmodules.models import anatomy
from kdmodules.models.causal_lm import CausalLM
from kdmodules.responses import DatasetResponses
from kdmodules.scoring import token_statistics
from kdmodules.teachers import Teachers
from tests.kdmodules.student_runs import make_data, make_student, make_trainer, write_teacher
from tests.kdmodules.tiny_decoders import DECODERS, tiny_decoder

SIZE = 97
VALID = 90
"""Tokens; the models' heads have rows of padding behind them."""
QUICK = ("qwen3", "mistral", "gemma2", "phi", "cohere")
every_kind = pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=[] if kind in QUICK else [pytest.mark.slow]) for kind in DECODERS],
)
RECORDS = [
    EncodedRecord(f"r{n}", "", tuple(range(1, 3 + n)), tuple(range(20, 22 + 2 * n)), False, False)
    for n in range(8)
]


def own_logits(model: PreTrainedModel, record: EncodedRecord) -> Tensor:
    """The model's own logits at the rows that predict a record's response, [n, VALID]."""
    ids = torch.tensor([record.prompt_ids + record.response_ids])
    return model(input_ids=ids).logits[0, len(record.prompt_ids) - 1 : -1, :VALID]


def batches(size: int, side: str) -> list[InstructionBatch]:
    """The records in batches of a size."""
    starts = range(0, len(RECORDS), size)
    return [collate(RECORDS[at : at + size], pad_id=0, padding_side=side) for at in starts]


@every_kind
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("size", [1, 8])
@torch.no_grad()
def test_scores_equal_a_loop_over_the_models_own_logits(kind: str, side: str, size: int) -> None:
    lm = CausalLM(tiny_decoder(kind), VALID)
    assert lm.difference is None
    parts = []
    for batch in batches(size, side):
        parts.append(lm(lambda lm, b=batch: token_statistics(lm.hidden(b), lm.head, b.targets())))
    logp = torch.cat([own_logits(lm.model, one) for one in RECORDS]).double().log_softmax(-1)
    targets = torch.tensor([token for one in RECORDS for token in one.response_ids])
    own = logp.gather(1, targets[:, None])
    mean = (logp.exp() * logp).sum(-1)
    expected = {
        "logp": own[:, 0],
        "mean": mean,
        "variance": (logp.exp() * (logp - mean[:, None]) ** 2).sum(-1),
        "rank": (logp > own).sum(-1),
    }
    for name, values in expected.items():
        found = torch.cat([getattr(part, name) for part in parts]).to(values.dtype)
        torch.testing.assert_close(found, values, atol=2e-5, rtol=1e-4, msg=name)


@every_kind
def test_a_step_of_distillation_equals_a_naive_one(kind: str) -> None:
    # Experts are multiplied together, which PyTorch does not do in float64.
    dtype = torch.float32 if kind == "qwen3_moe" else torch.float64
    student, teacher = (tiny_decoder(kind, seed=seed, dtype=dtype) for seed in (0, 1))
    mine, theirs = CausalLM(student, VALID), CausalLM(teacher, VALID)
    # Gemma's attention is undefined at padding on the left in float64.
    (batch,) = batches(8, "right")
    step = KDStep(
        student_hidden=mine.hidden(batch),
        student_weight=mine.padded_head,
        targets=batch.targets(),
        teachers=[(theirs.hidden(batch), theirs.head)],
        vocabulary_size=VALID,
        reduction=Reduction(kd_ratio=0.7, temperature=2.0, chunk_tokens=10),
    )
    found = ForwardKL()(step)
    found.total.backward()
    grads = {name: weight.grad for name, weight in student.named_parameters()}
    student.zero_grad()
    q, p = (torch.cat([own_logits(model, one) for one in RECORDS]) for model in (student, teacher))
    divergence = kl_div(
        (q / 2).log_softmax(-1), (p / 2).log_softmax(-1), reduction="sum", log_target=True
    )
    targets = torch.tensor([token for one in RECORDS for token in one.response_ids])
    total = 0.3 * cross_entropy(q, targets, reduction="sum") + 0.7 * divergence
    total.backward()
    torch.testing.assert_close(found.total, total)
    # Some take the softmax of attention in float32 whatever their own type.
    for name, weight in student.named_parameters():
        if weight.grad is not None:
            torch.testing.assert_close(grads[name], weight.grad, atol=1e-5, rtol=1e-4, msg=name)


@every_kind
@torch.no_grad()
def test_blocks_are_seen_and_changed(kind: str) -> None:
    model = tiny_decoder(kind)
    ids = torch.arange(1, 12)[None]
    expected = model(ids)
    states = model(ids, output_hidden_states=True).hidden_states
    seen: list[tuple[Tensor, Tensor]] = []
    with watching(model, lambda block, call, output: seen.append((call.hidden, output))):
        model(ids)
    assert len(seen) == 2
    for block, (entered, _) in enumerate(seen):
        torch.testing.assert_close(entered, states[block])
    lm = CausalLM(model, SIZE)
    logits = lm.head.logits(anatomy.head_inputs(model, seen[1][1]))
    torch.testing.assert_close(logits, expected.logits, atol=1e-5, rtol=1e-5)
    with watching(model, lambda block, call, output: torch.zeros_like(output)):
        nothing = lm.head.logits(anatomy.head_inputs(model, torch.zeros_like(states[0])))
        torch.testing.assert_close(model(ids).logits, nothing, atol=1e-5, rtol=1e-5)


@every_kind
@torch.no_grad()
def test_half_precision_weights_give_float32_scores(kind: str) -> None:
    lm = CausalLM(tiny_decoder(kind, dtype=torch.bfloat16), VALID)
    assert lm.difference is None
    (batch,) = batches(8, "right")
    states, weight = lm.hidden(batch), lm.model.get_output_embeddings().weight
    head = lm.head
    logits = states.double() @ weight[:VALID].double().T
    if head.bias is not None:
        logits += head.bias.double()
    if head.soft_cap is not None:
        logits = head.soft_cap * (logits / head.soft_cap).tanh()
    expected = logits.log_softmax(-1).gather(1, batch.targets()[:, None])[:, 0]
    found = token_statistics(states, head, batch.targets()).logp
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, atol=2e-5, rtol=1e-5)


def broken(part: str) -> PreTrainedModel:
    """A model whose own forward does what nobody knows of."""
    model = tiny_decoder("qwen3")
    if part == "head":
        model.lm_head.register_forward_hook(lambda _m, _a, logits: logits + logits.sin())
    elif part == "trunk":
        model.lm_head.register_forward_pre_hook(lambda _m, args: (args[0] * 1.5,))
    elif part == "final norm":
        model.model.spare_norm = torch.nn.LayerNorm(32)
    else:
        model.config.num_hidden_layers = 1
        model.model.layers = torch.nn.Sequential(*model.model.layers[:1])
    return model


@pytest.mark.parametrize("part", ["head", "trunk", "final norm", "blocks"])
@pytest.mark.parametrize("side", ["right", "left"])
@torch.no_grad()
def test_a_model_that_differs_is_scored_by_its_own_forward(
    part: str, side: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lm = CausalLM(broken(part), VALID)
    assert lm.difference is not None
    assert part in lm.difference
    (warning,) = capsys.readouterr().err.splitlines()
    assert warning.startswith(f"warning: {lm.difference}: it is run by its own forward")
    (batch,) = batches(8, side)
    found = token_statistics(lm.hidden(batch), lm.head, batch.targets()).logp
    logp = torch.cat([own_logits(lm.model, one) for one in RECORDS]).double().log_softmax(-1)
    expected = logp.gather(1, batch.targets()[:, None])[:, 0]
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=1e-5)
    with pytest.raises(UserError, match=f"^training needs .* {part}") as refused:
        lm.require_parts("training")
    assert "\n" not in str(refused.value)


TINY_ENCODER = {
    "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16,
    "vocab_size": 40,
}  # fmt: skip


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (T5ForConditionalGeneration(T5Config(d_model=16, d_kv=8, d_ff=16, num_layers=1)), "-dec"),
        (BertForMaskedLM(BertConfig(**TINY_ENCODER)), "is an encoder"),
        (BertLMHeadModel(BertConfig(**TINY_ENCODER)), "is an encoder"),
        (LlamaForSequenceClassification(LlamaConfig(**TINY_ENCODER)), "no head over the voc"),
    ],
    ids=["encoder-decoder", "encoder", "encoder with a causal head", "reward model"],
)
def test_what_is_no_causal_language_model_is_refused(model: PreTrainedModel, reason: str) -> None:
    with pytest.raises(UserError, match=reason) as refused:
        CausalLM(model, 40)
    assert str(refused.value).startswith(type(model).__name__)
    assert "\n" not in str(refused.value)


def test_training_distilling_and_blocks_need_the_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_data(tmp_path)
    source = write_teacher(tmp_path, data)
    monkeypatch.setattr(anatomy, "differing_part", lambda model, size: "it differs in its head")
    with pytest.raises(UserError, match=r"^training needs .* it differs in its head"):
        make_trainer(tmp_path, max_steps=1).fit(make_student(source, DatasetResponses()), data)
    teachers = Teachers([source])
    with pytest.raises(UserError, match=r"^distilling a teacher needs .* it differs in its head"):
        teachers.load(data.tokenizer, 64, None, torch.device("cpu"))
    access = SimpleNamespace(lm=CausalLM(tiny_decoder("qwen3"), VALID))
    with pytest.raises(UserError, match=r"^an audit of blocks needs .* it differs in its head"):
        check_blocks(SimpleNamespace(model=access), [], None)
