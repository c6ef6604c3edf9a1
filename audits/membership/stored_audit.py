"""An audit's measurements on disk, from which attacks run later without a model.

A folder of one checkpoint holds ``audit.json`` (whose audit, which populations are set against
each other) and a folder per population: ``records.parquet`` (texts, clusters, and what each
reference met) and one file per measurement. It tells of private records, texts included, and
belongs in a run's private folder.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from audits.membership.evaluation import Opposition, Side
from audits.membership.frequencies import TokenFrequencies, load_frequencies, save_frequencies
from audits.membership.measurements import OutsideTop, Scored
from audits.membership.plan import AuditPlan
from audits.membership.signals import RecordSignal
from audits.membership.view import AuditView
from audits.results import write_table
from audits.scoring.statistics_file import StatisticsFile, open_statistics, save_statistics
from audits.scoring.token_statistics import SHARD_RECORDS, shard_places
from common.atomic_file import make_private, replacing
from common.errors import UserError
from common.own_files import read_json
from common.parquet_file import CHECKED, read_parquet
from datamodules.chats import Chat
from datamodules.records import InstructionRecord, RecordKind
from datamodules.sensitive import SensitiveSpan

_ABOUT = "audit.json"
_RECORDS = "records.parquet"
_AGAIN = "delete the folder and audit again"
_FIELDS = tuple(field.name for field in fields(InstructionRecord))
_SCORED = "scored text"


@dataclass(frozen=True)
class StoredAudit:
    """What was measured of one checkpoint.

    Attributes:
        identity: Identity columns of the results table, the step included.
        sides: Populations by name.
        oppositions: Which are set against each other.
        vocabulary_size: Tokens that the model chooses among; None if an earlier release stored it.
    """

    identity: Mapping[str, str | int | None]
    sides: Mapping[str, Side]
    oppositions: Sequence[Opposition]
    vocabulary_size: int | None


def save_audit(folder: Path, audit: StoredAudit) -> None:
    """Writes an audit; ``audit.json`` comes last, so that a folder that holds it is whole.

    Args:
        folder: Of the checkpoint; created with mode 0700.
        audit: What was measured.
    """
    make_private(folder)
    about = folder / _ABOUT
    about.unlink(missing_ok=True)
    for name, side in audit.sides.items():
        save_view(side.view, side.clusters, folder / name)
    content = {
        "identity": dict(audit.identity),
        "vocabulary_size": audit.vocabulary_size,
        "empty": {name: side.empty for name, side in audit.sides.items()},
        "oppositions": [asdict(pair) for pair in audit.oppositions],
    }
    about.write_text(json.dumps(content, indent=1, sort_keys=True), encoding="utf-8")


def load_audit(folder: Path, plan: AuditPlan) -> StoredAudit:
    """Reads what a plan needs of a stored audit.

    Raises:
        UserError: The folder holds no whole audit, or not what the plan needs.
    """
    about = folder / _ABOUT
    if not about.is_file():
        raise UserError(
            f"{folder} holds no stored audit: name a folder private/statistics/step=<n> of a run "
            "whose callbacks.MembershipAudit had save_statistics"
        )
    content = read_json(about, _AGAIN)
    try:
        pairs = [Opposition(**pair) for pair in content["oppositions"]]
        identity, empty = dict(content["identity"]), dict(content["empty"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{about} does not hold what was written there: {_AGAIN}") from error
    sides = {
        name: Side(*load_view(folder / name, plan), empty=skipped)
        for name, skipped in empty.items()
    }
    return StoredAudit(identity, sides, pairs, content.get("vocabulary_size"))


def save_view(view: AuditView, clusters: Sequence[str], folder: Path) -> None:
    """Writes a view; each file atomically, the records last.

    Args:
        view: What was measured.
        clusters: Name of each record's near-duplicate cluster.
        folder: The population's folder; created with mode 0700.
    """
    make_private(folder)
    for request, table in view.passes.items():
        save_statistics(table, folder / request.file_name)
    for signal, values in view.signals.items():
        content = pa.table({"record": [one.id for one in view.records], "values": values.tolist()})
        write_table(
            content.replace_schema_metadata({"label": signal.label}), folder / signal.file_name
        )
    for corpus, log_frequencies in view.frequencies.items():
        save_frequencies(log_frequencies, folder / corpus.file_name)
    _save_records(view, clusters, folder / _RECORDS)


def _save_records(view: AuditView, clusters: Sequence[str], path: Path) -> None:
    met = {f"met {name}": values.tolist() for name, values in view.met.items()}
    texts = [(name, pa.string()) for name in (*_FIELDS, "cluster", _SCORED)]
    schema = pa.schema([*texts, *((name, pa.bool_()) for name in met)])
    with replacing(path) as file, pq.ParquetWriter(file, schema, **CHECKED) as writer:
        for places in shard_places(len(view.records), SHARD_RECORDS):
            own = slice(int(places[0]), int(places[-1]) + 1)
            records = view.records[own]
            columns = {name: [_text(record, name) for record in records] for name in _FIELDS}
            columns |= {
                "cluster": list(clusters[own]),
                _SCORED: [view.scored_text(record) for record in records],
                **{name: one[own] for name, one in met.items()},
            }
            writer.write_table(pa.table(columns, schema))


def _text(record: InstructionRecord, name: str) -> str | None:
    """Returns a field as text; a conversation and sensitive spans as JSON."""
    if name == "sensitive":
        return json.dumps([asdict(span) for span in record.sensitive])
    if name == "chat":
        return None if record.chat is None else json.dumps(asdict(record.chat), default=str)
    value = getattr(record, name)
    return None if value is None else str(value)


def _record(texts: dict[str, Any]) -> InstructionRecord:
    chat = json.loads(texts.pop("chat", None) or "null")
    kind = RecordKind(texts.pop("kind", RecordKind.instruction))
    spans = json.loads(texts.pop("sensitive", None) or "[]")
    if chat is not None:
        chat = Chat(tuple(chat["messages"]), tuple(chat["tools"]))
    sensitive = tuple(SensitiveSpan(**span) for span in spans)
    return InstructionRecord(**texts, kind=kind, chat=chat, sensitive=sensitive)


def load_view(folder: Path, plan: AuditPlan) -> tuple[AuditView, list[str]]:
    """Reads what a plan needs of a stored view.

    Args:
        folder: What :func:`save_view` wrote.
        plan: What the attacks require.

    Returns:
        The view, and the name of each record's cluster.

    Raises:
        UserError: The folder holds no view, or a measurement that the plan needs was not stored, or
            the files are of different records.
    """
    path = folder / _RECORDS
    if not path.is_file():
        raise UserError(f"{folder} holds no stored audit: there is no {_RECORDS}")
    content = read_parquet(path, _AGAIN).to_pydict()
    names = [name for name in _FIELDS if name in content]  # earlier audits knew fewer
    records = [
        _record(dict(zip(names, texts, strict=True)))
        for texts in zip(*(content[name] for name in names), strict=True)
    ]
    met = {
        name.removeprefix("met "): torch.tensor(values)
        for name, values in content.items()
        if name.startswith("met ")
    }
    passes: dict[Scored, StatisticsFile] = {}
    signals: dict[RecordSignal, Tensor] = {}
    frequencies: dict[TokenFrequencies, Tensor] = {}
    for one in plan.measurements:
        if one.request == OutsideTop():
            continue  # columns of the first pass, whose reader says where they are missing
        place = folder / one.request.file_name
        if not place.is_file():
            raise UserError(
                f"attacks {', '.join(one.attacks)} need {one.request.label!r}, which {folder} does "
                f"not hold: audit with these attacks and save_statistics once"
            )
        if isinstance(one.request, Scored):
            passes[one.request] = open_statistics(place)
        elif isinstance(one.request, RecordSignal):
            signals[one.request] = _signal(place, [record.id for record in records])
        elif isinstance(one.request, TokenFrequencies):
            frequencies[one.request] = load_frequencies(place)
    _require_one_audit(folder, passes)
    texts = dict(zip(content["id"], content.get(_SCORED, content["response"]), strict=True))
    try:
        view = AuditView(
            records,
            passes,
            signals,
            met,
            frequencies,
            scored_text=lambda record: texts[record.id],
        )
    except ValueError as error:
        raise UserError(f"{folder}: {error}; audit again") from error
    return view, content["cluster"]


def _require_one_audit(folder: Path, passes: Mapping[Scored, StatisticsFile]) -> None:
    """Refuses what several audits left, if they turned records into tokens in different ways."""
    texts = {table.key and table.key.records for one, table in passes.items() if one.own_records}
    models = {(one.model, table.key and table.key.model) for one, table in passes.items()}
    if len(texts) > 1 or len(models) > len({one.model for one in passes}):
        raise UserError(
            f"{folder} holds statistics of other tokens or models side by side: delete the folder "
            "and audit again"
        )


def _signal(path: Path, record_ids: Sequence[str]) -> Tensor:
    content = read_parquet(path, _AGAIN)
    if content.column("record").to_pylist() != list(record_ids):
        raise UserError(f"{path} is of other records than {_RECORDS} beside it: audit again")
    return torch.from_numpy(np.stack(content.column("values").to_numpy()).astype(np.float64))
