"""Record sets by name, as audits read them, and their tokens."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import ClassVar

from transformers import PreTrainedTokenizerBase

from common.errors import UserError
from datamodules.batches import EncodedRecord, RecordEncoder
from datamodules.records import InstructionRecord

_NAMED_IDS = 5


class Populations(ABC):
    """The record sets that audits read, by name, and who is set against whom.

    Attributes:
        member_population: name of the population that audits oppose to held_out.
        trained_elsewhere: whether the audited model was, with a template that is not known for
            sure.
        opposed: non-members of those populations that are opposed to another one than held_out.
        reserved: uses of pool records that some attack of the run reads, and no audit judges.
    """

    member_population: ClassVar[str]
    trained_elsewhere: ClassVar[bool] = False
    opposed: ClassVar[Mapping[str, str]] = {}

    def __init__(self) -> None:
        super().__init__()
        self._encoder: RecordEncoder | None = None
        self._cluster_of: dict[str, str] = {}
        self._tokens: dict[str, list[EncodedRecord]] = {}
        self.reserved: frozenset[str] = frozenset()

    def reserve(self, uses: Collection[str]) -> None:
        """Keeps the pool's records of some uses from all audits of a run.

        Audits say, before anything is measured, which uses beside the audit their attacks read.
        Records of other uses are audited.

        Args:
            uses: shots, population or calibration.
        """
        self.reserved |= frozenset(uses)

    @property
    def encoder(self) -> RecordEncoder:
        """Turns records into token ids; there once records and tokenizer have been read."""
        if self._encoder is None:
            raise RuntimeError(
                "the records have no encoder yet: a data module has one from setup()"
            )
        return self._encoder

    @encoder.setter
    def encoder(self, encoder: RecordEncoder) -> None:
        self._encoder = encoder

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer of the run; there from `setup` on."""
        return self.encoder.tokenizer

    @property
    def pad_id(self) -> int:
        """Id of padding: the tokenizer's pad token, else its eos."""
        return self.encoder.pad_id

    @abstractmethod
    def population(self, name: str) -> list[InstructionRecord]:
        """Records that audits read under a name, each content once.

        Args:
            name: a population's name; an unknown one is an error that lists the known ones.
        """

    def has(self, name: str) -> bool:
        """Whether there is a population of that name, with records in it or not."""
        return True

    def opposed_to(self, population: str) -> str:
        """Name of the population whose records are the non-members of another."""
        return self.opposed.get(population, "held_out")

    def dealt_by_coins(self, population: str) -> bool:
        """Whether each cluster of a population and of the opposed one fell to its side by a fair
        coin of its own.

        Before any training the two sides are then exchangeable, and nothing but the model can set
        one apart from the other beyond the luck of the coins. This is the one place that knows;
        audits write its answer into a row, for cards, reports and claims.
        """
        return False

    def fair_coins(self, population: str) -> bool:
        """Whether, beyond that, all that its coin put into a population was trained on, as a
        one-run bound on epsilon needs.
        """
        return False

    def coin_unit(self, population: str) -> str:
        """What one such coin decides on: ``record``, or ``cluster`` of near-duplicates."""
        return "cluster"

    @abstractmethod
    def by_role(self, split: str, role: str) -> list[InstructionRecord]:
        """Records that a use beside the audit may read, each content once; none where there are no
        uses.

        Args:
            split: private or held_out.
            role: shots, population or calibration, reserved beforehand (`reserve`).
        """

    def met(self, reference: str, records: Sequence[InstructionRecord]) -> list[bool]:
        """Whether the teacher behind a reference model trained on each record.

        Args:
            reference: name of the reference model.
            records: records that audits read.

        Returns:
            All False where the name says nothing: a base, a control, somebody else's model.
        """
        return [False] * len(records)

    def placebo(self, reference: str, records: Sequence[InstructionRecord]) -> list[bool]:
        """How the coins of a shadow world fall for records that no run trains on.

        What is told of them by these coins is told by chance.

        Args:
            reference: name of a reference model whose teacher met the pool by a shadow world's
                coins.
            records: records of `never`.

        Raises:
            UserError: there are no shadow worlds of these records.
        """
        raise UserError("worlds: only a split whose coins are known here has shadow worlds")

    @abstractmethod
    def development_records(self) -> list[InstructionRecord]:
        """Records of the development loss."""

    def clusters(self, records: Sequence[InstructionRecord]) -> list[str]:
        """Names of the near-duplicate clusters of records that this module serves.

        Intervals resample clusters, because records of one cluster rise and fall together.
        """
        return [self._cluster_of[record.content] for record in records]

    def forget_tokens(self) -> None:
        """Forgets the token ids of all records, for the tokenizer of another model."""
        self._tokens = {}

    def tokens(self, name: str, records: Sequence[InstructionRecord]) -> list[EncodedRecord]:
        """Token ids of those records that have a response, computed once per name."""
        if name not in self._tokens:
            self._tokens[name] = self.encoder.encode_all([r for r in records if r.response])
        return self._tokens[name]


def distinct(records: Sequence[InstructionRecord]) -> list[InstructionRecord]:
    """The first record of each content, in order."""
    first: dict[str, InstructionRecord] = {}
    for record in records:
        first.setdefault(record.content, record)
    return list(first.values())


def require_disjoint(
    members: Sequence[InstructionRecord], nonmembers: Sequence[InstructionRecord]
) -> None:
    """Refuses an audit whose two sides share a record.

    Raises:
        UserError: with the number of shared contents and the places of the first of them.
    """
    other = {record.content: record for record in nonmembers}
    shared = [(r, other[r.content]) for r in distinct(members) if r.content in other]
    if shared:
        named = ", ".join(f"{a.origin} and {b.origin}" for a, b in shared[:_NAMED_IDS])
        more = ", ..." if len(shared) > _NAMED_IDS else ""
        raise UserError(
            f"{len(shared)} record(s) stand on both sides of the audit: {named}{more}; "
            "remove them from one side"
        )
