"""A mistake ends a command before its first step, with one line that names it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from lightning.pytorch.cli import LightningArgumentParser
from transformers import GPT2Config, GPT2LMHeadModel

from datamodules.synthetic import generate_records
from datamodules.tokenizer import train_tokenizer
from tests.configs.conftest import parser
from tests.integration.conftest import fragments

__all__ = ["parser"]

Refused = Callable[[list[str]], str]


def record(index: int, **changes: object) -> dict[str, object]:
    one = generate_records(index + 1, seed=3)[index]
    fields = {
        "instruction": one.instruction,
        "context": one.context,
        "response": one.response,
        "category": one.task,
    }
    return {**fields, **changes}


@pytest.fixture
def data(tmp_path: Path) -> Callable[[list[object]], list[str]]:
    """Writes lines to a JSONL file and returns the command that trains on it."""

    def write(lines: list[object]) -> list[str]:
        path = tmp_path / "records.jsonl"
        texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        path.write_text("\n".join(texts), encoding="utf-8")
        return [*fragments("teacher"), f"--data.source={path}", f"--run_dir={tmp_path / 'run'}"]

    return write


# Every other fault of a file: tests/datamodules/test_records.py.
def test_a_bad_record_names_its_line(
    data: Callable[[list[object]], list[str]], refused: Refused
) -> None:
    assert "records.jsonl:3" in refused(data([record(0), record(1), "{not json", record(3)]))


@pytest.mark.parametrize("option", ["--data=FILE", "--data FILE"])
def test_records_that_are_given_as_the_data_themselves(
    option: str, data: Callable[[list[object]], list[str]], refused: Refused
) -> None:
    file = data([record(0)])[-2].partition("=")[2]
    line = refused([*fragments("teacher"), *option.replace("FILE", file).split(" ")])
    assert f"{file} holds records, which --data does not name: give --data.source={file}" in line


def test_too_few_records_for_a_split(
    data: Callable[[list[object]], list[str]], refused: Refused
) -> None:
    line = refused(data([record(index) for index in range(6)]))
    assert "6" in line
    assert "min_records" in line


def test_template_longer_than_the_window(tmp_path: Path, refused: Refused) -> None:
    line = refused(
        [*fragments("teacher"), "--data.max_prompt_tokens=20", f"--run_dir={tmp_path / 'run'}"]
    )
    assert "max_prompt_tokens is 20" in line


def test_longer_records_than_the_models_window(tmp_path: Path, refused: Refused) -> None:
    line = refused(
        [
            *fragments("teacher"),
            "--model.network.config.n_positions=128",
            f"--run_dir={tmp_path / 'run'}",
        ]
    )
    assert "data.max_tokens is 512" in line
    assert "128" in line


def test_the_same_record_on_both_sides(teacher: Path, tmp_path: Path, refused: Refused) -> None:
    for side, first in (("a", 0), ("b", 3)):
        lines = [json.dumps(record(index)) for index in range(first, first + 5)]
        (tmp_path / f"{side}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    line = refused(
        [
            "validate",
            "-c",
            "configs/audits/external.yaml",
            f"--model.source={teacher / 'export'}",
            f"--data.members={tmp_path / 'a.jsonl'}",
            f"--data.nonmembers={tmp_path / 'b.jsonl'}",
            f"--run_dir={tmp_path / 'out'}",
        ]
    )
    assert "2 record(s) stand on both sides" in line


def test_mismatched_vocabularies(tmp_path: Path, refused: Refused) -> None:
    other = train_tokenizer([" ".join(str(record(index)) for index in range(40))], 512)
    folder = tmp_path / "teacher"
    other.save_pretrained(folder)
    config = GPT2Config(vocab_size=512, n_layer=1, n_head=1, n_embd=8, n_positions=512)
    GPT2LMHeadModel(config).save_pretrained(folder)
    line = refused(
        [
            *fragments("student", "techniques/kd"),
            f"--model.teacher={folder}",
            f"--run_dir={tmp_path / 'run'}",
        ]
    )
    assert str(folder) in line
    assert line.count("512 tokens") == 2


@pytest.mark.parametrize(
    ("option", "named"),
    [
        ("--trainer.max_epoch=4", "trainer.max_epoch"),
        ("--model.optimizer.lrate=4", "lrate"),
        ("--data.batch_size=many", "batch_size"),
        ("--config=FRAGMENT", "bach_size"),
    ],
)
def test_misspelt_options_are_named(
    option: str,
    named: str,
    parser: LightningArgumentParser,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("data:\n  init_args:\n    bach_size: 4\n", encoding="utf-8")
    with pytest.raises(SystemExit) as stopped:
        parser.parse_args([*fragments("teacher"), option.replace("FRAGMENT", str(path))])
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert named in said
    assert len(said) < 400


def test_shots_that_do_not_fit_are_refused_before_training(
    tmp_path: Path, refused: Refused
) -> None:
    fragment = tmp_path / "recall.yaml"
    fragment.write_text(
        "trainer:\n  callbacks+:\n    - class_path: callbacks.MembershipAudit\n      init_args:\n"
        "        attacks: [audits.membership.attacks.Recall]\n",
        encoding="utf-8",
    )
    run_dir = tmp_path / "run"
    command = [*fragments("teacher"), "-c", str(fragment), f"--run_dir={run_dir}"]
    roles = {"audit": 1.0, "shots": 0.0, "population": 0.0, "calibration": 0.0}
    options = [f"--data.splits.roles.{name}={share}" for name, share in roles.items()]
    line = refused([*command, *options])
    assert "data.splits.roles.shots" in line
    assert not list(run_dir.glob("checkpoints/*"))


def test_a_shadow_world_of_a_split_without_coins_is_refused_before_training(
    tmp_path: Path, refused: Refused
) -> None:
    fragment = tmp_path / "lira.yaml"
    fragment.write_text(
        "trainer:\n  callbacks+:\n    - class_path: callbacks.MembershipAudit\n      init_args:\n"
        "        attacks:\n          - class_path: audits.membership.attacks.LiRA\n"
        "            init_args: {references: [shadow0]}\n",
        encoding="utf-8",
    )
    run_dir = tmp_path / "run"
    line = refused(
        [
            *(*fragments("teacher"), "-c", str(fragment)),
            *("--data.splits.protocol=as_released", "--data.splits.held_out_rows=40"),
            f"--run_dir={run_dir}",
        ]
    )
    assert "only the swap protocol throws coins" in line
    assert not list(run_dir.glob("checkpoints/*"))


def test_a_reference_of_other_tokens_is_refused_before_training(
    tmp_path: Path, refused: Refused
) -> None:
    train_tokenizer([str(record(index)) for index in range(40)], 512).save_pretrained(tmp_path)
    fragment = tmp_path / "wbc.yaml"
    fragment.write_text(
        "trainer:\n  callbacks+:\n    - class_path: callbacks.MembershipAudit\n      init_args:\n"
        "        attacks:\n          - class_path: audits.membership.attacks.WBC\n"
        "            init_args: {reference: theirs}\n",
        encoding="utf-8",
    )
    command = [*fragments("teacher"), "-c", str(fragment), f"--run_dir={tmp_path / 'run'}"]
    line = refused([*command, f"--references.models.theirs={tmp_path}"])
    assert "attack wbc compares token by token, and the reference 'theirs' has another" in line
    assert "'theirs'; known: none" in refused(command)
    assert not list(tmp_path.glob("run/checkpoints/*"))


def test_an_empty_population_is_refused_before_training(tmp_path: Path, refused: Refused) -> None:
    run_dir = tmp_path / "run"
    command = [*fragments("teacher"), "-c", "configs/audits/utility.yaml", f"--run_dir={run_dir}"]
    shares = {"private": 0.3, "held_out": 0.3, "public": 0.3, "never": 0.0, "development": 0.1}
    line = refused(
        [*command, *(f"--data.splits.fractions.{name}={share}" for name, share in shares.items())]
    )
    assert "'never'" in line
    assert not list(run_dir.glob("checkpoints/*"))
