"""The data module: populations, order of batches over ranks, resume in mid-epoch."""

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from transformers import PreTrainedTokenizerFast

from common.errors import UserError
from datamodules.batches import FILLER_ID, InstructionBatch
from datamodules.canaries import CanaryPlan
from datamodules.instruction import InstructionDataModule
from datamodules.manifest import read_manifest
from datamodules.prompts import ALPACA
from datamodules.records import TASKS
from datamodules.split_options import Caps, SplitOptions
from datamodules.tokenizer import train_tokenizer


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file of 200 records, one of them twice."""
    rows = [
        {
            "instruction": " ".join(f"question{i}x{k}" for k in range(6)),
            "context": "",
            "response": f"the answer {i} " * (1 + i % 5),
            "category": TASKS[i % 7],
        }
        for i in range(200)
    ]
    path = tmp_path_factory.mktemp("records") / "records.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in [*rows, rows[4]]))
    return str(path)


def module(source: str, **options: object) -> InstructionDataModule:
    defaults = {"vocabulary": 280, "max_prompt_tokens": 260, "max_tokens": 512, "batch_size": 8}
    defaults["template"] = "alpaca"
    return InstructionDataModule(source=source, **{**defaults, **options})


class Seen(pl.LightningModule):
    """Records the ids it is shown, and stops at a step where it is told to."""

    training_split = "public"

    def __init__(self, stop_at: int | None = None, ask_length_early: bool = True) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.stop_at = stop_at
        self.ask_length_early = ask_length_early
        self.batches: list[tuple[int, list[str]]] = []
        self.development: list[str] = []
        self.random_numbers: list[float] = []

    def configure_optimizers(self) -> torch.optim.Optimizer:
        if self.ask_length_early:
            assert self.trainer.estimated_stepping_batches > 0
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def training_step(self, batch: InstructionBatch, batch_idx: int) -> torch.Tensor:
        if self.stop_at is not None and len(self.batches) == self.stop_at:
            raise KeyboardInterrupt
        self.batches.append((self.current_epoch, batch.record_ids))
        self.random_numbers.append(torch.rand(()).item())
        return self.weight.sum() * batch.response_mask.sum()

    def validation_step(self, batch: InstructionBatch, batch_idx: int) -> None:
        self.development += [
            record
            for record, scored in zip(batch.record_ids, batch.response_mask.any(1), strict=True)
            if scored
        ]


def trainer(folder: Path, **options: object) -> pl.Trainer:
    defaults = {
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": 3,
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "use_distributed_sampler": False,
        "default_root_dir": folder,
        "num_sanity_val_steps": 0,
        "enable_checkpointing": False,
    }
    return pl.Trainer(**{**defaults, **options})


def keep_every(folder: Path, steps: int) -> ModelCheckpoint:
    return ModelCheckpoint(
        folder, every_n_train_steps=steps, save_top_k=-1, filename="{step}", save_last=True
    )


def test_a_fit_sees_each_record_once_an_epoch_and_development_once(source: str, tmp_path: Path):
    data = module(source)
    seen = Seen()
    trainer(tmp_path).fit(seen, data)
    ids = Counter(record.id for record in data.split("public"))
    for epoch in range(3):
        shown = [ids_ for number, ids_ in seen.batches if number == epoch]
        assert Counter(i for batch in shown for i in batch) == ids
        assert [len(batch) for batch in shown[:-1]] == [8] * (len(shown) - 1)
    development = Counter(record.id for record in data.split("development"))
    assert Counter(seen.development) == {record: 3 * n for record, n in development.items()}


@pytest.mark.parametrize("split", ["private", "held_out", "public"])
def test_the_module_names_the_split_that_it_trains_on(source: str, tmp_path: Path, split: str):
    data, seen = module(source), Seen()
    seen.training_split = split
    trainer(tmp_path, max_epochs=1).fit(seen, data)
    shown = Counter(i for _, batch in seen.batches for i in batch)
    assert shown == Counter(record.id for record in data.split(split))


@pytest.mark.parametrize(
    ("accumulate", "workers", "early"),
    [
        *((1, 0, True), (2, 0, True), (1, 0, False), (2, 2, True)),
        pytest.param(1, 2, True, marks=pytest.mark.slow),
    ],
)
def test_resume_in_mid_epoch_sees_exactly_the_rest(
    source: str, tmp_path: Path, accumulate: int, workers: int, early: bool
):
    options = {
        "batch_size": 6,
        "num_workers": workers,
        "splits": SplitOptions(caps=Caps(public=50)),
    }
    whole = Seen(ask_length_early=early)
    uninterrupted = trainer(tmp_path, accumulate_grad_batches=accumulate, max_epochs=2)
    uninterrupted.fit(whole, module(source, **options))
    per_epoch = len(whole.batches) // 2
    assert per_epoch == 9 * accumulate
    for stop_at in (3 * accumulate + 1, per_epoch + 4 * accumulate + 1):
        folder = tmp_path / str(stop_at)
        killed = Seen(stop_at=stop_at, ask_length_early=early)
        first = trainer(
            folder,
            accumulate_grad_batches=accumulate,
            max_epochs=2,
            enable_checkpointing=True,
            callbacks=[keep_every(folder, 1)],
        )
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            first.fit(killed, module(source, **options))
        done = stop_at // accumulate * accumulate
        resumed = Seen(ask_length_early=early)
        second = trainer(folder, accumulate_grad_batches=accumulate, max_epochs=2)
        second.fit(resumed, module(source, **options), ckpt_path=str(folder / "last.ckpt"))
        assert resumed.batches == whole.batches[done:]


def test_resume_at_the_end_of_an_epoch_begins_the_next(source: str, tmp_path: Path):
    options = {"batch_size": 6, "splits": SplitOptions(caps=Caps(public=24))}
    whole = Seen()
    trainer(tmp_path, max_epochs=3).fit(whole, module(source, **options))
    callbacks = [keep_every(tmp_path, 4)]
    killed = Seen(stop_at=6)
    first = trainer(tmp_path, max_epochs=3, enable_checkpointing=True, callbacks=callbacks)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        first.fit(killed, module(source, **options))
    resumed = Seen()
    path = str(tmp_path / "step=4.ckpt")
    trainer(tmp_path, max_epochs=3).fit(resumed, module(source, **options), ckpt_path=path)
    assert [batch for _, batch in resumed.batches] == [batch for _, batch in whole.batches[4:]]


def test_a_resume_with_another_order_is_refused(source: str, tmp_path: Path):
    callbacks = [keep_every(tmp_path, 2)]
    first = trainer(tmp_path, max_epochs=1, enable_checkpointing=True, callbacks=callbacks)
    first.fit(Seen(), module(source))
    path = str(tmp_path / "step=2.ckpt")
    for options, steps, named in (
        ({"batch_size": 4}, 1, r"batch_size \(was 8, is 4\)"),
        ({"seed": 1}, 1, "seed"),
        ({"splits": SplitOptions(seed=1)}, 1, "training records"),
        ({}, 2, "accumulate_grad_batches"),
    ):
        with pytest.raises(UserError, match=named):
            trainer(tmp_path, accumulate_grad_batches=steps).fit(
                Seen(), module(source, **options), ckpt_path=path
            )
    trainer(tmp_path).validate(Seen(), module(source, batch_size=4), ckpt_path=path)


@pytest.mark.parametrize("workers", [0, 1])
def test_serving_batches_leaves_the_global_generator_alone(
    source: str, tmp_path: Path, workers: int
):
    data, seen = module(source, num_workers=workers), Seen()
    fitted = trainer(tmp_path, max_epochs=1)
    fitted.fit(seen, data)
    before = torch.get_rng_state()
    batches = list(data.train_dataloader())
    assert len(list(data.val_dataloader())) > 0
    assert len(batches) == 0, "the epoch is over: nothing of it is left to serve"
    assert torch.equal(before, torch.get_rng_state())


def test_a_filler_scores_nothing_and_names_no_record(source: str, tmp_path: Path):
    seen = Seen()
    options = {"splits": SplitOptions(caps=Caps(public=5))}
    data = module(source, batch_size=3, **options)
    trainer(tmp_path, max_epochs=1, accumulate_grad_batches=2).fit(seen, data)
    batches = [batch for _, batch in seen.batches]
    assert [len(batch) for batch in batches] == [2, 1, 1, 1]
    data = module(source, batch_size=4, **options)
    seen = Seen()
    trainer(tmp_path, max_epochs=1, accumulate_grad_batches=2).fit(seen, data)
    assert seen.batches[-1][1] == [FILLER_ID]


def test_the_trained_tokenizer_reads_public_records_only(
    source: str, monkeypatch: pytest.MonkeyPatch
):
    read: list[str] = []

    def spy(texts: Iterable[str], vocabulary_size: int) -> PreTrainedTokenizerFast:
        read.extend(texts)
        return train_tokenizer(read, vocabulary_size)

    monkeypatch.setattr("datamodules.instruction.train_tokenizer", spy)
    data = module(source)
    data.setup("fit")
    public = data.split("public")
    assert read == [ALPACA.render(r.instruction, r.context) + r.response for r in public]
    assert len(data.tokenizer) == 280


def test_populations(source: str):
    data = module(source)
    data.setup("fit")
    placed = [*data.placements("private"), *data.placements("held_out")]
    assert {p.role for p in placed} == {"audit", "shots", "population", "calibration"}

    def audited() -> set[str]:
        return {r.content for name in ("private", "held_out") for r in data.population(name)}

    assert audited() == {p.content for p in placed}
    with pytest.raises(RuntimeError, match="'shots' are audited"):
        data.by_role("held_out", "shots")
    data.reserve(["shots"])
    assert audited() == {p.content for p in placed if p.role != "shots"}
    shots = [r.content for side in ("private", "held_out") for r in data.by_role(side, "shots")]
    assert set(shots) == {p.content for p in placed if p.role == "shots"}
    data.reserve(["population"])
    assert audited() == {p.content for p in placed if p.role in ("audit", "calibration")}
    everything = [
        r
        for name in ("private", "held_out", "public", "never", "development")
        for r in data.split(name)
    ]
    assert len(everything) == 201
    twice = next(i for i, n in Counter(r.id for r in everything).items() if n == 2)
    home = next(
        name
        for name in ("private", "held_out", "public", "never", "development")
        if twice in {r.id for r in data.split(name)}
    )
    assert Counter(r.id for r in data.population(home))[twice] <= 1
    with pytest.raises(UserError, match="unknown population 'privat'"):
        data.population("privat")


def test_counts(source: str, tmp_path: Path):
    data = module(source, max_tokens=265)
    data.setup("fit")
    counts = data.counts()
    assert sum(counts.values()) == 201
    assert counts["public"] == len(data.split("public"))


def test_canaries_are_planted_beside_the_private_split(source: str, tmp_path: Path):
    plan = CanaryPlan(coin=40, exposure_per_level=1, repetitions=(1, 4))
    data = module(source, canaries=plan, manifest_folder=str(tmp_path / "private"))
    data.setup("fit")
    inside = {r.id for r in data.population("canary_in")}
    outside = {r.id for r in data.population("canary_out")}
    assert len(inside) + len(outside) == 40
    assert inside.isdisjoint(outside)
    ordinary = {r.id for r in data.split("private")}
    trained = Counter(r.id for r in data.training_records("private"))
    planted = {i: n for i, n in trained.items() if i not in ordinary}
    exposure = {"canary-exposure-01-0000": 1, "canary-exposure-04-0000": 4}
    assert planted == {**dict.fromkeys(inside, 1), **exposure}
    swapped = {r.id for r in data.training_records("held_out")}
    assert swapped - {r.id for r in data.split("held_out")} == outside
    assert {r.id for r in data.training_records("public")} == {r.id for r in data.split("public")}
    assert len(set(data.clusters(data.population("canary_in")))) == len(inside)
    assert len((tmp_path / "private" / "canaries.jsonl").read_text().splitlines()) == 42


def test_private_parts_are_trained_one_by_one(source: str):
    plan = CanaryPlan(coin=30, exposure_per_level=0)
    parts = []
    for number in range(2):
        data = module(
            source, splits=SplitOptions(private_parts=2), private_part=number, canaries=plan
        )
        data.setup("fit")
        parts.append({r.id for r in data.training_records("private")})
    assert parts[0].isdisjoint(parts[1])
    together = module(source, splits=SplitOptions(private_parts=2), canaries=plan)
    together.setup("fit")
    assert parts[0] | parts[1] == {r.id for r in together.training_records("private")}
    with pytest.raises(UserError, match=r"private_part must be in 0\.\.1"):
        module(source, splits=SplitOptions(private_parts=2), private_part=2)


def test_manifest_of_a_run(source: str, tmp_path: Path):
    data = module(source, manifest_folder=str(tmp_path / "private"))
    data.setup("fit")
    rows = read_manifest(tmp_path / "private" / "manifest.parquet")
    assert {r.id for r in rows if r.split == "never"} == {r.id for r in data.split("never")}
    assert len(rows) == 201


def test_the_built_in_corpus_needs_no_file():
    data = InstructionDataModule(n_records=210, vocabulary=400, template="alpaca")
    data.setup("fit")
    assert {r.task for r in data.split("public")} == set(TASKS)
    assert data.clusters(data.split("public")) == [p.cluster for p in data.placements("public")]
    assert data.pad_id == data.tokenizer.pad_token_id


def test_faults(source: str):
    with pytest.raises(UserError, match="batch_size is 0: give at least 1"):
        module(source, batch_size=0)
    with pytest.raises(UserError, match="num_workers is -1: give at least 0"):
        module(source, num_workers=-1)
    with pytest.raises(RuntimeError, match="no encoder yet"):
        _ = module(source).tokenizer
    few = module(source, splits=SplitOptions(max_records=12))
    with pytest.raises(UserError, match="too few records for split"):
        few.setup("fit")
    small = module(source, max_prompt_tokens=20)
    with pytest.raises(UserError, match="the prompt template and one token take"):
        small.setup("fit")
    data = module(source)
    data.setup("fit")
    with pytest.raises(RuntimeError, match="need a Trainer"):
        data.val_dataloader()


def test_repeated_records_are_trained_on_once_and_audited_all_the_same(source: str) -> None:
    """A record that is there twice and copies of a canary; public records stay as they are."""
    plan = CanaryPlan(coin=10, exposure_per_level=2, repetitions=(1, 4))
    splits = SplitOptions(seed=next(s for s in range(99) if _twice_in_private(source, s)))
    plain, deduplicated = (
        module(source, splits=splits, canaries=plan, deduplicate=threshold)
        for threshold in (None, 0.9)
    )
    for data in (plain, deduplicated):
        data.setup("fit")
    before, after = (
        Counter(record.content for record in data.training_records("private"))
        for data in (plain, deduplicated)
    )
    assert set(after) == set(before)
    assert set(after.values()) == {1}
    assert sorted(before.values())[-3:] == [2, 4, 4]
    for name in ("public", "private"):
        assert deduplicated.split(name) == plain.split(name)
    assert deduplicated.training_records("public") == plain.training_records("public")
    with pytest.raises(UserError, match="deduplicate must be in"):
        module(source, deduplicate=0.0)


def _twice_in_private(source: str, seed: int) -> bool:
    data = module(source, splits=SplitOptions(seed=seed))
    data.setup("fit")
    return len(data.split("private")) > len({record.content for record in data.split("private")})
