"""Records and options that nobody thought of are taken, or refused in one line without a text."""

import csv
import inspect
import json
import string
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonargparse import ActionConfigFile

from common.errors import UserError
from common.located_yaml import load_located
from datamodules.instruction import InstructionDataModule
from datamodules.records import read_records, records_from_rows
from kd_privacy.cli import fit_parser, parse_command
from kd_privacy.parsers import CheckingParser
from kd_privacy.run_options import check_length, check_run
from tests.siege.attempts import SECRET

ALIKE = settings(
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=50,
    suppress_health_check=list(HealthCheck),
)
FIELDS = (
    *("instruction", "input", "context", "response", "output", "category", "id", "subject"),
    *("messages", "conversations", "tools", "prompt", "completion", "question", "answer", "text"),
    *("role", "content", "from", "value", "tool_calls", f"{SECRET} said", ""),
)
TEXTS = st.one_of(
    st.text(max_size=8),
    st.sampled_from((SECRET, "user", "assistant", "\u200b", "\ud800", "\0", f"[{{{SECRET}", "[[")),
)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.just(10**400), st.floats(), TEXTS, TEXTS
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4)
    ),
    max_leaves=8,
)
TURNS = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(("user", "assistant")), "content": VALUES}),
    max_size=3,
)
ROWS = st.dictionaries(st.sampled_from(FIELDS), VALUES | TURNS, max_size=5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


def assert_tells_nothing(error: UserError) -> None:
    assert len(str(error).splitlines()) == 1
    assert SECRET not in str(error)


@ALIKE
@given(rows=st.lists(ROWS | VALUES, min_size=1, max_size=4))
def test_rows_of_any_kind(rows: list[object], folder: Path) -> None:
    path = folder / "records.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    try:
        records = read_records(str(path), allow_empty_response=True)
        assert len(records) == len(rows)
        # What was read can be stored and read again, whatever stands in it.
        again = records_from_rows([(one.origin, one.row) for one in records], "again", True)
        assert [one.content for one in again] == [one.content for one in records]
    except UserError as error:
        assert_tells_nothing(error)


@ALIKE
@given(
    cells=st.lists(st.lists(TEXTS, min_size=1, max_size=4), min_size=1, max_size=4),
    header=st.lists(st.sampled_from(FIELDS), min_size=1, max_size=4) | st.none(),
    delimiter=st.sampled_from(",;\t|"),
    cut=st.integers(0, 40),
)
def test_cells_of_any_kind(
    cells: list[list[str]], header: list[str] | None, delimiter: str, cut: int, folder: Path
) -> None:
    path = folder / "records.csv"
    with path.open("w", encoding="utf-8", errors="surrogatepass", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows([*([header] if header else []), *cells])
    path.write_bytes(path.read_bytes()[: -cut or None])
    try:
        read_records(str(path))
    except UserError as error:
        assert_tells_nothing(error)


@ALIKE
@given(text=st.text(alphabet="ab:-[]{}&*!<>|#'\" \n\t1.", max_size=60))
def test_yaml_of_any_kind(text: str, folder: Path) -> None:
    path = folder / "own.yaml"
    path.write_text(text, encoding="utf-8")
    try:
        load_located(path)
    except UserError as error:
        assert_tells_nothing(error)


OPTIONS = (
    *("seed_everything", "run_dir", "threads", "ckpt_path", "weights_only", "run.role"),
    *("model", "model.optimizer", "model.optimizer.lr", "model.optimizer.betas"),
    *("model.network.source", "model.network.config", "model.network.adapter", "model.split"),
    *("data", "data.source", "data.batch_size", "data.columns", "data.template", "data.splits"),
    *("trainer.devices", "trainer.max_steps", "trainer.max_time", "trainer.precision"),
    *("trainer.callbacks", "trainer.callbacks+", "audits.every_n_validations", "references"),
    *("recovery.save_every_n_steps", "export", "config", "nothing", "data.init_args.seed"),
)
DATA = tuple(f"data.{name}" for name in inspect.signature(InstructionDataModule).parameters)
WITHIN = ("splits.fractions", "splits.roles", "splits.seed", "canaries.coin", "encoding.cut")
OF_DATA = ("config", "data", *DATA, *(f"data.{name}" for name in WITHIN))
GIVEN = st.one_of(
    st.text(alphabet=string.printable, max_size=12),
    st.sampled_from(
        (
            *("", " ", "9" * 5000, *"nan -inf 1e400 -1 0 1.5 0x10 null true [] {} ~".split()),
            *("[1, [2]]", "{a: 1, a: 2}", "{a: &a [*a]}", "[!!python/name:os.system x]"),
            *("[" * 3000, "2026-01-01", "a\0b", "~nobody/x", "/proc/x", "\ud800", "é" * 300),
            *("os.system", "kdmodules.Nothing", "{class_path: os.system}", "{class_path: 3}"),
        )
    ),
)


@cache
def data_parser() -> CheckingParser:
    parser = CheckingParser(allow_abbrev=False)
    parser.add_argument("-c", "--config", action=ActionConfigFile)
    parser.add_class_arguments(InstructionDataModule, "data")
    return parser


def words(options: Sequence[tuple[str, str]]) -> list[str]:
    return [f"--{name}={text}" for name, text in options]


@ALIKE
@given(options=st.lists(st.tuples(st.sampled_from(OF_DATA), GIVEN), min_size=1, max_size=3))
def test_options_of_any_kind(options: Sequence[tuple[str, str]]) -> None:
    try:
        config = parse_command(data_parser(), words(options))
        data_parser().instantiate_classes(config)
    except UserError as error:
        assert_tells_nothing(error)


whole_parser = cache(fit_parser)


@pytest.mark.slow
@ALIKE
@given(options=st.lists(st.tuples(st.sampled_from(OPTIONS), GIVEN), min_size=1, max_size=3))
def test_options_of_a_fit(options: Sequence[tuple[str, str]], folder: Path) -> None:
    base = ["fit", "-c", "base/teacher", "-c", "data/builtin", "--trainer.max_steps=1"]
    given = [*base, f"--run_dir={folder / 'run'}", *words(options)]
    try:
        config = parse_command(whole_parser(), given)
        check_run(config.fit)
        check_length(config.fit.trainer)
    except UserError as error:
        assert_tells_nothing(error)
