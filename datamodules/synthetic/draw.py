"""Keyed draws: every choice of the built-in corpus is a function of a key, never of an order."""

import random
from collections.abc import Mapping, Sequence

from common.keys import key
from datamodules.synthetic import words


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

    def one_of(self, options: Sequence[str]) -> str:
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

    def text(self, facts: Mapping[str, str], *groups: Sequence[str]) -> str:
        """Writes one sentence per group: one of its wordings, its {slots} filled with facts."""
        return " ".join(self.one_of(group).format_map(facts) for group in groups)

    def first_name(self) -> str:
        """Picks a first name in use."""
        return self.one_of(words.FIRST_NAMES)

    def surname(self) -> str:
        """Composes an invented surname from three syllables, such as "Pembervik"."""
        parts = (words.SURNAME_STARTS, words.NAME_MIDDLES, words.SURNAME_ENDS)
        return "".join(self.one_of(part) for part in parts)

    def person(self) -> str:
        """Composes a full name; the surname is invented."""
        return f"{self.first_name()} {self.surname()}"

    def place(self) -> str:
        """Composes an invented town, such as "Port Cranholm"."""
        prefix = self.one_of(words.PLACE_PREFIXES) if self.chance(0.2) else ""
        middle = self.one_of(("er", "ing", "le", "en")) if self.chance(0.35) else ""
        return f"{prefix}{self.one_of(words.PLACE_STARTS)}{middle}{self.one_of(words.PLACE_ENDS)}"

    def organisation(self) -> str:
        """Composes an invented firm from a name and a trade."""
        trade = self.one_of(words.TRADES)
        if self.chance(0.25):
            return f"{self.surname()} and {self.surname()} {trade}"
        return f"{self.surname() if self.chance(0.6) else self.place()} {trade}"

    def product(self) -> str:
        """Composes an invented brand name with a model number."""
        name = self.one_of(words.PRODUCT_STARTS) + self.one_of(words.PRODUCT_ENDS)
        return f"{name} {self.integer(2, 99) * 10}" if self.chance(0.6) else name

    def species(self) -> str:
        """Composes an invented animal, such as "copper-throated wren"."""
        mark = f"{self.one_of(words.COLOURS)}-{self.one_of(words.ANIMAL_MARKS)}"
        return f"{mark} {self.one_of(words.ANIMALS)}"

    def thing(self) -> str:
        """Describes an object by colour and material, such as "red oak teapot"."""
        pools = (words.COLOURS, words.MATERIALS, words.OBJECTS)
        return " ".join(self.one_of(pool) for pool in pools)

    def title(self) -> str:
        """Composes the title of an invented book, song or painting."""
        adjective, noun = self.one_of(words.ADJECTIVES), self.one_of(words.SCENE_NOUNS)
        shapes = (
            f"The {adjective} {noun}",
            f"{self.one_of(words.SCENE_NOUNS)} of the {adjective} {noun}",
            f"{adjective} {noun} in {self.place()}",
            f"The {noun} and the {adjective} {self.one_of(words.SCENE_NOUNS)}",
        )
        small = {"of", "the", "and", "in"}
        words_of_title = self.one_of(shapes).split()
        rest = (word if word in small else capitalised(word) for word in words_of_title[1:])
        return " ".join([capitalised(words_of_title[0]), *rest])

    def day(self) -> str:
        """Picks a day of the year, such as "14 March"."""
        return f"{self.integer(1, 28)} {self.one_of(words.MONTHS)}"

    def year(self, low: int = 1874, high: int = 2023) -> str:
        """Picks a year from low to high."""
        return str(self.integer(low, high))

    def number(self, low: int, high: int) -> str:
        """Picks a whole number and writes it with thousands separators."""
        return f"{self.integer(low, high):,}"

    def clock(self) -> str:
        """Picks a time of day on a five-minute mark, such as "16:35"."""
        return f"{self.integer(7, 21)}:{self.integer(0, 11) * 5:02d}"

    def code(self) -> str:
        """Composes a reference of two letters and four digits, such as "KR-4071"."""
        letters = "".join(self.several("ABCDEFGHJKLMNPRSTUVWXYZ", 2))
        return f"{letters}-{self.integer(1000, 9999)}"
