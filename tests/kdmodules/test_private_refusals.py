"""What voids a guarantee is refused by the name of its option; what does not is let through."""

from pathlib import Path

import pytest
import yaml
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.strategies import ModelParallelStrategy

from common.errors import UserError
from kdmodules.privacy.settings import PrivateTraining, solved_noise
from kdmodules.private_refusals import refuse_choice_by_teachers, refuse_private_training
from tests.kdmodules.student_runs import make_trainer

REFUSED = {
    "gradient_clip_val is 1.0": {"gradient_clip_val": 1.0},
    "accumulate_grad_batches is 2": {"accumulate_grad_batches": 2},
    "ModelParallelStrategy": {"strategy": ModelParallelStrategy()},
    "limit_train_batches": {"limit_train_batches": 3},
    "EarlyStopping follows train/loss": {"callbacks": [EarlyStopping("train/loss")]},
    "ModelCheckpoint follows membership/private/loss/auroc": {
        "callbacks": [ModelCheckpoint(monitor="membership/private/loss/auroc")],
        "enable_checkpointing": True,
    },
}


@pytest.mark.parametrize("said", REFUSED)
def test_options_that_void_it_are_refused_by_name(said: str, tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, **REFUSED[said])
    with pytest.raises(UserError, match=said):
        refuse_private_training(trainer, "private", None)


def test_the_public_split_is_refused_and_both_sides_of_the_pool_are_not(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, callbacks=[EarlyStopping("val/loss")])
    for split in ("private", "held_out"):
        refuse_private_training(trainer, split, "gpt2")
    with pytest.raises(UserError, match="protects none of the private records"):
        refuse_private_training(trainer, "public", None)


def write_run(
    folder: Path,
    split: str | None,
    start: Path | None = None,
    option: str = "source",
    **data: object,
) -> Path:
    """A run folder with the saved configuration of a teacher, or of what trains on a split."""
    options: dict[str, object] = {"network": {option: None if start is None else str(start)}}
    if split is not None:
        options["split"] = split
    model = {"class_path": "kdmodules.TeacherModule", "init_args": options}
    (folder / "export").mkdir(parents=True)
    config = {"model": model, "data": {"init_args": data}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder / "export"


def test_weights_that_met_private_records_are_refused(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    teacher = write_run(tmp_path / "teacher", None)
    public = write_run(tmp_path / "init", "public")
    of_teacher = write_run(tmp_path / "tainted", "public", start=teacher)
    adapted = write_run(tmp_path / "adapted", "public", start=teacher, option="adapter_base")
    refuse_private_training(trainer, "private", str(public))
    for source in (teacher, of_teacher, adapted):
        with pytest.raises(UserError, match="start from public weights"):
            refuse_private_training(trainer, "private", str(public), str(source))


def test_public_weights_of_another_split_are_refused(tmp_path: Path) -> None:
    def splits(seed: int, shadow: int | None = None) -> dict[str, object]:
        return {"source": "builtin", "splits": {"seed": seed, "shadow": shadow}}

    write_run(tmp_path / "run", None, **splits(1, shadow=3))
    trainer = make_trainer(tmp_path / "run")
    same = write_run(tmp_path / "same", "public", **splits(1))
    other = write_run(tmp_path / "other", "public", **splits(2))
    elsewhere = write_run(tmp_path / "elsewhere", "public", **{**splits(2), "source": "a.jsonl"})
    refuse_private_training(trainer, "private", str(same), str(elsewhere))
    with pytest.raises(UserError, match="public records of another split"):
        refuse_private_training(trainer, "private", str(other))


def test_students_of_bounded_text_are_not_chosen_by_their_teachers(tmp_path: Path) -> None:
    refuse_choice_by_teachers(make_trainer(tmp_path, callbacks=[EarlyStopping("val/loss")]))
    trainer = make_trainer(tmp_path, callbacks=[EarlyStopping("val/teacher_kl")])
    with pytest.raises(UserError, match="EarlyStopping follows val/teacher_kl"):
        refuse_choice_by_teachers(trainer)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "neither is given"),
        ({"epsilon": 8.0, "noise": 1.0}, "both are given"),
        ({"epsilon": 0.0}, "epsilon is 0"),
        ({"noise": -1.0}, "noise is -1"),
        ({"noise": 1.0, "clip": 0.0}, "clip is 0"),
        ({"noise": 1.0, "delta": 1.0}, "delta is 1"),
        ({"noise": 1.0, "units": 0.5}, "units is 0.5"),
    ],
)
def test_settings_out_of_range_are_refused(options: dict[str, float], said: str) -> None:
    with pytest.raises(UserError, match=said):
        PrivateTraining(**options)


def test_a_target_without_a_noise_is_refused() -> None:
    with pytest.raises(UserError, match=r"epsilon 1e-06 is out of reach"):
        solved_noise(PrivateTraining(epsilon=1e-6, delta=1e-9), 100, rate=1.0, steps=1000)
