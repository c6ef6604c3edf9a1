"""Information extraction: named fields of a passage as a list, as pairs, or as one line."""

from collections.abc import Sequence

from datamodules.synthetic.document_kinds import draw_document
from datamodules.synthetic.draw import Draw, listed

_FRAMES = (
    "Extract {labels} from the {name}{form}.",
    "From the following {name}, pick out {labels}{form}.",
    "What are {labels} in this {name}? Reply{form}.",
    "Please find {labels} in the {name} and give them{form}.",
)
_FORMS = {
    " as a bulleted list": ("- {label}: {value}", "\n"),
    " line by line": ("{label}: {value}", "\n"),
    " separated by semicolons": ("{label}: {value}", "; "),
    " on one line, split by a bar": ("{label} = {value}", " | "),
}


def _lower_label(label: str) -> str:
    return f"the {label[0].lower()}{label[1:]}"


def information_extraction(draw: Draw) -> tuple[str, str, str]:
    """Writes a request for three or four fields of a passage.

    Returns:
        instruction, context, response.
    """
    document = draw_document(draw)
    fields: Sequence[tuple[str, str]] = document.fields
    chosen = draw.several([label for label, _ in fields], draw.integer(3, 4))
    form = draw.one_of(tuple(_FORMS))
    line, separator = _FORMS[form]
    instruction = draw.one_of(_FRAMES).format(
        labels=listed([_lower_label(label) for label in chosen]), name=document.name, form=form
    )
    values = dict(fields)
    response = separator.join(line.format(label=label, value=values[label]) for label in chosen)
    return instruction, document.passage, response
