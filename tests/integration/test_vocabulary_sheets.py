"""No step of any technique, nor a pass of an audit, writes logits of a whole batch."""

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from audits.scoring import greedy_pass
from audits.scoring.divergence import divergences
from audits.scoring.model_access import ModelAccess
from audits.scoring.scoring_pass import score_records
from common.ranks import Ranks
from datamodules.batches import collate
from datamodules.instruction import InstructionDataModule
from kdmodules import scoring
from kdmodules.losses import (
    ForwardKL,
    JensenShannon,
    KDLoss,
    KDStep,
    PolicyGradient,
    Reduction,
    SkewReverseKL,
    cross_entropy,
    reduction,
)
from kdmodules.models.causal_lm import CausalLM
from kdmodules.models.network import Network, load_model
from kdmodules.optimization import OptimizerSettings
from kdmodules.responses import (
    AdaptiveReplay,
    DatasetResponses,
    MixedResponses,
    ResponseSource,
    StudentResponses,
    TeacherMixedRollouts,
    TeacherResponses,
)
from kdmodules.sampling.mixture_sampling import MixtureSettings
from kdmodules.sampling.sampler import SamplingSettings
from kdmodules.student import StudentModule
from kdmodules.text_loss import PlainText
from tests.kdmodules.student_runs import CONFIG, make_data, make_trainer, write_teacher
from tests.kdmodules.vocabulary_sheets import VocabularySheets, flattened

BATCH = 6
CHUNK = 8
# Heads and their gradients are sheets of as many rows as the model is wide.
ALLOWED = CONFIG["n_embd"]
SHORT = SamplingSettings(max_new_tokens=4)
TECHNIQUES: dict[str, tuple[KDLoss, ResponseSource, float]] = {
    "kd": (ForwardKL(), DatasetResponses(), 1.0),
    "seqkd": (ForwardKL(), TeacherResponses(SHORT, sampling_batch_size=8), 0.0),
    "imitkd": (ForwardKL(), StudentResponses(SHORT), 1.0),
    "gkd": (JensenShannon(0.1), MixedResponses(1.0, sampling=SHORT), 1.0),
    "minillm": (PolicyGradient(), TeacherMixedRollouts(MixtureSettings(0.2, 4), BATCH), 1.0),
    "distillm": (SkewReverseKL(0.1), AdaptiveReplay(initial_threshold=1.0, sampling=SHORT), 1.0),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sheets")


@pytest.fixture(scope="module")
def data(folder: Path) -> InstructionDataModule:
    return make_data(folder, batch_size=BATCH)


@pytest.fixture(scope="module")
def teacher(folder: Path, data: InstructionDataModule) -> str:
    return write_teacher(folder, data)


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch, data: InstructionDataModule) -> None:
    """At real sizes a chunk is a small part of a batch; at these it would be all of it."""
    monkeypatch.setattr(reduction, "CPU_CHUNK_BYTES", CHUNK * data.vocabulary * 4)
    monkeypatch.setattr(scoring, "_CPU_CHUNK_TOKENS", CHUNK)
    monkeypatch.setattr(greedy_pass, "_CHUNK_TOKENS", CHUNK)


def train(technique: str, teacher: str, data: InstructionDataModule, folder: Path) -> None:
    """Takes a step with every loss that a technique has, and validates."""
    kd_loss, responses, kd_ratio = TECHNIQUES[technique]
    text = folder / "text.txt"
    text.write_text("a line of plain text that says very little, " * 100, encoding="utf-8")
    module = StudentModule(
        Network("gpt2", None, CONFIG),
        OptimizerSettings(),
        teacher,
        kd_loss,
        responses,
        Reduction(kd_ratio),
        PlainText(str(text), block_tokens=32),
        lm_coef=1.0,
        text_kd_ratio=0.5,
    )
    make_trainer(folder, max_steps=1, limit_val_batches=1).fit(module, data)


@pytest.mark.parametrize("technique", sorted(TECHNIQUES))
def test_no_step_writes_the_logits_of_a_batch(
    technique: str, teacher: str, data: InstructionDataModule, folder: Path
) -> None:
    with VocabularySheets(len(data.tokenizer)) as spy:
        train(technique, teacher, data, folder)
    assert spy.rows <= ALLOWED, spy.made_by


def test_no_audit_writes_the_logits_of_a_batch(teacher: str, data: InstructionDataModule) -> None:
    lm = CausalLM(load_model(teacher).eval(), len(data.tokenizer))
    records = data.split("private")[:BATCH]
    encoded = data.encoder.encode_all(records)
    bar = nullcontext(lambda: None)
    access = ModelAccess(lm, data.encoder, Ranks(), BATCH, 4096, 0, lambda *_: bar)
    with VocabularySheets(len(data.tokenizer)) as spy:
        score_records(access, encoded, "")
        divergences(access, [lm], encoded, "")
        greedy_pass.force_batch(lm, collate(encoded, data.pad_id), (SHORT,))
    assert spy.rows <= ALLOWED, spy.made_by


def test_the_spy_finds_the_logits_of_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    with VocabularySheets(50) as spy:
        flattened(3, 7, 50)
    assert (spy.rows, spy.made_by) == (21, "aten.mm.default")
    hidden, weight = torch.zeros(40, 4, requires_grad=True), torch.zeros(50, 4)
    step = KDStep(hidden, weight, torch.zeros(40, dtype=torch.int64))
    found = []
    for rows in (CHUNK, 40):
        monkeypatch.setattr(reduction, "CPU_CHUNK_BYTES", rows * 50 * 4)
        with VocabularySheets(50) as spy:
            cross_entropy(step).total.backward()
        found.append(spy.rows)
    assert found == [CHUNK, 40]
