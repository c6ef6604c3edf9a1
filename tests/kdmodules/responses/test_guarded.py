"""Private prediction and CP-Delta as response sources: budget, guarantee, what voids or refuses."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from transformers import PreTrainedTokenizerFast

from common.errors import UserError
from common.guarantee import Certificate, read
from kdmodules.losses import ForwardKL, Reduction
from kdmodules.privacy.concentrated import clipped_mean_rho, epsilon_of
from kdmodules.query_filter import QueryFilter
from kdmodules.responses import CpDeltaResponses, PrivateEnsembleResponses, ResponseContext
from kdmodules.responses.teacher import read_responses
from kdmodules.sampling.guarded_sampling import PaidResponse
from kdmodules.sampling.sampler import SamplingSettings
from kdmodules.student import StudentModule
from tests.kdmodules.responses.conftest import (
    MakeContext,
    batch_of,
    prompts,
    random_records,
    scored,
    tiny,
)
from tests.kdmodules.student_runs import CONFIG, Network, OptimizerSettings

SAMPLING = SamplingSettings(max_new_tokens=8)
MakeRuns = Callable[..., tuple[ResponseContext, str]]


def write_run(folder: Path, split: str, **data: object) -> str:
    """What the export of a run says of its training."""
    (folder / "export").mkdir(parents=True)
    config = {
        "model": {"init_args": {"split": split, "network": {"source": None}}},
        "data": {"init_args": {"source": "builtin", "splits": {"seed": 1}, **data}},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return str(folder / "export")


@pytest.fixture
def make_runs(
    make_context: MakeContext, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> MakeRuns:
    """Teachers of disjoint parts and a public model, in folders of their runs."""

    def make(records: int = 30, teachers: int = 3) -> tuple[ResponseContext, str]:
        sources = [
            write_run(tmp_path / f"t{i}", "private", private_part=i) for i in range(teachers)
        ]
        public = write_run(tmp_path / "public", "public")
        tiny(tokenizer, 9).model.save_pretrained(public)
        tokenizer.save_pretrained(public)
        models = tuple(tiny(tokenizer, 20 + i) for i in range(teachers))
        context = make_context(random_records(records), teachers=models)
        start = write_run(tmp_path / "start", "public")
        return replace(context, teacher_sources=sources, student_source=start), public

    return make


def stored(context: ResponseContext) -> list[PaidResponse]:
    (path,) = context.private_folder.glob("teacher-responses-*.parquet")
    return read_responses(path, PaidResponse) or []


def test_the_budget_pays_for_whole_responses_in_a_public_order(make_runs: MakeRuns) -> None:
    context, public = make_runs(records=30)
    source = PrivateEnsembleResponses(public, clip=0.5, epsilon=8.0, sampling=SAMPLING)
    budget = source.tokens_paid_for(3)
    assert budget is not None
    assert SAMPLING.max_new_tokens < budget < 30 * 2
    source.prepare(context)
    found = stored(context)
    tokens = sum(len(one.token_ids) for one in found)
    assert budget - SAMPLING.max_new_tokens < tokens <= budget
    rho = clipped_mean_rho(3, 0.5, 1.0)
    assert all(one.cost == pytest.approx(rho * len(one.token_ids)) for one in found)
    guarantee = read(context.private_folder.parent)
    assert guarantee is not None
    assert guarantee.holds
    assert guarantee.defence == "private_ensemble"
    assert guarantee.epsilon == pytest.approx(epsilon_of(budget * rho, 1e-5))
    assert 7.0 < guarantee.epsilon <= 8.0
    assert source.mechanism() == {
        "answered": len(found),
        "prompts": 30,
        "tokens": tokens,
        "tokens_paid_for": budget,
    }


def test_prompts_without_a_response_train_on_another_ones(make_runs: MakeRuns) -> None:
    context, public = make_runs(records=30)
    source = PrivateEnsembleResponses(public, clip=0.5, sampling=SAMPLING)
    assert not source.fixed_text
    source.prepare(context)
    answers = {one.record_id: one.token_ids for one in stored(context)}
    records = list(context.records)
    assert 1 < len(answers) < len(records)
    batch = source.replace(batch_of(records), context)
    own = {record.record_id: record.prompt_ids for record in records}
    for record, name, prompt in zip(records, batch.record_ids, prompts(batch), strict=True):
        assert name == record.record_id or record.record_id not in answers
        assert prompt == own[name]
    assert scored(batch).items() <= answers.items()
    others = source.replace(batch_of(records), replace(context, epoch=1)).record_ids
    assert others != batch.record_ids


def test_text_is_sampled_once_whatever_the_seed_and_never_twice_alike(
    make_runs: MakeRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, public = make_runs(records=20)
    everything = {"clip": 0.5, "epsilon": None, "sampling": SAMPLING}
    PrivateEnsembleResponses(public, **everything).prepare(context)
    (path,) = context.private_folder.iterdir()
    first = stored(context)
    assert len(first) == 20
    path.unlink()
    PrivateEnsembleResponses(public, **everything).prepare(context)
    assert path.is_file()
    second = stored(context)
    assert {one.token_ids for one in first} != {one.token_ids for one in second}
    monkeypatch.setattr(PrivateEnsembleResponses, "_sample", None)
    PrivateEnsembleResponses(public, **everything).prepare(replace(context, seed=3))
    guarantee = read(context.private_folder.parent)
    assert guarantee is not None
    rho = 20 * SAMPLING.max_new_tokens * clipped_mean_rho(3, 0.5, 1.0)
    assert guarantee.epsilon == pytest.approx(epsilon_of(rho, 1e-5))


def test_a_seed_makes_text_again_and_voids_the_guarantee(make_runs: MakeRuns) -> None:
    context, public = make_runs(records=8)
    texts = []
    for folder in ("a", "b"):
        here = replace(context, private_folder=context.private_folder / folder / "private")
        source = PrivateEnsembleResponses(public, epsilon=None, sampling=SAMPLING, draws_seed=4)
        source.prepare(here)
        texts.append([one.token_ids for one in stored(here)])
        guarantee = read(here.private_folder.parent)
        assert guarantee is not None
        assert not guarantee.holds
        assert guarantee.line.startswith("no guarantee (token draws are keyed by model.responses.")
    assert texts[0] == texts[1]


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        (lambda runs: runs.pop("t1"), "nothing tells what t1 was trained on"),
        (lambda runs: _data(runs, "t2", private_part=0), "t0 and t2 met the same part"),
        (lambda runs: _data(runs, "t0", private_part=None), "t0 met the whole private split"),
        (lambda runs: _data(runs, "t0", splits={"seed": 2}), "t0 and t1 met parts of different"),
        (lambda runs: _start(runs, "t0", "t1"), "nothing tells what the start of t0, t1, was"),
        (lambda runs: _start(runs, "public", "t1"), "nothing tells that the public model, public"),
        (lambda runs: _model(runs, "t0", split="held_out"), "t0 met more than a part"),
        (lambda runs: _model(runs, "t2", teacher="T"), "t2 met more than a part"),
        (lambda runs: _data(runs, "public", splits={"seed": 2}), "nothing tells that the public"),
        (lambda runs: _data(runs, "start", n_records=9), "nothing tells that the student's start"),
        (lambda runs: _model(runs, "t0", network=_ADAPTED), "nothing tells what the start of t0"),
        (lambda runs: runs.pop("public"), "nothing tells that the public model, public, met"),
        (lambda runs: runs.pop("start"), "nothing tells that the student's start, start, met no"),
        (lambda runs: _start(runs, "start", "t1"), "nothing tells that the student's start, start"),
    ],
)
def test_what_runs_do_not_say_voids_the_guarantee(
    make_runs: MakeRuns, tmp_path: Path, broken: Callable[[dict[str, Any]], object], why: str
) -> None:
    context, public = make_runs(records=3)
    names = [path.parent.name for path in tmp_path.glob("*/config.yaml")]
    runs = {name: yaml.safe_load((tmp_path / name / "config.yaml").read_text()) for name in names}
    broken(runs)
    for name in names:
        path = tmp_path / name / "config.yaml"
        path.unlink()
        if name in runs:
            text = yaml.safe_dump(runs[name])
            path.write_text(text.replace("RUNS", str(tmp_path)))
    PrivateEnsembleResponses(public, epsilon=None, sampling=SAMPLING).prepare(context)
    guarantee = read(context.private_folder.parent)
    assert guarantee is not None
    assert not guarantee.holds
    named = guarantee.line.replace(f"{tmp_path}/", "").replace("/export", "")
    assert why in named
    assert "epsilon" in named


def test_public_records_of_another_split_void_the_guarantee(
    make_runs: MakeRuns, tmp_path: Path
) -> None:
    context, public = make_runs(records=3)
    source = PrivateEnsembleResponses(public, epsilon=None, sampling=SAMPLING)
    for seed, capped, holds in ((1, 3, True), (2, None, False)):
        run = tmp_path / f"run{seed}"
        write_run(run, "public", splits={"seed": seed, "caps": {"public": capped}})
        source.prepare(replace(context, private_folder=run / "private"))
        guarantee = read(run)
        assert guarantee is not None
        assert guarantee.holds is holds
        assert ("trained under another split" in guarantee.line) is not holds


_ADAPTED = {"source": None, "adapter_base": "RUNS/t1/export"}


def _model(runs: dict[str, Any], name: str, **options: object) -> None:
    runs[name]["model"]["init_args"] |= options


def _data(runs: dict[str, Any], name: str, **options: object) -> None:
    runs[name]["data"]["init_args"] |= options


def _start(runs: dict[str, Any], name: str, start: str) -> None:
    runs[name]["model"]["init_args"]["network"]["source"] = f"RUNS/{start}/export"


def test_cp_delta_says_how_likely_each_response_may_be(make_runs: MakeRuns) -> None:
    context, _ = make_runs(records=12, teachers=2)
    source = CpDeltaResponses(SAMPLING)
    source.prepare(context)
    nats = [one.cost for one in stored(context)]
    assert min(nats) > 0.0
    figures = source.mechanism()
    assert figures["nats_largest"] == max(nats)
    assert figures["nats_median"] == np.median(nats)
    guarantee = read(context.private_folder.parent)
    assert guarantee is not None
    assert guarantee.certificate is Certificate.instance
    assert guarantee.epsilon is None
    assert not guarantee.holds
    assert "instance only; does not cover the student's weights" in guarantee.line
    records = list(context.records)
    batch = source.replace(batch_of(records), context)
    assert scored(batch) == {one.record_id: one.token_ids for one in stored(context)}


def test_what_cannot_be_bounded_is_refused(make_runs: MakeRuns) -> None:
    context, public = make_runs(records=3, teachers=3)
    with pytest.raises(UserError, match="draws every token from the whole vocabulary"):
        PrivateEnsembleResponses(public, sampling=SamplingSettings(top_p=0.9))
    with pytest.raises(UserError, match="draws every token from the whole vocabulary"):
        CpDeltaResponses(SamplingSettings("greedy"))
    with pytest.raises(UserError, match=r"model\.responses\.delta is 1"):
        PrivateEnsembleResponses(public, delta=1.0)
    with pytest.raises(UserError, match="two teachers of disjoint halves, model.teacher names 3"):
        CpDeltaResponses(SAMPLING).prepare(context)
    with pytest.raises(UserError, match=r"pays for \d tokens .* lower model\.responses\.clip"):
        PrivateEnsembleResponses(public, clip=9.0, epsilon=0.5, sampling=SAMPLING).prepare(context)
    with pytest.raises(UserError, match=r"model\.responses\.public is a teacher"):
        PrivateEnsembleResponses(context.teacher_sources[0]).prepare(context)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"reduction": Reduction(kd_ratio=0.5)}, r"model\.reduction\.kd_ratio reads their prob"),
        ({"query_filter": QueryFilter()}, r"model\.query_filter reads their probabilities"),
    ],
)
def test_a_student_that_reads_more_than_text_is_refused(
    options: dict[str, Any], named: str
) -> None:
    given = {
        "network": Network("gpt2", None, CONFIG),
        "optimizer": OptimizerSettings(),
        "teacher": ["t", "u"],
        "kd_loss": ForwardKL(),
        "responses": CpDeltaResponses(SAMPLING),
        "reduction": Reduction(kd_ratio=0.0),
    }
    StudentModule(**given)
    with pytest.raises(UserError, match=named):
        StudentModule(**{**given, **options})
