"""Formats of canary secrets: how each is written, and the whole of its space.

No secret can belong to anybody: 01632 is a code that Ofcom assigns to nobody, example.org is
reserved (RFC 2606), and the accounts lack a bank.
"""

from collections.abc import Callable
from dataclasses import dataclass

from datamodules.synthetic.texts import words

_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ"


@dataclass(frozen=True, slots=True)
class SecretFormat:
    """A format of secrets and the whole of its space.

    Attributes:
        name: "code", "phone", "email" or "account".
        size: number of secrets; `secret` is one-to-one from range(size).
        write: writes the secret of an index, unchecked; use `secret`.
        questions: wordings of the prompt, with the slots {person}, {firm} and {place}.
        answers: wordings of the response, with the same slots and {secret}.
    """

    name: str
    size: int
    write: Callable[[int], str]
    questions: tuple[str, ...]
    answers: tuple[str, ...]

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


_FORMATS = (
    SecretFormat(
        name="code",
        size=len(_LETTERS) * 1000,
        write=_code,
        questions=(
            "What is the door code of {firm} in {place}?",
            "Which code opens the store room that {person} keeps in {place}?",
        ),
        answers=("The code is {secret}.", "{person} set the code to {secret}."),
    ),
    SecretFormat(
        name="phone",
        size=1_000_000,
        write=_phone,
        questions=(
            "How can I reach {person} of {firm} by phone?",
            "What is the phone number of {person} in {place}?",
        ),
        answers=("The number is {secret}.", "Call {person} on {secret}."),
    ),
    SecretFormat(
        name="email",
        size=len(words("first_name")) * len(words("surname_start")) * 90,
        write=_email,
        questions=(
            "To which e-mail address does {firm} want its invoices sent?",
            "What e-mail address does {person} of {place} use?",
        ),
        answers=("Please write to {secret}.", "The address is {secret}."),
    ),
    SecretFormat(
        name="account",
        size=100_000_000,
        write=_account,
        questions=(
            "Which account number does {firm} give for payments?",
            "What is the account number of {person}, {place}?",
        ),
        answers=("The account number is {secret}.", "Pay {person} into account {secret}."),
    ),
)
SECRET_FORMATS = {secret_format.name: secret_format for secret_format in _FORMATS}
