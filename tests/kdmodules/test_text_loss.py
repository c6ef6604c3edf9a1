"""The loss on plain text: exact beside scored tokens whose number changes from step to step."""

from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from common.errors import UserError
from datamodules import InstructionDataModule
from datamodules.batches import InstructionBatch
from datamodules.plain_documents import PlainDocuments
from datamodules.plain_text import read_plain_text
from kdmodules import Network, OptimizerSettings, StudentModule
from kdmodules.losses import ForwardKL, Reduction
from kdmodules.models.causal_lm import CausalLM
from kdmodules.models.network import build_network
from kdmodules.responses import DatasetResponses
from kdmodules.text_loss import PlainText, TeacherRows, TextStep, dealt_text
from tests.kdmodules.conftest import TINY

NETWORK = Network(
    "gpt2",
    None,
    {
        "n_layer": 1,
        "n_head": 2,
        "n_embd": 16,
        "n_positions": 512,
        "resid_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "attn_pdrop": 0.0,
    },
)
BLOCK_TOKENS = 24


class FirstStep(Callback):
    """Keeps the batches, the weights and the normalised gradients of the first optimiser step."""

    def __init__(self) -> None:
        self.batches: list = []
        self.gradients: dict[str, torch.Tensor] = {}
        self.logged: dict[str, float] = {}

    def on_train_start(self, trainer, pl_module) -> None:
        tokens = pl_module.tokenizer
        teacher = build_network(NETWORK, tokens, seed=99).requires_grad_(False).eval()
        for parameter in teacher.parameters():
            parameter.mul_(3.0)
        pl_module.teachers.models = (CausalLM(teacher, len(tokens)),)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if trainer.global_step == 0:
            self.batches.append(batch)

    def on_train_end(self, trainer, pl_module) -> None:
        named = pl_module.named_parameters()
        self.gradients = {name: p.grad.clone() for name, p in named if p.grad is not None}
        self.logged = {name: float(value) for name, value in trainer.callback_metrics.items()}


def first_step(
    corpus: Path, folder: Path, accumulate: int, text_kd_ratio: float, normalisation: str = "token"
) -> tuple[FirstStep, StudentModule]:
    module = StudentModule(
        NETWORK,
        OptimizerSettings(lr=0.0),
        teacher=[],
        kd_loss=ForwardKL(),
        responses=DatasetResponses(),
        reduction=Reduction(kd_ratio=0.0, normalisation=normalisation),
        plain_text=PlainText(str(corpus), block_tokens=BLOCK_TOKENS),
        lm_coef=0.7,
        text_kd_ratio=text_kd_ratio,
    )
    seen = FirstStep()
    trainer = Trainer(
        accelerator="cpu",
        max_steps=1,
        accumulate_grad_batches=accumulate,
        callbacks=[seen],
        default_root_dir=folder,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        use_distributed_sampler=False,
    )
    data = InstructionDataModule(n_records=160, vocabulary=400, batch_size=8, template="alpaca")
    trainer.fit(module, datamodule=data)
    return seen, module


def naive_gradients(
    module: StudentModule,
    seen: FirstStep,
    corpus: Path,
    text_kd_ratio: float,
    normalisation: str = "token",
) -> tuple[dict[str, torch.Tensor], float, float]:
    """Gradients of CE + 0.7 text loss by PyTorch's own losses, record by record, float64.

    Also the text's cross-entropy and its KL(p||q).
    """
    lm = module.language_model
    model = lm.model.double()
    model.zero_grad()
    total, n_tokens = torch.zeros((), dtype=torch.float64), 0
    for batch in seen.batches:
        for ids, attended, mask in zip(
            batch.input_ids, batch.attention_mask, batch.response_mask, strict=True
        ):
            length = int(attended.sum())
            labels = ids.masked_fill(~mask, -100)[1:length]
            logits = model(ids[None, :length]).logits[0, :-1]
            by_sequence = normalisation == "sequence"
            reduction = "mean" if by_sequence else "sum"
            total = total + torch.nn.functional.cross_entropy(logits, labels, reduction=reduction)
            n_tokens += 1 if by_sequence else int(mask.sum())
    blocks = read_plain_text(
        PlainDocuments([str(corpus)]), module.tokenizer, block_tokens=BLOCK_TOKENS, seed=module.seed
    ).blocks(0, 8)
    logits = model(blocks).logits[:, :-1].flatten(0, 1)
    text = torch.nn.functional.cross_entropy(logits, blocks[:, 1:].flatten())
    p = module.teachers.models[0].model.double()(blocks).logits[:, :-1].flatten(0, 1).softmax(-1)
    divergence = (p * (p.log() - logits.log_softmax(-1))).sum(-1).mean()
    mixed = (1 - text_kd_ratio) * text + text_kd_ratio * divergence
    (total / n_tokens + 0.7 * mixed).backward()
    found = {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}
    return found, text.item(), divergence.item()


