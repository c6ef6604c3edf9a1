"""The README.md of an exported model: a Hugging Face model card with what its audits measured.

A card travels with the weights, so it holds names, counts and figures only: no function here
is given a record, and the folder that a data file lies in is left out of its name.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath, PureWindowsPath

import yaml

from kdmodules.adapters import Adapter

Row = Mapping[str, object]

_PRIVACY_COLUMNS = (
    "Attack",
    "Compared",
    "AUROC [95% interval]",
    "TPR at 1% FPR [95% interval]",
    "Members",
    "Non-members",
    "Text alone tells them apart",
)
_CLAIM = (
    "AUROC is the chance that a random member scores above a random non-member: 0.5 is no "
    "leak, 1 is complete. It is what these attacks recovered, a lower bound on what is there; "
    "intervals hold for these weights. Where the text alone tells members from non-members, a row "
    "is no evidence of membership."
)


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

    Raises:
        ValueError: If `identity` has no `run`.
    """
    name = identity.get("run")
    if not name:
        raise ValueError("a model card needs the run's name")
    sections = [
        _front_matter(identity, base_model),
        f"# {_cell(name)}",
        _introduction(identity, adapter),
        _table(("Field", "Value"), [(k, v) for k, v in identity.items() if v is not None]),
        "## Training data\n\n" + _data(data),
        "## Privacy\n\n" + _privacy(_last_rows(rows, "membership")),
        "## Utility\n\n" + _utility(_last_rows(rows, "utility")),
        "## Versions\n\n" + _table(("Package", "Version"), sorted(versions.items())),
    ]
    return "\n\n".join(sections) + "\n"


def _front_matter(identity: Mapping[str, str | int | None], base_model: str | None) -> str:
    tags = ["kd-privacy", "knowledge-distillation", "membership-inference"]
    # On one line each: a value with a line of dashes would end the front matter.
    tags += [_line(identity[key]) for key in ("technique", "role") if identity.get(key)]
    fields: dict[str, object] = {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": tags,
    }
    if base_model is not None:
        fields["base_model"] = _line(_public_name(base_model))
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


def _data(data: DataDescription) -> str:
    facts: list[tuple[object, ...]] = [
        ("source", _public_name(data.source)),
        ("fitted on", data.split),
        ("split protocol", data.protocol),
    ]
    facts += [(f"records, {split}", count) for split, count in data.counts.items()]
    if data.manifest is not None:
        facts.append(("split manifest", data.manifest))
    return _table(("Field", "Value"), facts) + "\n\nNo text of any record is part of this card."


def _privacy(rows: Sequence[Row]) -> str:
    groups: dict[tuple[str, str], dict[str, Row]] = {}
    for row in rows:
        attack = f"{row['name']}{_params(row.get('params'))}"
        compared = f"{row['population']} against non-members"
        groups.setdefault((attack, compared), {})[str(row["metric"])] = row
    measured = [(key, metrics) for key, metrics in groups.items() if "auroc" in metrics]
    if not measured:
        return "No membership audit was run on these weights: nothing is known about their leakage."
    lines = []
    for (attack, compared), metrics in measured:
        auroc = metrics["auroc"]
        tpr = metrics.get("tpr_at_fpr_0.01")
        lines.append(
            (
                attack,
                compared,
                _interval(auroc),
                _interval(tpr) if tpr is not None else "not measured",
                auroc.get("n_members"),
                auroc.get("n_nonmembers"),
                {True: "yes", False: "no", None: "not settled"}[_verdict(auroc)],
            )
        )
    return f"{_table(_PRIVACY_COLUMNS, lines)}\n\n{_CLAIM}"


def _verdict(row: Row) -> bool | None:
    shifted = row.get("shifted")
    return None if shifted is None else bool(shifted)


def _utility(rows: Sequence[Row]) -> str:
    if not rows:
        return "No utility audit was run on these weights."
    lines = [
        (
            f"{row['name']}{_params(row.get('params'))}",
            row["metric"],
            row["population"],
            _interval(row),
            row.get("n_nonmembers") or row.get("n_members"),
        )
        for row in rows
    ]
    return _table(("Measure", "Metric", "Records", "Value [95% interval]", "Count"), lines)


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


def _params(params: object) -> str:
    """Return an attack's options as " (k=0.2)", from their JSON."""
    options = json.loads(str(params)) if params else {}
    return f" ({', '.join(f'{key}={value}' for key, value in options.items())})" if options else ""


def _interval(row: Row) -> str:
    value, lower, upper = (row.get(column) for column in ("value", "lower", "upper"))
    if value is None:
        return "not measurable"
    if lower is None or upper is None:
        return f"{_figure(value)} [no interval]"
    return f"{_figure(value)} [{_figure(lower)}, {_figure(upper)}]"


def _figure(number: object) -> str:
    return f"{float(str(number)):.3f}"


def _public_name(source: str) -> str:
    """Return a hub name as it is, and of an absolute path its last part alone."""
    for path in (PurePath(source), PureWindowsPath(source)):
        if path.is_absolute() or source.startswith(("~", "..")):
            return path.name
    return source


def _table(header: Sequence[str], lines: Sequence[Sequence[object]]) -> str:
    rows = [header, ["---"] * len(header), *lines]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in row) + " |" for row in rows)


def _cell(content: object) -> str:
    """Return a value as one Markdown table cell on one line."""
    text = "not counted" if content is None else _line(content)
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def _line(content: object) -> str:
    return " ".join(str(content).split())
