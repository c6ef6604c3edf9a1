"""The plug point of text variants: a record's own text, or another text scored in its place."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

from audits.scoring.encoded_file import Records
from datamodules.batches import EncodedRecord, RecordEncoder
from datamodules.records import InstructionRecord


@dataclass(frozen=True)
class TextMaterial:
    """What a variant may draw on.

    Attributes:
        encoder: Turns text into the tokens of the model that scores it.
        window: Longest sequence in tokens that the model accepts.
        seed: Seed of everything random.
        shots: Returns the records that prefixes may show, of ``private`` or ``held_out``: records
            of the pool that no audit judges.
        longest: Returns the tokens of the longest audited record of all populations, prompt and
            response.
        device: Where a variant runs a model of its own.
    """

    encoder: RecordEncoder
    window: int
    seed: int
    shots: Callable[[str], list[InstructionRecord]]
    longest: Callable[[], int]
    device: torch.device = torch.device("cpu")


@dataclass(frozen=True)
class TextVariant(ABC):
    """Which text is scored for a record; a frozen dataclass whose fields decide the text.

    Attributes:
        pool_uses: Uses of pool records that the text is made of (``shots``).
        rewrites: Whether the response is another one than the record's.
    """

    pool_uses: ClassVar[frozenset[str]] = frozenset()
    rewrites: ClassVar[bool] = False

    @property
    @abstractmethod
    def label(self) -> str:
        """Name for the plan, such as "lowercase"."""

    @abstractmethod
    def encode(self, records: Records, material: TextMaterial) -> list[EncodedRecord]:
        """Returns the token ids that are scored for each record, under the record's own id.

        Args:
            records: Records with a response.
            material: What else the text may be made of.
        """

    def facts(self, material: TextMaterial) -> Mapping[str, float]:
        """Returns numbers about the text that a report should show, by name; none by default."""
        return {}


@dataclass(frozen=True)
class Original(TextVariant):
    """The record as it is."""

    @property
    def label(self) -> str:
        """The variant's name."""
        return "original text"

    def encode(self, records: Records, material: TextMaterial) -> list[EncodedRecord]:
        """Returns the records' own tokens."""
        return material.encoder.encode_all(records)


@dataclass(frozen=True)
class RewrittenResponse(TextVariant):
    """The record's own prompt, and its response written anew."""

    rewrites: ClassVar[bool] = True

    def encode(self, records: Records, material: TextMaterial) -> list[EncodedRecord]:
        """Returns the tokens of each record's prompt and of its new response."""
        texts = [self.text(record, material.seed) for record in records]
        return material.encoder.encode_rewritten(records, texts)

    @abstractmethod
    def text(self, record: InstructionRecord, seed: int) -> str:
        """Returns the response written anew."""


@dataclass(frozen=True)
class RandomCopy(RewrittenResponse):
    """A copy of the response with some words changed at random, by seed, record id and copy.

    Attributes:
        copy: Number of the copy.
        share: Share of words that are changed, in (0, 1].
    """

    copy: int
    share: float
