"""SeqKD from bounded text, as a command: its guarantee outlives the run, ranks share one budget."""

import json
import shutil
from pathlib import Path

import pytest

from common.guarantee import Certificate, read
from kd_privacy.cli import main
from kdmodules.responses.teacher import read_responses
from kdmodules.sampling.guarded_sampling import PaidResponse
from tests.integration.conftest import fragments
from tests.processes import run_command


def command(teacher: Path, run_dir: Path, public: Path) -> list[str]:
    """A student of one teacher; draws are keyed, so that runs can be compared."""
    return [
        *fragments("student", "techniques/seqkd", "defences/private_ensemble"),
        f"--model.teacher={teacher / 'export'}",
        f"--model.responses.public={public}",
        "--model.responses.sampling.max_new_tokens=12",
        "--model.responses.clip=0.05",
        "--model.responses.draws_seed=3",
        "--trainer.max_epochs=1",
        f"--run_dir={run_dir}",
    ]


def texts(run_dir: Path) -> list[PaidResponse]:
    (path,) = (run_dir / "private").glob("teacher-responses-*.parquet")
    return read_responses(path, PaidResponse) or []


@pytest.fixture(scope="session")
def public(teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the teacher's weights, of which no run tells what they met."""
    return Path(shutil.copytree(teacher / "export", tmp_path_factory.mktemp("public") / "model"))


@pytest.fixture(scope="session")
def student(teacher: Path, public: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished student, on one rank."""
    run_dir = tmp_path_factory.mktemp("guarded") / "run"
    main(command(teacher, run_dir, public))
    return run_dir


def test_a_run_says_what_is_guaranteed_and_what_voids_it(student: Path, public: Path) -> None:
    guarantee = read(student)
    assert guarantee is not None
    assert guarantee.certificate is Certificate.dp
    assert guarantee.voided_by == (
        f"nothing tells that the public model, {public}, met no private record",
        "token draws are keyed by model.responses.draws_seed",
    )
    card = (student / "export" / "README.md").read_text()
    answered = texts(student)
    tokens = sum(len(one.token_ids) for one in answered)
    assert f"{len(answered)} of " in card
    assert f"prompts answered with {tokens} tokens" in card
    assert json.loads((student / "guarantee.json").read_text())["defence"] == "private_ensemble"


@pytest.mark.slow
def test_ranks_share_one_budget(student: Path, teacher: Path, public: Path, tmp_path: Path) -> None:
    devices = ["--trainer.devices=2", "--trainer.strategy=ddp"]
    done = run_command([*command(teacher, tmp_path / "run", public), *devices], ranks=2)
    assert done.returncode == 0, done.stderr
    one, two = texts(student), texts(tmp_path / "run")
    assert sum(len(response.token_ids) for response in two) <= 245
    assert one == two
    assert read(tmp_path / "run") == read(student)
