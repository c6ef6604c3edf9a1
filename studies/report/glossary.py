"""What words mean where a reader points at them: the definitions of docs/glossary.md, no others."""

import re
from functools import cache
from pathlib import Path

from markupsafe import Markup, escape

# A wheel holds the page inside the package, a checkout beside it.
_PLACES = (Path(__file__).parents[1] / "docs", Path(__file__).parents[2] / "docs")
_LINKS = re.compile(r" ?\(\[[^)]*\)[^)]*\)")
_ROW = re.compile(r"^\| (?!Word |---)(.+?) \| (.+) \|$", re.MULTILINE)
# Words of every day beside their meaning here.
_COMMON = frozenset("never development direct init world pool cell audit score repeat".split())


@cache
def definitions() -> dict[str, str]:
    """Returns what each word means; of words that share a row each has its own half where it can.

    >>> definitions()["held-out"]
    'records of the same pool that it did not'
    """
    text = next(path for path in _PLACES if path.is_dir()) / "glossary.md"
    found: dict[str, str] = {}
    for words, meaning in _ROW.findall(text.read_text(encoding="utf-8")):
        names = [re.sub(r" \(.*\)", "", name).replace("_", " ") for name in words.split(", ")]
        told = _LINKS.sub("", meaning)
        parts = told.split("; ")
        own = parts if len(parts) == len(names) else [told] * len(names)
        found |= dict(zip(names, own, strict=True))
    return found


@cache
def _pattern() -> re.Pattern[str]:
    longest = sorted(definitions().keys() - _COMMON, key=len, reverse=True)
    return re.compile(rf"\b({'|'.join(map(re.escape, longest))})(s?)\b", re.IGNORECASE)


class Marker:
    """Marks the words that the glossary has, each the first time that a part of the page has it."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def start(self) -> str:
        """Begins a part of the page: every word is to be marked again. Returns nothing to show."""
        self._seen.clear()
        return ""

    def marked(self, text: str) -> Markup:
        """Returns text as HTML whose words of the glossary tell their meaning on hover and focus.

        Args:
            text: Plain text, or HTML without attributes.
        """
        html = text if isinstance(text, Markup) else escape(text)
        return Markup(_pattern().sub(self._term, str(html)))

    def _term(self, match: re.Match[str]) -> str:
        word = next(one for one in definitions() if one.lower() == match[1].lower())
        if word in self._seen:
            return match[0]
        self._seen.add(word)
        meaning = escape(definitions()[word])
        return (
            f'<span class="term" tabindex="0" role="note" aria-label="{match[0]}: {meaning}" '
            f'data-meaning="{meaning}">{match[0]}</span>'
        )
