"""Which records an attack may see."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from audits.membership.measurements import Scored
from audits.membership.plan import AuditPlan
from audits.membership.stored_audit import load_view, save_view
from audits.membership.view import AuditView
from audits.scoring.token_statistics import TokenStatistics
from datamodules.chats import Chat
from datamodules.records import RecordKind
from datamodules.sensitive import SensitiveSpan
from tests.audits.membership.conftest import (
    LENGTHS,
    Case,
    random_statistics,
    records,
    view_of,
)


def with_gap(seed: int, gap: str) -> TokenStatistics:
    place = int(gap.removeprefix("record-"))
    return random_statistics(seed, (*LENGTHS[:place], 0, *LENGTHS[place + 1 :]))


def test_records_without_tokens_are_exposed_and_left_out() -> None:
    view = view_of(records(), with_gap(0, "record-3"), base=with_gap(1, "record-5"))
    assert view.scorable.tolist() == [True, True, True, False, True, False, True, True]
    assert view.skipped == 2
    kept = view.scorable_only()
    assert kept.skipped == 0
    expected = tuple(f"record-{i}" for i in (0, 1, 2, 4, 6, 7))
    assert kept.statistics.record_ids == kept.tokens(Scored(model="base")).record_ids == expected
    assert [record.id for record in kept.records] == list(expected)


def test_a_view_of_scorable_records_skips_none(case: Case) -> None:
    assert case.view.skipped == 0
    assert case.view.scorable.all()


def test_tables_of_other_records_are_refused() -> None:
    table = random_statistics(seed=0)
    with pytest.raises(ValueError, match="audited: original text"):
        view_of(records()[::-1], table)
    with pytest.raises(ValueError, match="base: original text"):
        view_of(records(), table, base=table.take(torch.arange(len(table) - 1)))


def test_a_stored_view_has_the_records_whole(case: Case, tmp_path: Path) -> None:
    turns = ({"role": "user", "content": None, "tool_calls": [{"a": 1}]}, {"role": "assistant"})
    chat, first = Chat(turns, ({"name": "t"},)), case.view.records[0]
    spans = (SensitiveSpan("Plain", "words"), SensitiveSpan("4071", "number"))
    one = replace(first, kind=RecordKind.chat, chat=chat, subject="s", sensitive=spans)
    view = AuditView([one, *case.view.records[1:]], {}, scored_text=lambda record: record.id * 2)
    names = [record.id for record in view.records]
    save_view(view, names, tmp_path)
    again, clusters = load_view(tmp_path, replace(AuditPlan.of([]), measurements=()))
    assert (list(again.records), clusters) == (list(view.records), names)
    assert [again.scored_text(record) for record in again.records] == [name * 2 for name in names]
