"""What every data module here shares: tokenizer, encoder, populations, development batches."""

import sys
from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import ClassVar

from lightning.pytorch import LightningDataModule, Trainer
from transformers import PreTrainedTokenizerBase

from common.errors import UserError
from common.options import require_at_least
from datamodules.batches import EncodedRecord, EncodingOptions, RecordEncoder
from datamodules.order import RecordLoader, evaluation_order
from datamodules.records import InstructionRecord
from datamodules.tokenizer import ROUND_TRIP_SENTENCE, altered_sentence

_NAMED_IDS = 5


class RecordDataModule(LightningDataModule):
    """Serves instruction records, their tokens and the populations that audits read.

    Attributes:
        member_population: name of the population that audits oppose to held_out.
        opposed: non-members of those populations that are opposed to another one than held_out.
        reserved: uses of pool records that some attack of the run reads, and no audit judges.

    Args:
        eval_batch_size: most records in a development batch of one rank.
        max_prompt_tokens: most tokens of a prompt; longer ones lose context, then instruction.
        max_tokens: most tokens of prompt, response and end together.
        num_workers: processes that build batches beside the main one.
        encoding: where published codes turn records into other tokens.
    """

    member_population: ClassVar[str]
    opposed: ClassVar[Mapping[str, str]] = {}

    def __init__(
        self,
        eval_batch_size: int,
        max_prompt_tokens: int,
        max_tokens: int,
        num_workers: int,
        encoding: EncodingOptions,
    ) -> None:
        super().__init__()
        require_at_least(1, eval_batch_size=eval_batch_size)
        require_at_least(0, num_workers=num_workers)
        self.eval_batch_size = eval_batch_size
        self.max_prompt_tokens = max_prompt_tokens
        self.max_tokens = max_tokens
        self.num_workers = num_workers
        self.encoding = encoding
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
        """Turns records into token ids; there from `setup` on."""
        if self._encoder is None:
            raise RuntimeError("the data module has no encoder before setup()")
        return self._encoder

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

    @abstractmethod
    def development_records(self) -> list[InstructionRecord]:
        """Records of the development loss."""

    def clusters(self, records: Sequence[InstructionRecord]) -> list[str]:
        """Names of the near-duplicate clusters of records that this module serves.

        Intervals resample clusters, because records of one cluster rise and fall together.
        """
        return [self._cluster_of[record.content] for record in records]

    def val_dataloader(self) -> RecordLoader:
        """Development records, longest first, each on one rank."""
        encoded = self.tokens("development", self.development_records())
        trainer = self.attached_trainer
        lengths = [len(record) for record in encoded]
        plan = evaluation_order(
            lengths, self.eval_batch_size, trainer.global_rank, trainer.world_size
        )
        return RecordLoader(
            encoded,
            plan=lambda epoch: plan,
            n_batches=len(plan),
            start=lambda: 0,
            pad_id=self.pad_id,
            num_workers=self.num_workers,
        )

    def tokens(self, name: str, records: Sequence[InstructionRecord]) -> list[EncodedRecord]:
        """Token ids of those records that have a response, computed once per name."""
        if name not in self._tokens:
            self._tokens[name] = self.encoder.encode_all([r for r in records if r.response])
        return self._tokens[name]

    @property
    def attached_trainer(self) -> Trainer:
        """The trainer, without which there are no ranks to deal batches to."""
        if self.trainer is None:
            raise RuntimeError(
                "data loaders need a Trainer: pass the data module to fit or validate"
            )
        return self.trainer

    def _prepare_encoder(self, tokenizer: PreTrainedTokenizerBase) -> None:
        altered = altered_sentence(tokenizer)
        if altered is not None and (self.trainer is None or self.trainer.is_global_zero):
            sys.stderr.write(
                f"warning: the tokenizer {tokenizer.name_or_path!r} does not give a text back: "
                f"{ROUND_TRIP_SENTENCE!r} became {altered!r}; what models write is "
                "compared after the same change\n"
            )
        self._encoder = RecordEncoder(
            tokenizer,
            max_prompt_tokens=self.max_prompt_tokens,
            max_tokens=self.max_tokens,
            options=self.encoding,
        )


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
        UserError: with the number of shared contents and the first of them by id and place.
    """
    other = {record.content: record for record in nonmembers}
    shared = [(r, other[r.content]) for r in distinct(members) if r.content in other]
    if shared:
        named = ", ".join(f"{a.id} ({a.origin} and {b.origin})" for a, b in shared[:_NAMED_IDS])
        more = ", ..." if len(shared) > _NAMED_IDS else ""
        raise UserError(
            f"{len(shared)} record(s) stand on both sides of the audit: {named}{more}; "
            "remove them from one side"
        )
