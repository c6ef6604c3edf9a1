"""A student taught from disk against one taught live."""

from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from callbacks.run import RunContext
from callbacks.utility import UtilityAudit
from datamodules.instruction import InstructionDataModule
from kdmodules.losses import JensenShannon
from kdmodules.models.network import Network, build_network
from kdmodules.responses import TeacherResponses
from kdmodules.sampling.sampler import SamplingSettings
from kdmodules.teacher_cache import TeacherCache
from kdmodules.teachers import Teachers
from tests.kdmodules.student_runs import CONFIG, NO_DROPOUT, make_data
from tests.kdmodules.teacher_cache.conftest import Fit, TeacherOf


def stores(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir())


def assert_same(found: Fit, expected: Fit) -> None:
    """Losses of every step and the development figures agree within 1e-6 per token."""
    assert expected.means[0]["kd"] > 0.05
    for one, other in zip(found.means, expected.means, strict=True):
        assert one == pytest.approx(other, abs=1e-6)


def assert_audited_alike(found: Fit, expected: Fit) -> None:
    """The utility audit loads the teacher for its own records, and lets it go again."""
    rows = []
    for fit in (found, expected):
        audit = UtilityAudit(max_prompts=1, max_new_tokens=1, samples=0)
        audited = audit.measure(RunContext.of(fit.trainer, fit.student))
        rows.append([row for row in audited.results if row["metric"] == "teacher_kl"])
        assert len(fit.student.teachers.models) == fit.loaded[-1]
    assert rows[0]
    for one, other in zip(*rows, strict=True):
        assert one["task"] == other["task"]
        assert one["value"] == pytest.approx(other["value"], abs=1e-5)


# A teacher of llama is cached as one of two below.
@pytest.mark.parametrize(
    "family", ["opt", *(pytest.param(one, marks=pytest.mark.slow) for one in ("gpt2", "llama"))]
)
def test_the_full_cache_teaches_as_the_live_teacher(
    family: str, data: InstructionDataModule, teacher_of: TeacherOf, tmp_path: Path
) -> None:
    live = Fit(tmp_path, data, teacher_of(family), None)
    cached = Fit(tmp_path, data, teacher_of(family), TeacherCache())
    assert (live.loaded, cached.loaded) == ([1, 1], [0, 0])
    assert_same(cached, live)
    assert_audited_alike(cached, live)
    (store,) = stores(tmp_path / "private")
    assert (store.stat().st_mode & 0o777, store.parent.stat().st_mode & 0o777) == (0o700, 0o700)


def test_all_tokens_but_one_teach_as_all(
    data: InstructionDataModule, teacher_of: TeacherOf, tmp_path: Path
) -> None:
    cache = TeacherCache(kind="top_k", k=len(data.tokenizer) - 1)
    live = Fit(tmp_path, data, teacher_of("gpt2"), None)
    assert_same(Fit(tmp_path, data, teacher_of("gpt2"), cache), live)


def test_an_ensemble_and_its_text_are_cached_for_other_runs(
    data: InstructionDataModule,
    teacher_of: TeacherOf,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pair = [teacher_of("gpt2"), teacher_of("llama")]
    shared = str(tmp_path / "shared")

    def source() -> TeacherResponses:
        return TeacherResponses(SamplingSettings(max_new_tokens=4), cache_folder=shared)

    cache = TeacherCache(shared)
    live = Fit(tmp_path, data, pair, None, source(), JensenShannon(0.3))
    first = Fit(tmp_path, data, pair, cache, source(), JensenShannon(0.3))
    assert_same(first, live)
    assert (live.loaded, first.loaded) == ([2, 2], [0, 0])
    Fit(tmp_path, data, pair, cache)
    # Another run finds what this one left, and no teacher is loaded for it.
    found = stores(Path(shared))
    monkeypatch.setattr(Teachers, "load", None)
    later = Fit(tmp_path, data, pair, cache, kd_loss=JensenShannon(0.3))
    assert stores(Path(shared)) == found
    assert len(later.means) == 3


def test_a_resumed_student_ends_with_the_same_weights(
    data: InstructionDataModule, teacher_of: TeacherOf, tmp_path: Path
) -> None:
    keep = ModelCheckpoint(tmp_path / "saved", "{step}", every_n_train_steps=1, save_top_k=-1)
    options = {"enable_checkpointing": True, "callbacks": [keep]}
    whole = Fit(tmp_path, data, teacher_of("gpt2"), TeacherCache(), **options)
    saved = str(tmp_path / "saved" / "step=1.ckpt")
    resumed = Fit(tmp_path, data, teacher_of("gpt2"), TeacherCache(), ckpt_path=saved)
    assert (resumed.loaded, whole.loaded) == ([0], [0, 0])
    found, expected = resumed.student.state_dict(), whole.student.state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("cache", [{}, {"kind": "top_k", "k": 8}], ids=["full", "top_k"])
def test_a_run_that_finds_the_store_counts_the_tokens_of_the_one_that_wrote_it(
    cache: dict[str, str | int], tmp_path: Path
) -> None:
    """A teacher without a row for the padding token: the second run never loads it."""

    def with_padding_token() -> InstructionDataModule:
        made = make_data(tmp_path, manifest_folder=None)
        made.setup("fit")
        made.tokenizer.add_special_tokens({"pad_token": "<pad>"})
        return made

    data = with_padding_token()
    teacher = build_network(Network("gpt2", None, {**CONFIG, **NO_DROPOUT}), data.tokenizer, 5)
    teacher.resize_token_embeddings(len(data.tokenizer) - 1)
    source = str(tmp_path / "teacher")
    teacher.save_pretrained(source)
    data.tokenizer.save_pretrained(source)
    fits = []
    for _ in range(2):
        data = with_padding_token()
        fits.append(Fit(tmp_path, data, source, TeacherCache(str(tmp_path / "store"), **cache)))
        assert fits[-1].student.language_model.vocabulary_size == len(data.tokenizer) - 1
        assert data.encoder.pad_id == data.tokenizer.eos_token_id
    assert len(stores(tmp_path / "store")) == 1
    assert fits[0].means == fits[1].means
