"""Whether a model knows anything of the text that it is audited on."""

from collections.abc import Iterable, Mapping

from audits.rows import Audit

AUDIT = Audit.known_text
"""The rows of this audit warn; a model that knows the text has none."""


def known_text_warning(row: Mapping[str, object]) -> str:
    """Returns what a row warns of, in one sentence."""
    loss = float(str(row["value"]))
    return (
        f"this model knows nothing of the text: its development loss is {loss:.2f} nats per token, "
        "about that of a guess among all tokens; where it was trained, its tokenizer, template or "
        "weights are wrong, and no figure of it means anything"
    )


def warnings_of(rows: Iterable[Mapping[str, object]]) -> list[str]:
    """Returns the warning of the last weights that were looked at; none where there is none."""
    own = sorted(
        (row for row in rows if row["audit"] == AUDIT), key=lambda row: int(str(row["step"]))
    )
    return [known_text_warning(own[-1])] if own else []
