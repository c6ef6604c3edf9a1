"""Whether a model knows anything of the text that it is audited on."""

import math
from collections.abc import Iterable, Mapping

from audits.rows import Audit, ResultRow

AUDIT = Audit.known_text
"""The rows of this audit warn; a model that knows the text has none."""

_LEAST_KNOWN = 0.9
"""Share of ln(vocabulary) from which a loss is that of a model that knows nothing."""


def known_text_rows(
    loss: float, vocabulary_size: int, population: str = "development"
) -> list[ResultRow]:
    """Returns the row that warns of a model that guesses; none of one that knows the text.

    Args:
        loss: Loss in nats per token.
        vocabulary_size: Tokens that a guess is among.
        population: Records that the loss is of.
    """
    uniform = math.log(vocabulary_size)
    if loss < _LEAST_KNOWN * uniform:
        return []
    return [
        ResultRow(
            population=population,
            name="development_loss",
            metric="nats_per_token",
            value=loss,
            params={"uniform_nats": round(uniform, 6)},
        )
    ]


def known_text_warning(row: Mapping[str, object]) -> str:
    """Returns what a row warns of, in one sentence."""
    loss, of = float(str(row["value"])), str(row["population"]).replace("_", "-")
    return (
        f"this model knows nothing of the text: its {of} loss is {loss:.2f} nats per token, about "
        "that of a guess among all tokens; where it was trained, its tokenizer, template or "
        "weights are wrong, and no figure of it means anything"
    )


def warnings_of(rows: Iterable[Mapping[str, object]]) -> list[str]:
    """Returns the warning of the last weights that were looked at; none where there is none."""
    own = sorted(
        (row for row in rows if row["audit"] == AUDIT), key=lambda row: int(str(row["step"]))
    )
    return [known_text_warning(own[-1])] if own else []