@pytest.mark.parametrize("text_kd_ratio", [0.0, 0.5])
@pytest.mark.parametrize("accumulate", [1, 4])
def test_the_texts_gradient_is_exact(tmp_path: Path, accumulate: int, text_kd_ratio: float) -> None:
    torch.set_num_threads(1)
    corpus = tmp_path / "corpus.txt"
    lines = [f"A lighthouse number {i} stands on rock {i * 31 % 17}.\n\n" for i in range(200)]
    corpus.write_text("".join(lines), encoding="utf-8")
    seen, module = first_step(corpus, tmp_path, accumulate, text_kd_ratio)
    assert len(seen.batches) == accumulate
    expected, text, divergence = naive_gradients(module, seen, corpus, text_kd_ratio)
    assert seen.gradients.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(seen.gradients[name].double(), gradient, atol=2e-6, rtol=2e-4)
    assert seen.logged["train/text_cross_entropy"] == pytest.approx(text, rel=1e-5)
    assert divergence > 0.01
    if text_kd_ratio == 0:
        assert "train/text_kd" not in seen.logged
    else:
        assert seen.logged["train/text_kd"] == pytest.approx(divergence, rel=1e-4)


@pytest.mark.parametrize("accumulate", [1, 4])
def test_a_mean_over_sequences_is_exact(tmp_path: Path, accumulate: int) -> None:
    corpus = tmp_path / "corpus.txt"
    lines = [f"A lighthouse number {i} stands on rock {i * 31 % 17}.\n\n" for i in range(200)]
    corpus.write_text("".join(lines), encoding="utf-8")
    seen, module = first_step(corpus, tmp_path, accumulate, 0.0, "sequence")
    expected, text, _ = naive_gradients(module, seen, corpus, 0.0, "sequence")
    by_token, _, _ = naive_gradients(module, seen, corpus, 0.0)
    for name, gradient in expected.items():
        torch.testing.assert_close(seen.gradients[name].double(), gradient, atol=2e-6, rtol=2e-4)
    # Responses differ in length, so that the two are not the same mean.
    assert max((expected[name] - by_token[name]).abs().max() for name in expected) > 1e-4
    assert seen.logged["train/text_cross_entropy"] == pytest.approx(text, rel=1e-5)
    assert seen.logged["train/scored_tokens"] == sum(
        int(b.response_mask.sum()) for b in seen.batches
    )


def test_parts_that_are_recomputed_change_nothing(
    family_model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    lm = CausalLM(family_model, len(tokenizer))
    network = Network("gpt2", None, TINY["gpt2"])
    teacher = CausalLM(build_network(network, tokenizer, 7).eval(), len(tokenizer))
    asked = []

    def rows(batch: InstructionBatch) -> TeacherRows:
        asked.append(len(batch.record_ids))
        with torch.no_grad():
            return ((teacher.hidden(batch), teacher.padded_head),)

    blocks = torch.randint(0, 300, (6, 12), generator=torch.Generator().manual_seed(0))
    found = []
    for accumulate in (1, 3):
        lm.zero_grad()
        parts = dealt_text(blocks, rank=0, world_size=1, accumulate=accumulate)
        sums = lm(TextStep(parts, 0.5, 0.3, rows).sums)
        sums["loss"].backward()
        grads = [p.grad.clone() for p in lm.parameters() if p.grad is not None]
        found.append((sums["loss"].detach(), sums["text_kd"], grads))
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-5)
    # Each part asks the teachers once: recomputing it does not ask them again.
    assert asked == [6, 2, 2, 2]
    assert {name: value.item() for name, value in lm(TextStep((), 0.5).sums).items()} == {
        "loss": 0,
        "text_cross_entropy": 0,
    }


def test_a_weight_needs_a_corpus() -> None:
    parts = (NETWORK, OptimizerSettings(), [], ForwardKL(), DatasetResponses())
    with pytest.raises(UserError, match=r"model\.plain_text\.sources"):
        StudentModule(*parts, lm_coef=1.0)
    with pytest.raises(UserError, match="lm_coef is -1"):
        StudentModule(*parts, lm_coef=-1.0)
    with pytest.raises(UserError, match="text_kd_ratio is 2"):
        StudentModule(*parts, text_kd_ratio=2.0)
