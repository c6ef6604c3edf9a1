"""JSON that means one thing: what a reader would have to guess at, or choke on, is refused."""

import json

from datamodules.record_fields import told_fields


class AmbiguousJsonError(ValueError):
    """Valid JSON that is not read; the message says why, without a word of it."""


def parse_json(text: str) -> object:
    """Returns the value of a JSON text.

    Raises:
        json.JSONDecodeError: It is none.
        AmbiguousJsonError: An object has a field twice, a number has too many digits, or it is
            nested too deep.

    >>> parse_json('{"a": [1, null]}')
    {'a': [1, None]}
    """
    try:
        return json.loads(text, object_pairs_hook=_object)
    except (json.JSONDecodeError, AmbiguousJsonError):
        raise
    except RecursionError as error:
        raise AmbiguousJsonError("JSON that is nested too deep") from error
    except ValueError as error:
        raise AmbiguousJsonError("a number of more digits than can be read") from error


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """An object of JSON; of a field that stands twice, nobody knows which one is meant."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        twice = told_fields([name for name in fields if names.count(name) > 1])
        raise AmbiguousJsonError(f"an object names {twice} more than once")
    return fields
