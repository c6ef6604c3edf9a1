"""The modes of a training step: dropout of the student, evaluation of all that is frozen."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from callbacks.run import ReferenceModels
from datamodules.instruction import InstructionDataModule
from kdmodules.losses import PolicyGradient, Reduction
from kdmodules.models.adapters import Adapter
from kdmodules.models.anatomy import transformer_blocks
from kdmodules.models.network import Network
from kdmodules.optimization import OptimizerSettings
from kdmodules.responses import TeacherMixedRollouts
from kdmodules.sampling.mixture_sampling import MixtureSettings
from kdmodules.sampling.sampler import SamplingSettings
from kdmodules.student import StudentModule
from kdmodules.text_loss import PlainText
from tests.kdmodules.conftest import TINY
from tests.kdmodules.student_runs import make_data, make_trainer, write_teacher

TECHNIQUES = sorted((Path(__file__).parents[2] / "configs/techniques").glob("*.yaml"))
ROLLOUTS = {"mixture": MixtureSettings(max_new_tokens=4), "rollouts": 12, "inner_epochs": 2}
DROPOUT = {
    "gpt2": ("resid_pdrop", "embd_pdrop", "attn_pdrop"),
    "opt": ("dropout", "attention_dropout"),
    "llama": ("attention_dropout",),
}
WINDOW = {
    "gpt2": {"n_positions": 512},
    "opt": {"max_position_embeddings": 512},
    "llama": {"max_position_embeddings": 512},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> InstructionDataModule:
    torch.set_num_threads(1)
    return make_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def teacher(data: InstructionDataModule, tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_teacher(tmp_path_factory.mktemp("teacher"), data)


def student_of(
    teacher: str,
    model: dict[str, Any],
    family: str = "gpt2",
    dropout: float = 0.1,
    **network: Any,
) -> StudentModule:
    config = TINY[family] | WINDOW[family] | dict.fromkeys(DROPOUT[family], dropout)
    text = PlainText("builtin", block_tokens=16, max_blocks=8)
    return StudentModule(
        Network(family, None, config, **network),
        OptimizerSettings(lr=2e-3),
        teacher,
        plain_text=text,
        seed=1,
        **model,
    )


def minillm(**rollouts: Any) -> dict[str, Any]:
    source = TeacherMixedRollouts(**{**ROLLOUTS, **rollouts})
    return {"kd_loss": PolicyGradient(), "responses": source, "lm_coef": 1.0}


def built(entry: dict[str, Any]) -> Any:
    """The class that a fragment names, which writes 4 tokens and rolls out 12 responses."""
    module, _, name = entry["class_path"].rpartition(".")
    options = {
        key: built(value) if isinstance(value, dict) and "class_path" in value else value
        for key, value in entry.get("init_args", {}).items()
    }
    if "mixture" in options:
        options |= ROLLOUTS
    if "sampling" in options:
        options["sampling"] = SamplingSettings(**options["sampling"] | {"max_new_tokens": 4})
    return getattr(import_module(module), name)(**options)


def technique(path: Path) -> dict[str, Any]:
    named = yaml.safe_load(path.read_text())["model"]["init_args"]
    return {
        "kd_loss": built(named["kd_loss"]),
        "responses": built(named["responses"]),
        "reduction": Reduction(**named.get("reduction", {})),
        "lm_coef": named.get("lm_coef", 0.0),
    }


def modes(*modules: torch.nn.Module) -> set[bool]:
    return {part.training for module in modules for part in module.modules()}


@pytest.mark.parametrize("path", TECHNIQUES, ids=lambda path: path.stem)
def test_a_step_has_dropout_but_for_rollouts_and_what_is_frozen_never(
    path: Path, teacher: str, data: InstructionDataModule, tmp_path: Path
) -> None:
    student = student_of(teacher, technique(path))
    references = ReferenceModels({"control": teacher})
    loss_sums = student.loss_sums
    seen = []

    def spy(batch: Any, text: Any) -> dict[str, Tensor]:
        frozen = [*student.teachers.models, references.load("control", student).lm]
        assert len(frozen) == 2
        assert modes(*frozen) == {False}
        assert not any(weight.requires_grad for one in frozen for weight in one.parameters())
        assert torch.is_grad_enabled()
        seen.append((modes(student.language_model), student.language_model.stepping))
        return loss_sums(batch, text)

    student.loss_sums = spy
    make_trainer(tmp_path, max_steps=1, limit_val_batches=0).fit(student, data)
    assert seen == [({path.stem != "minillm"}, True)]
    assert modes(student.language_model) == {True}
    assert not student.language_model.stepping


@pytest.mark.parametrize("source", [minillm, lambda: technique(TECHNIQUES[0])])
def test_a_step_that_fails_leaves_the_modes_as_they_were(
    source: Callable[[], dict[str, Any]],
    teacher: str,
    data: InstructionDataModule,
    tmp_path: Path,
) -> None:
    student = student_of(teacher, source())
    student.network.activation_checkpointing = True

    def broken(batch: Any, text: Any) -> dict[str, Tensor]:
        # One part differs from the others, as after somebody froze it.
        raise RuntimeError("broken")

    student.on_train_start = lambda: transformer_blocks(student.language_model.model)[0].eval()
    student.loss_sums = broken
    with pytest.raises(RuntimeError, match="broken"):
        make_trainer(tmp_path, max_steps=1, limit_val_batches=0).fit(student, data)
    first, second = transformer_blocks(student.language_model.model)
    assert (modes(first), modes(second)) == ({False}, {True})
    assert student.language_model.training
    assert not student.language_model.stepping


@torch.no_grad()
def make_uneven(student: StudentModule) -> None:
    """Scales weights up, so that dropout shows, and fills an adapter's second factor: at zero it
    hides the dropout of the first.
    """
    torch.manual_seed(4)
    for name, weight in student.language_model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.3)
        elif weight.dim() > 1:
            weight.mul_(4.0)


@pytest.mark.parametrize("family", ["gpt2", "opt", "llama"])
def test_before_any_update_the_ratio_is_the_weight(
    family: str,
    teacher: str,
    data: InstructionDataModule,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    adapter = Adapter(r=4, dropout=0.1) if family == "llama" else None
    ratios: list[Tensor] = []
    surrogate = PolicyGradient.surrogate

    def spy(self: PolicyGradient, drawn: Tensor, chunk: Any) -> tuple[Tensor, Tensor]:
        weight = chunk.extras["mixture_weight"]
        ratio = weight * (drawn - chunk.extras["old_logp"]).exp()
        ratios.append((ratio / weight).detach())
        return surrogate(self, drawn, chunk)

    monkeypatch.setattr(PolicyGradient, "surrogate", spy)
    student = student_of(teacher, minillm(), family, adapter=adapter)
    student.on_train_start = lambda: make_uneven(student)
    make_trainer(tmp_path, max_steps=1, limit_val_batches=0).fit(student, data)
    found = torch.cat(ratios)
    assert len(found) > 20
    torch.testing.assert_close(found, torch.ones_like(found), atol=1e-3, rtol=0)


def trained(
    student: StudentModule, data: InstructionDataModule, folder: Path, accumulate: int
) -> dict[str, Tensor]:
    student.on_train_start = lambda: make_uneven(student)
    trainer = make_trainer(
        folder, max_steps=2, limit_val_batches=0, accumulate_grad_batches=accumulate
    )
    trainer.fit(student, data)
    return {name: value.clone() for name, value in student.state_dict().items()}


@pytest.mark.parametrize(
    ("family", "prepared"),
    [
        pytest.param("gpt2", True, id="gpt2, recomputed and compiled"),
        pytest.param("llama", False, id="llama with an adapter"),
        pytest.param("gpt2", False, id="gpt2", marks=pytest.mark.slow),
        pytest.param("llama", True, id="llama, all at once", marks=pytest.mark.slow),
    ],
)
def test_a_step_on_rollouts_is_that_of_a_network_without_dropout(
    family: str,
    prepared: bool,
    teacher: str,
    data: InstructionDataModule,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two micro-batches, so that the text's parts are computed again in the backward pass."""
    ran: list[int] = []

    def compiled(run: Callable[..., Any], backend: Any) -> Callable[..., Any]:
        return lambda *args, **kwargs: ran.append(1) or run(*args, **kwargs)

    monkeypatch.setattr(torch, "compile", compiled)

    def student(dropout: float, **network: Any) -> StudentModule:
        if family == "llama":
            network["adapter"] = Adapter(r=4, dropout=dropout)
        return student_of(teacher, minillm(), family, dropout, **network)

    expected = trained(student(0.0), data, tmp_path, accumulate=2)
    assert not ran
    network = {"activation_checkpointing": prepared, "compiled": prepared}
    found = trained(student(0.1, **network), data, tmp_path, accumulate=2)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-5, rtol=1e-4, msg=name)
    # 2 steps, 2 micro-batches of rollouts and 2 parts of text, 2 blocks, forward and again; the
    # text's parts are computed again as a whole before their blocks are.
    assert len(ran) >= (2 * (2 + 2) * 2 * 2 if prepared else 0)
    assert bool(ran) == prepared
