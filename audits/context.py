"""What an audit is given, and what it returns: no trainer, no run folder, no configuration."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Protocol

from matplotlib.figure import Figure
from transformers import PreTrainedTokenizerBase

from audits.rows import MemorizationRow, ResultRow, ScoreRow
from audits.scoring.blind_baseline import BlindOptions, BlindSide
from audits.scoring.encoded_file import EncodedFile
from audits.scoring.model_access import ModelAccess
from audits.scoring.references import ReferenceModel
from audits.scoring.scoring_pass import score_records
from audits.scoring.shift_test import ShiftTest
from audits.scoring.statistics_file import StatisticsFile
from audits.scoring.token_statistics import record_set_hash
from common.errors import UserError
from common.guarantee import Guarantee
from common.keys import key
from datamodules.populations import Populations
from datamodules.records import InstructionRecord


@dataclass
class Measurements:
    """What one audit of one checkpoint found; whoever writes the rows adds identity columns.

    Attributes:
        results: Rows of the results table.
        scores: Rows of the scores table.
        memorization: Rows of the memorization table.
        curves: Values by TensorBoard tag.
        figures: Figures by TensorBoard tag.
    """

    results: list[ResultRow] = field(default_factory=list)
    scores: Collection[ScoreRow] = field(default_factory=list)
    memorization: list[MemorizationRow] = field(default_factory=list)
    curves: dict[str, float] = field(default_factory=dict)
    figures: dict[str, Figure] = field(default_factory=dict)

    def tables(
        self, identity: Mapping[str, object], audit: str
    ) -> dict[str, Iterator[dict[str, object]]]:
        """Returns complete rows by table, of the tables that have any.

        Args:
            identity: Identity columns of the results table, step included.
            audit: The audit's name.
        """
        short = {"run": identity["run"], "step": identity["step"]}
        tables: dict[str, tuple[Mapping[str, object], Collection[Mapping[str, object]]]] = {
            "results": ({**identity, "audit": audit}, self.results),
            "scores": (short, self.scores),
            "memorization": (short, self.memorization),
        }

        def whole(table: str) -> Iterator[dict[str, object]]:
            common, rows = tables[table]
            return ({**common, **row} for row in rows)

        return {table: whole(table) for table, (_, rows) in tables.items() if rows}


@dataclass
class SharedWork:
    """What several audits of one model ask for, measured once.

    Attributes:
        step: Optimiser steps behind the weights that the passes were run with.
        passes: Token statistics by population and number of records.
        shift_tests: What the texts alone tell, by what was asked; the same for all weights.
        counts: Counts of each population's records (`audits.record_counts`); the same likewise.
    """

    step: int = -1
    passes: dict[tuple[str, int], StatisticsFile] = field(default_factory=dict)
    shift_tests: dict[int, ShiftTest] = field(default_factory=dict)
    counts: dict[str, Counter[str]] = field(default_factory=dict)

    def passes_at(self, step: int) -> dict[tuple[str, int], StatisticsFile]:
        """Returns the passes of these weights, after forgetting those of others."""
        if self.step != step:
            self.step, self.passes = step, {}
        return self.passes


@dataclass(frozen=True)
class AuditContext:
    """One model and the records that it is audited on.

    Attributes:
        model: The model and how to work on it.
        data: The records by population.
        load_reference: Loads a reference model by name.
        reference_tokenizer: Returns the tokenizer of one, whose weights it does not read.
        pool_records: Returns the pool records of a side (``private``, ``held_out``) and a use
            (``shots``, ``population``, ``calibration``) as the attacker of this model knows them.
        shared: What other audits of this model have measured.
        max_records: Most records of a population, the first ones; None takes all.
        folder: Where tokens and their statistics lie while they are in use; None is the system's
            folder for temporary files.
        step: Optimiser steps behind the weights.
        tell: Called once with every new shift test.
        guarantee: What the training that read the members guarantees of them, if anything.
    """

    model: ModelAccess
    data: Populations
    load_reference: Callable[[str], ReferenceModel]
    reference_tokenizer: Callable[[str], PreTrainedTokenizerBase]
    pool_records: Callable[[str, str], list[InstructionRecord]]
    shared: SharedWork
    max_records: int | None = None
    folder: Path | None = None
    step: int = 0
    tell: Callable[[ShiftTest], None] = lambda shift_test: None
    guarantee: Guarantee | None = None

    def population(self, name: str) -> list[InstructionRecord]:
        """Returns a population's audited records, the same for every audit with equal options.

        Raises:
            UserError: If there is no such population.
        """
        return self.data.population(name)[: self.max_records]

    def answered(self, name: str) -> list[InstructionRecord]:
        """Returns a population's audited records that have a response; there may be none."""
        return [record for record in self.population(name) if record.response]

    def require_responses(self, name: str) -> list[InstructionRecord]:
        """Returns a population's audited records that have a response.

        Raises:
            UserError: If there is none.
        """
        records = self.answered(name)
        if not records:
            raise UserError(
                f"an audit reads the population {name!r} and no record of it has a response: name "
                "another population, or give the split a share of the records"
            )
        return records

    def members_of(self, populations: Sequence[str] | None) -> list[str]:
        """Returns the populations that count as members: those named, or the data's own."""
        return list(populations or [self.data.member_population])

    def token_statistics(self, name: str, outside_top: bool = False) -> StatisticsFile:
        """Scores a population's records by one forward pass, shared by all audits of these weights.

        Args:
            name: The population.
            outside_top: Whether to tell what is left outside the likeliest tokens; a pass that was
                made without it is made again.

        Returns:
            Token statistics of the scorable records, in the population's order, on disk, whole on
            every rank.

        Raises:
            FloatingPointError: Naming the record whose score is not a number.
            UserError: If no record has a response.
        """
        passes = self.shared.passes_at(self.step)
        asked = (name, len(self.population(name)))
        if asked not in passes or (outside_top and not passes[asked].has_outside_top):
            scorable, model = self.require_responses(name), self.model
            encoded = EncodedFile(scorable, model.encoder.encode_all, self.folder)
            self.shared.counts[name] = encoded.counts
            passes[asked] = score_records(
                model, encoded, f"scoring {name}", folder=self.folder, outside_top=outside_top
            )
        return passes[asked]

    def shift_test(
        self,
        population: str,
        members: BlindSide,
        nonmembers: BlindSide,
        options: BlindOptions,
        skipped: int = 0,
    ) -> ShiftTest:
        """Returns what the texts of a population and its non-members alone tell.

        Rank 0 measures it; it is the same on every rank, and for every audit that asks about the
        same records with the same options.

        Args:
            population: The members' population.
            members: Its records that can be scored.
            nonmembers: The records opposed to them.
            options: How shift is measured and judged.
            skipped: Records of both sides that cannot be scored.
        """
        known, ranks = self.shared.shift_tests, self.model.ranks
        hashes = (record_set_hash(side.records) for side in (members, nonmembers))
        asked = key(population, str(options), skipped, *hashes)
        if asked not in known:
            coins = self.data.dealt_by_coins(population)
            measured = None
            if ranks.rank == 0:
                measured = ShiftTest.of(population, members, nonmembers, options, skipped, coins)
            shift_test = ranks.gather([measured])[0]
            if shift_test is None:
                raise RuntimeError("rank 0 sent no shift test")
            known[asked] = shift_test
            self.tell(shift_test)
        return known[asked]


def require_sizes(max_records: int | None, batch_size: int, max_batch_tokens: int) -> None:
    """Refuses sizes with which an audit would measure nothing, or leave out records unasked.

    Raises:
        UserError: Naming the option.
    """
    lowest = {"max_records": (max_records, 2), "batch_size": (batch_size, 1)}
    for option, (size, least) in {**lowest, "max_batch_tokens": (max_batch_tokens, 1)}.items():
        if size is not None and size < least:
            raise UserError(f"{option} is {size}: give {least} or more")


class Measure(Protocol):
    """An attack, a metric or a signal: its id and its options."""

    name: ClassVar[str]

    @property
    def params(self) -> Mapping[str, object]:
        """Options that tell two uses apart."""


def require_distinct(option: str, measures: Sequence[Measure]) -> None:
    """Refuses an audit of nothing, or of one thing twice.

    Args:
        option: The option that names them: attacks, metrics or signals.
        measures: What it names.

    Raises:
        UserError: If there are none, or two with the same name and parameters.
    """
    names = [(measure.name, str(measure.params)) for measure in measures]
    if not names or len(set(names)) < len(names):
        raise UserError(f"{option} are {[name for name, _ in names]}: name at least one, each once")
