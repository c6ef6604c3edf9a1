"""Single records on the page and in the tables that compare a student with its teacher."""

from dataclasses import replace

import pandas as pd
import pyarrow as pa
import pytest

from audits.membership.single_records import TRAITS
from audits.results import params_json, table_from_rows
from studies.compare.single_records import single_record_rows
from studies.report.sections.exposed_records import exposed_records
from studies.report.study_data import StudyData
from tests.studies.planted_report import cell, row, study

WORLDS = {"worlds": 16}
PARAMS = params_json(WORLDS)
NAMED = {"teacher": "ab", "student": "bc"}
"""Records that are named of each; a, b and c are private, d to f held out."""
TEACHER = cell("teacher")
STUDENT = replace(cell("student", "kd"), needs={"model.teacher": (TEACHER.id,)})


def record_table() -> pd.DataFrame:
    figures = {"separation": 2.0, "separation_lower": 1.0, "separation_upper": 3.0}
    rows = [
        {
            **{"run": one.alias, "step": 100, "record": record, "task": "open_qa"},
            **{"population": "private" if record in "abc" else "held_out"},
            **{"name": name, "params": WORLDS, "n_tokens": 5, "value": value},
        }
        for one, lift in ((TEACHER, 1.0), (STUDENT, 0.0))
        for place, record in enumerate("abcdef")
        for name, value in {
            **{name: value + lift - 0.1 * place for name, value in figures.items()},
            "separation_named": float(record in NAMED[one.role]),
        }.items()
    ]
    return table_from_rows("memorization", rows).to_pandas()


def results() -> list[dict[str, object]]:
    found = []
    for one, share in ((TEACHER, 0.5), (STUDENT, 0.2)):
        at = {"name": "single_records", "params": PARAMS, "population": "pool"}
        found += [
            row(one, "share_found", share, **at),
            row(one, "named", 2.0, **{**at, "lower": None, "upper": None}),
            row(one, "named", 2.0, **{**at, "lower": None, "upper": None}, task="open_qa"),
            row(one, "tail", 2.5, **at),
            row(one, "tail", 2.5, **at, task="open_qa"),
            row(one, "tail", 0.1, **{**at, "population": "never"}),
        ]
        found += [
            row(one, trait, value, **{**at, "params": params_json({**WORLDS, "records": group})})
            for group, value in (("named", 9.0), ("others", 7.0))
            for trait in TRAITS
        ]
    return found


def compared() -> list[dict[str, object]]:
    rows = [{**one, "role": "x", "audit": "membership"} for one in results()]
    columns = ("run", "role", "step", "audit", "name", "metric", "params")
    table = table_from_rows("results", [{name: one[name] for name in columns} for one in rows])
    return list(single_record_rows([TEACHER, STUDENT], table, record_table()))


def test_names_of_a_student_are_set_beside_its_teacher_s() -> None:
    rows = compared()
    counts = {one["metric"]: one["value"] for one in rows}
    assert counts == {
        "named_by_both": 1.0,  # b
        "named_by_student_only": 1.0,  # c
        "named_by_teacher_only": 1.0,  # a
    }
    assert {(one["run"], one["run_b"], one["n_members"]) for one in rows} == {
        (STUDENT.alias, TEACHER.alias, 6)
    }
    nobody = pa.Table.from_pylist([], schema=table_from_rows("results", []).schema)
    alone = record_table().query("run == 'teacher-gpt2-base-r1'")
    assert not list(single_record_rows([TEACHER, STUDENT], nobody, alone))


@pytest.fixture
def data() -> StudyData:
    rows = [*results(), *({**row(STUDENT, "auroc", 0.5), **one} for one in compared())]
    found = study([TEACHER, STUDENT], rows)
    found.__dict__["record_table"] = record_table()
    return found


def test_the_page_has_shares_names_and_traits(data: StudyData) -> None:
    shown = exposed_records(data)
    texts = {
        name: [[one.text for one in line] for line in table.rows]
        for name, table in shown.tables.items()
    }
    student = next(line for line in texts["single_records"] if line[0] == STUDENT.alias)
    assert student[1:] == [
        "0.200 [0.180, 0.220]",
        "2",
        "2.500 [2.480, 2.520]",
        "0.100 [0.080, 0.120]",
    ]
    assert texts["single_records_inherited"] == [[STUDENT.alias, "1", "1", "1", "6"]]
    assert [line[:5] for line in texts["single_records_traits"]] == [
        [one.alias, group, value, value, value]
        for one in (TEACHER, STUDENT)
        for group, value in (("named", "9"), ("others", "7"))
    ]
    assert [line[1:3] for line in texts["single_records_tasks"]] == [["open qa", "2"]] * 2
    assert texts["exposed_records"] == [
        [TEACHER.alias, "a", "open qa", "3.000 [2.000, 4.000]", "—"],
        [TEACHER.alias, "b", "open qa", "2.900 [1.900, 3.900]", "—"],
        [STUDENT.alias, "b", "open qa", "1.900 [0.900, 2.900]", "2.90"],
        [STUDENT.alias, "c", "open qa", "1.800 [0.800, 2.800]", "2.80"],
    ]


def test_without_worlds_there_is_nothing_of_them(data: StudyData) -> None:
    bare = study([TEACHER], [row(TEACHER, "auroc", 0.7)])
    assert not exposed_records(bare).tables
