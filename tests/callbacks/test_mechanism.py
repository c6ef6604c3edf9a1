"""What of a technique ran: counted beside the run, written with its results, said on its card."""

from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from audits.mechanism import Mechanism, mechanism_of, note, shown_technique
from callbacks.audit import RunTables
from callbacks.extra_rows import MechanismRecord
from callbacks.run import RunIdentity
from callbacks.schedule import FinalValidation
from callbacks.weights import ModelExport
from kdmodules.losses import KDLoss, PolicyGradient, SkewReverseKL
from kdmodules.optimization import OptimizerSettings
from kdmodules.responses import (
    AdaptiveReplay,
    DatasetResponses,
    MixedResponses,
    ResponseSource,
    TeacherMixedRollouts,
)
from kdmodules.sampling.mixture_sampling import MixtureSettings
from kdmodules.sampling.sampler import SamplingSettings
from tests.kdmodules.student_runs import make_data, make_student, make_trainer, write_teacher

STEPS = 12
SAMPLING = SamplingSettings(max_new_tokens=4)


def trained(
    source: ResponseSource, loss: KDLoss, folder: Path, warmup: int = 0
) -> tuple[pd.DataFrame, str]:
    """Rows of a run's results, and its card."""
    torch.set_num_threads(1)
    data = make_data(folder)
    student = make_student(write_teacher(folder, data), source, loss)
    student.optimizer = OptimizerSettings(lr=2e-3, warmup_steps=warmup)
    callbacks = [
        RunIdentity("run", "student", technique="configured"),
        *(FinalValidation(), MechanismRecord(), RunTables(), ModelExport()),
    ]
    make_trainer(folder, max_steps=STEPS, callbacks=callbacks).fit(student, data)
    rows = pd.read_parquet(folder / "results.parquet")
    return rows, (folder / "export/README.md").read_text()


def figures(rows: pd.DataFrame) -> dict[str, float]:
    assert set(rows["audit"]) == {"mechanism"}
    assert set(rows["step"]) == {STEPS}
    return dict(zip(rows["metric"], rows["value"], strict=True))


def test_shares_are_those_of_the_batches_that_were_trained_on(tmp_path: Path) -> None:
    source = AdaptiveReplay("increasing", 8, initial_threshold=0.7, sampling=SAMPLING)
    counted: Counter[str] = Counter()
    replace = source.replace

    def spy(batch: Any, context: Any) -> Any:
        before = list(source.buffer)
        found = replace(batch, context)
        if found is batch:
            counted["fixed"] += 1
        else:
            counted["replayed" if list(source.buffer) == before else "fresh"] += 1
        return found

    source.replace = spy
    rows, card = trained(source, SkewReverseKL(0.1), tmp_path)
    found = figures(rows)
    assert min(counted[kind] for kind in ("fresh", "replayed", "fixed")) > 0
    for kind, count in counted.items():
        assert found[f"share_{kind}"] == pytest.approx(count / STEPS)
    assert "| technique | configured |" in card
    assert "configured as" not in card
    assert f"| what of it ran | {counted['fresh'] / STEPS:.0%} fresh, " in card


def test_a_run_without_fresh_batches_is_called_by_its_objective(tmp_path: Path) -> None:
    rows, card = trained(AdaptiveReplay(sampling=SAMPLING), SkewReverseKL(0.1), tmp_path)
    found = figures(rows)
    assert (found["share_fixed"], found["share_fresh"], found["threshold"]) == (1, 0, 0)
    assert "| technique | offline skew reverse KL |" in card
    assert "trained with the technique `offline skew reverse KL`" in card
    assert "| configured as | configured |" in card
    assert "| what of it ran | 0% fresh, 0% replayed, 100% fixed |" in card


def test_rounds_and_the_warm_up_of_rollouts(tmp_path: Path) -> None:
    # 12 rollouts in batches of 6, twice, are 4 steps: 12 steps are 3 rounds.
    source = TeacherMixedRollouts(MixtureSettings(max_new_tokens=4), rollouts=12, inner_epochs=2)
    rows, card = trained(source, PolicyGradient(), tmp_path, warmup=3)
    assert figures(rows) == {"rounds": 3, "warmup_share": 0.25}
    assert "| technique | configured |" in card
    assert "| what of it ran | 3 rounds, 25% warm-up |" in card


@pytest.mark.parametrize("source", [DatasetResponses(), MixedResponses(0.0, sampling=SAMPLING)])
def test_what_does_as_it_is_configured_needs_no_rows(
    source: ResponseSource, tmp_path: Path
) -> None:
    rows, card = trained(source, SkewReverseKL(0.1), tmp_path, warmup=3)
    assert not len(rows)
    assert "what of it ran" not in card


def replay(fresh: float, replayed: float) -> Mechanism:
    shares = {"share_fresh": fresh, "share_replayed": replayed}
    return Mechanism(shares | {"share_fixed": 1 - fresh - replayed}, "SkewForwardKL")


def test_a_name_is_kept_only_by_runs_that_earn_it() -> None:
    none, some, old = replay(0, 0), replay(0.003, 0.1), replay(0, 0.2)
    rounds = Mechanism({"rounds": 1, "warmup_share": 1}, "PolicyGradient")
    assert shown_technique("distillm", []) == "distillm"
    assert shown_technique("distillm", [some, old]) == "distillm"
    assert shown_technique("distillm", [none, none]) == "offline skew forward KL"
    mixed = shown_technique("distillm", [none, some, old])
    assert mixed == "distillm (offline skew forward KL in 1 of 3 runs)"
    assert shown_technique("minillm", [rounds]) == "minillm"
    assert note([some]) == "<1% fresh, 10% replayed, 90% fixed"
    assert note([none, old]) == "0% fresh, 10% replayed, 90% fixed"
    assert note([rounds]) == "1 round, 100% warm-up"
    assert note([]) == ""


def test_the_last_step_of_a_run_counts() -> None:
    def row(step: int, metric: str, value: float) -> dict[str, object]:
        params = '{"objective": "SkewReverseKL"}'
        where = {"audit": "mechanism", "name": "responses", "params": params}
        return {"step": step, "metric": metric, "value": value, **where}

    rows = [row(3, "share_fresh", 0.0), row(6, "share_fresh", 0.5), row(6, "share_replayed", 0.0)]
    found = mechanism_of([*rows, {"audit": "membership", "name": "loss", "step": 9}])
    assert found == Mechanism({"share_fresh": 0.5, "share_replayed": 0.0}, "SkewReverseKL")
    assert mechanism_of([]) is None
