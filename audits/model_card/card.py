"""The README.md of an exported model: a Hugging Face model card with what its audits measured.

A card travels with the weights, so it holds names, counts and figures only: no function here
is given a record, and the folder that a data file lies in is left out of its name.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import yaml

from audits.answer import Answer
from audits.guarantee import guarantee_of
from audits.known_text import warnings_of
from audits.mechanism import mechanism_of, note, shown_technique
from audits.model_card.markdown import Row, cell, figure_text, line, options_text, table
from audits.model_card.privacy_section import (
    guarantee_section,
    memorization_section,
    privacy_section,
)
from audits.model_card.span_section import span_section
from audits.model_card.summary_section import model_index, summary_section
from common.wording import public_name
from kdmodules.models.adapters import Adapter


@dataclass(frozen=True, slots=True)
class DataDescription:
    """What the model was trained on, without any of it.

    Attributes:
        source: A hub name or a path; of an absolute path only the last part is printed.
        split: The split that these weights were fitted on: private, public, or held_out.
        counts: Records per split, for instance {"private": 300, "held_out": 300}.
        protocol: How the splits were made: "swap" or "as_released".
        manifest: Hash of the split manifest, so that the owner can find the records again.
    """

    source: str
    split: str
    counts: Mapping[str, int]
    protocol: str
    manifest: str | None = None


def model_card(
    identity: Mapping[str, str | int | None],
    rows: Sequence[Row],
    versions: Mapping[str, str],
    data: DataDescription,
    base_model: str | None = None,
    adapter: Adapter | None = None,
    answer: Answer | None = None,
) -> str:
    """Return the text of a model card: YAML front matter, then Markdown.

    Args:
        identity: The run's name, role, family, size, technique and seed; None is left out.
        rows: Rows of results.parquet of this run; the last step of each audit is shown, all tasks
            and blocks together.
        versions: Package name to version.
        data: The training data's description.
        base_model: Hub name or folder of the weights that training started from.
        adapter: What was trained, its targets named; None where it was every weight.
        answer: What its audits say first; None where none ran.

    Raises:
        ValueError: If `identity` has no `run`.
    """
    name = identity.get("run")
    if not name:
        raise ValueError("a model card needs the run's name")
    membership = _last_rows(rows, "membership")
    spans = span_section(_last_rows(rows, "spans"))
    mechanism, guarantee = mechanism_of(rows), guarantee_of(rows)
    if mechanism is not None and identity.get("technique"):
        configured = str(identity["technique"])
        shown = shown_technique(configured, [mechanism])
        identity = {
            **identity,
            "technique": shown,
            "configured as": configured if configured != shown else None,
            "what of it ran": note([mechanism]),
        }
    sections = [
        _front_matter(identity, base_model, answer),
        f"# {cell(name)}",
        *(f"**Warning: {one}.**" for one in warnings_of(rows)),
        *([] if guarantee is None else [guarantee_section(guarantee)]),
        *([] if answer is None else [summary_section(answer)]),
        _introduction(identity, adapter),
        table(("Field", "Value"), [(k, v) for k, v in identity.items() if v is not None]),
        "## Training data\n\n" + _data(data, identity),
        "## Privacy\n\n" + privacy_section(membership),
        "## Memorization\n\n" + memorization_section(_last_rows(rows, "memorization"), membership),
        *(f"## Sensitive spans\n\n{one}" for one in [spans] if one),
        "## Utility\n\n" + _utility(_last_rows(rows, "utility")),
        "## Versions\n\n" + table(("Package", "Version"), sorted(versions.items())),
    ]
    return "\n\n".join(sections) + "\n"


def _front_matter(
    identity: Mapping[str, str | int | None], base_model: str | None, answer: Answer | None
) -> str:
    tags = ["kd-privacy", "knowledge-distillation", "membership-inference"]
    # On one line each: a value with a line of dashes would end the front matter.
    tags += [line(identity[key]) for key in ("technique", "role") if identity.get(key)]
    fields: dict[str, object] = {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": tags,
    }
    if base_model is not None:
        fields["base_model"] = line(public_name(base_model))
    if answer is not None and (index := model_index(answer, line(identity["run"]))):
        fields["model-index"] = index
    return "---\n" + yaml.safe_dump(fields, sort_keys=False, allow_unicode=True) + "---"


def _introduction(identity: Mapping[str, str | int | None], adapter: Adapter | None) -> str:
    technique = identity.get("technique")
    how = f", trained with the technique `{technique}`" if technique else ""
    return (
        f"A language model in the role of *{identity.get('role') or 'unnamed'}*{how}, exported by "
        "kd-privacy with its last weights (never the best ones on some loss)."
        f"{_adapter(adapter)}"
    )


def _adapter(adapter: Adapter | None) -> str:
    if adapter is None:
        return ""
    return (
        f" Only a LoRA adapter was trained (r {adapter.r}, alpha {adapter.alpha}, dropout "
        f"{adapter.dropout} on {', '.join(adapter.targets or ())}): it is merged into these "
        "weights, and lies alone in `adapter/`, in PEFT's format."
    )


def _data(data: DataDescription, identity: Mapping[str, str | int | None]) -> str:
    told = f"Fitted on the *{data.split}* split"
    if data.split in data.counts:
        told += f", {data.counts[data.split]} records"
    told += "."
    if identity.get("technique"):
        told += (
            " A teacher took part: what it holds of the records that it was trained on can reach "
            "these weights."
        )
    facts: list[tuple[object, ...]] = [
        ("source", public_name(data.source)),
        ("fitted on", data.split),
        ("split protocol", data.protocol),
    ]
    facts += [(f"records, {split}", count) for split, count in data.counts.items()]
    if data.manifest is not None:
        facts.append(("split manifest", data.manifest))
    told += f"\n\n{table(('Field', 'Value'), facts)}"
    return f"{told}\n\nNo text of any record is part of this card."


def _utility(rows: Sequence[Row]) -> str:
    if not rows:
        return "No utility audit was run on these weights."
    lines = [
        (
            f"{row['name']}{options_text(row)}",
            row["metric"],
            row["population"],
            figure_text(row),
            row.get("n_nonmembers") or row.get("n_members"),
        )
        for row in rows
    ]
    return table(("Measure", "Metric", "Records", "Value [95% interval]", "Count"), lines)


def _last_rows(rows: Sequence[Row], audit: str) -> list[Row]:
    """Return an audit's rows at its last step, over all tasks and blocks, compared with no run."""
    own = [row for row in rows if row["audit"] == audit]
    last = max((_step(row) for row in own), default=0)
    splits = ("task", "block", "run_b")
    return [
        row
        for row in own
        if _step(row) == last and all(row.get(column) is None for column in splits)
    ]


def _step(row: Row) -> int:
    return int(str(row["step"]))
