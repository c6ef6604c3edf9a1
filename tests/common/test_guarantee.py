"""A run's guarantee as a file: read as it was written, found behind a teacher, voided by name."""

import json
from pathlib import Path

import pytest

from common.errors import UserError
from common.guarantee import FILE_NAME, Certificate, Guarantee, of_source, of_teachers, read, write

DP = Guarantee(
    certificate=Certificate.dp,
    defence="dp_teacher",
    epsilon=8.0,
    delta=5e-4,
    mu=1.99,
    rate=0.256,
    noise=1.33,
    steps=78,
    covers=("any number of students of this teacher",),
    does_not_cover=("the audit's page",),
)


def test_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert read(tmp_path) is None
    write(tmp_path, DP)
    assert read(tmp_path) == DP


@pytest.mark.parametrize("below", [".", "export", "export/adapter", "checkpoints/last.ckpt"])
def test_a_student_finds_its_teachers(tmp_path: Path, below: str) -> None:
    write(tmp_path, DP)
    place = tmp_path / below
    if place.suffix:
        place.parent.mkdir()
        place.touch()
    else:
        place.mkdir(parents=True, exist_ok=True)
    assert of_source(str(place)) == DP
    assert of_teachers([str(place)]) == DP


def test_the_folder_around_a_run_is_not_searched(tmp_path: Path) -> None:
    write(tmp_path, DP)
    (tmp_path / "student" / "export").mkdir(parents=True)
    assert of_source(str(tmp_path / "student" / "export")) is None
    assert of_source("gpt2") is None


def test_students_of_several_teachers_have_none(tmp_path: Path) -> None:
    write(tmp_path, DP)
    found = of_teachers([str(tmp_path), "gpt2"])
    assert found is not None
    assert not found.holds
    assert found.line.startswith("no guarantee (it has several teachers): epsilon 8 ")


def test_what_voids_it_stands_in_the_line_of_epsilon() -> None:
    assert DP.line == (
        "epsilon 8 at delta 0.0005 for each cluster (dp_teacher); does not cover the audit's page"
    )
    assert DP.voided("dp.seed is given", "dp.seed is given").short == (
        "no guarantee (dp.seed is given): epsilon 8 at delta 0.0005 for each cluster (dp_teacher)"
    )


@pytest.mark.parametrize(
    "content", ["{", "[]", "{}", json.dumps({"certificate": "dp", "defence": "d", "x": 1})]
)
def test_a_file_that_is_none_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE_NAME).write_text(content)
    with pytest.raises(UserError, match=FILE_NAME):
        read(tmp_path)
