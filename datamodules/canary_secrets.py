"""Formats of canary secrets: how each is written, and the whole of its space.

No secret can belong to anybody: 01632 is a code that Ofcom assigns to nobody, example.org is
reserved (RFC 2606), and the accounts lack a bank. `words` is no likely secret but an unlikely
ending: an answer as any other begins, then words that nothing foretells (Meeus et al., "The
Canary's Echo", ICML 2025, arXiv 2502.14921: what a model writes shows such canaries, as it begins
them by itself).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from datamodules.synthetic.texts import texts, words

_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ"


@dataclass(frozen=True, slots=True)
class SecretFormat:
    """A format of secrets and the whole of its space.

    Attributes:
        name: "code", "phone", "email", "account" or "words".
        size: number of secrets; `secret` is one-to-one from range(size).
        write: writes the secret of an index, unchecked; use `secret`.
        questions: wordings of the prompt, with the slots {person}, {firm} and {place}.
        answers: wordings of the response, with the same slots and {secret}.
    """

    name: str
    size: int
    write: Callable[[int], str]
    questions: Sequence[str]
    answers: Sequence[str]

    def secret(self, index: int) -> str:
        """Writes secret number `index`; over all indices this enumerates the space.

        Raises:
            ValueError: if the index lies outside range(size).
        """
        if not 0 <= index < self.size:
            raise ValueError(f"{self.name} has secrets 0 to {self.size - 1}, not {index}")
        return self.write(index)


def _code(index: int) -> str:
    return f"{_LETTERS[index // 1000]}{index % 1000:03d}"


def _phone(index: int) -> str:
    return f"01632 {index // 1000:03d} {index % 1000:03d}"


def _email(index: int) -> str:
    rest, number = divmod(index, 90)
    first, second = divmod(rest, len(words("surname_start")))
    owner = f"{words('first_name')[first]}.{words('surname_start')[second]}".lower()
    return f"{owner}{number + 10}@example.org"


def _account(index: int) -> str:
    return f"{index // 10_000:04d} {index % 10_000:04d}"


_N_WORDS = 7
_VOCABULARY = sorted(set(words("adjective|animal|colour|dish|goods|hobby|instrument|object")))


def _words(index: int) -> str:
    drawn = []
    for _ in range(_N_WORDS):
        index, place = divmod(index, len(_VOCABULARY))
        drawn.append(_VOCABULARY[place])
    return " ".join(drawn)


_SPACES: Mapping[str, tuple[int, Callable[[int], str]]] = {
    "code": (len(_LETTERS) * 1000, _code),
    "phone": (1_000_000, _phone),
    "email": (len(words("first_name")) * len(words("surname_start")) * 90, _email),
    "account": (100_000_000, _account),
    "words": (len(_VOCABULARY) ** _N_WORDS, _words),
}
SECRET_FORMATS = {
    name: SecretFormat(name, size, write, **texts("canaries")[name])
    for name, (size, write) in _SPACES.items()
}
