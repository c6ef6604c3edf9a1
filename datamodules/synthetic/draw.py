"""Keyed draws: every choice of the built-in corpus is a function of a key, never of an order."""

import random
from collections.abc import Mapping, Sequence
from typing import TypeVar

from common.keys import key
from datamodules.synthetic.texts import words

Option = TypeVar("Option")


def with_article(noun: str) -> str:
    """Puts "a" or "an" before a noun of the word lists.

    >>> with_article("owl"), with_article("unicycle"), with_article("harbour")
    ('an owl', 'a unicycle', 'a harbour')
    """
    vowel = noun[0].lower() in "aeiou" and not noun.lower().startswith("uni")
    return f"{'an' if vowel else 'a'} {noun}"


def capitalised(text: str) -> str:
    """Raises the first letter and leaves the others as they are.

    >>> capitalised("the Calder mill")
    'The Calder mill'
    """
    return text[:1].upper() + text[1:]


def listed(items: Sequence[str]) -> str:
    """Joins items as a sentence does.

    >>> listed(["tea", "rice", "soap"])
    'tea, rice and soap'
    """
    return f"{', '.join(items[:-1])} and {items[-1]}" if len(items) > 1 else items[0]


class Draw:
    """Random choices and invented names for one record.

    Args:
        *parts: what the choices depend on, as in `common.keys.key`.
    """

    def __init__(self, *parts: int | str) -> None:
        self._random = random.Random(key(*parts))

    def one_of(self, options: Sequence[Option]) -> Option:
        """Picks one option, all equally likely."""
        return options[self.integer(0, len(options) - 1)]

    def several(self, options: Sequence[str], count: int) -> list[str]:
        """Picks `count` different options in random order."""
        return self._random.sample(list(options), count)

    def integer(self, low: int, high: int) -> int:
        """Picks a whole number from low to high, both included."""
        return self._random.randint(low, high)

    def chance(self, probability: float) -> bool:
        """Is true with the given probability."""
        return self._random.random() < probability

    def word(self, lists: str) -> str:
        """Picks a word of one or several lists of words.yaml, as `words` names them."""
        return self.one_of(words(lists))

    def two(self, lists: str, ending: str = "") -> str:
        """Picks two different words, each with an ending, such as "fans and tents"."""
        return listed([f"{word}{ending}" for word in self.several(words(lists), 2)])

    def text(self, facts: Mapping[str, str], *groups: Sequence[str]) -> str:
        """Writes one sentence per group: one of its wordings, its {slots} filled with facts."""
        return " ".join(self.one_of(group).format_map(facts) for group in groups)

    def first_name(self) -> str:
        """Picks a first name in use."""
        return self.word("first_name")

    def surname(self) -> str:
        """Composes an invented surname from three syllables, such as "Pembervik"."""
        parts = ("surname_start", "surname_middle", "surname_end")
        return "".join(self.word(part) for part in parts)

    def person(self) -> str:
        """Composes a full name; the surname is invented."""
        return f"{self.first_name()} {self.surname()}"

    def place(self) -> str:
        """Composes an invented town, such as "Port Cranholm"."""
        prefix = self.word("place_prefix") if self.chance(0.2) else ""
        middle = self.one_of(("er", "ing", "le", "en")) if self.chance(0.35) else ""
        return f"{prefix}{self.word('place_start')}{middle}{self.word('place_end')}"

    def organisation(self) -> str:
        """Composes an invented firm from a name and a trade."""
        trade = self.word("trade")
        if self.chance(0.25):
            return f"{self.surname()} and {self.surname()} {trade}"
        return f"{self.surname() if self.chance(0.6) else self.place()} {trade}"

    def river(self) -> str:
        """Composes an invented river: the name of a town without what stands before it."""
        return self.place().split()[-1]

    def product(self) -> str:
        """Composes an invented brand name with a model number."""
        name = self.word("product_start") + self.word("product_end")
        return f"{name} {self.integer(2, 99) * 10}" if self.chance(0.6) else name

    def medicine(self) -> str:
        """Composes an invented medicine, such as "duralux"."""
        return self.product().split()[0].lower()

    def species(self) -> str:
        """Composes an invented animal, such as "copper-throated wren"."""
        mark = f"{self.word('colour')}-{self.word('animal_mark')}"
        return f"{mark} {self.word('animal')}"

    def thing(self) -> str:
        """Describes an object by colour and material, such as "red oak teapot"."""
        return f"{self.word('colour')} {self.word('material')} {self.word('object')}"

    def title(self) -> str:
        """Composes the title of an invented book, song or painting."""
        adjective, noun = self.word("adjective"), self.word("scene")
        shapes = (
            f"The {adjective} {noun}",
            f"{self.word('scene')} of the {adjective} {noun}",
            f"{adjective} {noun} in {self.place()}",
            f"The {noun} and the {adjective} {self.word('scene')}",
        )
        small = {"of", "the", "and", "in"}
        words_of_title = self.one_of(shapes).split()
        rest = (word if word in small else capitalised(word) for word in words_of_title[1:])
        return " ".join([capitalised(words_of_title[0]), *rest])

    def day(self) -> str:
        """Picks a day of the year, such as "14 March"."""
        return f"{self.integer(1, 28)} {self.word('month')}"

    def year(self, low: int = 1874, high: int = 2023) -> str:
        """Picks a year from low to high."""
        return str(self.integer(low, high))

    def later(self, year: int, low: int, high: int) -> str:
        """Picks a year from `low` to `high` years after another."""
        return str(year + self.integer(low, high))

    def number(self, low: int, high: int, unit: int = 1) -> str:
        """Picks from `low` to `high` units and writes the product with thousands separators."""
        return f"{self.integer(low, high) * unit:,}"

    def fewer(self, number: int) -> str:
        """Picks a whole number from 0 to below another."""
        return str(self.integer(0, number - 1))

    def clock(self) -> str:
        """Picks a time of day on a five-minute mark, such as "16:35"."""
        return f"{self.integer(7, 21)}:{self.integer(0, 11) * 5:02d}"

    def code(self) -> str:
        """Composes a reference of two letters and four digits, such as "KR-4071"."""
        letters = "".join(self.several("ABCDEFGHJKLMNPRSTUVWXYZ", 2))
        return f"{letters}-{self.integer(1000, 9999)}"
