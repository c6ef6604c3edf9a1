"""What is said first of models that were audited: verdicts, headline figures, caution, advice.

Console, page, audit.json, release gate and model card are made of it, so that they agree.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from audits.rows import Audit
from audits.statistics.verdict import Verdict
from common.guarantee import Guarantee
from common.wording import estimate_text

VERDICT_NAMES = {
    "leaks": "leaks",
    "reversed": "below chance",
    "clean": "clean",
    "nothing shown": "no leak shown",
    "undecided": "undecided",
}
"""How a reader is told of each word of `audits.statistics.verdict`."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A number with its interval, as the results table has it.

    Attributes:
        metric: The table's metric.
        value: The figure; None where it could not be measured.
        lower: Lower end of its interval; None where there is none.
        upper: Upper end.
        n_members: Members behind it.
        n_nonmembers: Non-members behind it.
        n_replicates: Replicates that it is a mean over; 1, an interval over records.
        level: Level of the interval.
    """

    metric: str
    value: float | None
    lower: float | None = None
    upper: float | None = None
    n_members: int | None = None
    n_nonmembers: int | None = None
    n_replicates: int = 1
    level: float = 0.95

    @classmethod
    def of_row(cls, row: Mapping[str, object]) -> "Figure":
        """Reads a row of the results table, or one that stands for its `replicates`."""
        value, lower, upper = (_number(row.get(name)) for name in ("value", "lower", "upper"))
        members, nonmembers = (_count(row.get(name)) for name in ("n_members", "n_nonmembers"))
        replicates = _count(row.get("replicates")) or 1
        return cls(str(row["metric"]), value, lower, upper, members, nonmembers, replicates)

    @property
    def text(self) -> str:
        """The value with its interval, to three decimals.

        >>> Figure("auroc", 0.7, 0.6, 0.8).text, Figure("auroc", None).text
        ('0.700 [0.600, 0.800]', 'not measurable')
        """
        return estimate_text(self.value, self.lower, self.upper)

    @property
    def count_text(self) -> str:
        """What the interval is over.

        >>> Figure("auroc", 0.7, n_members=100, n_nonmembers=90).count_text
        '100 + 90 records'
        """
        if self.n_replicates > 1:
            return f"{self.n_replicates} replicates"
        counts = [str(n) for n in (self.n_members, self.n_nonmembers) if n is not None]
        return f"{' + '.join(counts)} records" if counts else ""


@dataclass(frozen=True, slots=True)
class Found:
    """How many of 100 private records an attacker finds at so many false accusations.

    Attributes:
        false_per_100: Records falsely accused among 100 that the model never met.
        figure: The share found; its value is None where there are too few non-members.
    """

    false_per_100: float
    figure: Figure

    @property
    def text(self) -> str:
        """The share in records of 100.

        >>> Found(1, Figure("tpr_at_fpr_0.01", 0.62, 0.5, 0.71)).text
        '62 of 100 [50, 71]'
        >>> Found(1, Figure("tpr_at_fpr_0.01", None, n_nonmembers=40)).text
        'not measurable with 40 non-members'
        """
        value, lower, upper = self.figure.value, self.figure.lower, self.figure.upper
        if value is None:
            few = self.figure.n_nonmembers
            return "not measurable" + ("" if few is None else f" with {few} non-members")
        ends = "" if lower is None or upper is None else f" [{100 * lower:.0f}, {100 * upper:.0f}]"
        return f"{100 * value:.0f} of 100{ends}"


@dataclass(frozen=True, slots=True)
class Statement:
    """What one audit says of a model.

    Attributes:
        audit: Which audit.
        name: Id of the attack, metric or signal whose figure it is.
        title: The same as readers know it, with its options.
        figure: The figure that the verdict rests on.
        verdict: The word and its reason; None where a figure is only told, such as utility.
        baseline: What the figure is set against, such as "its counterfactual" or "non-members".
        threat_model: What an attacker needs; empty where that does not apply.
    """

    audit: Audit
    name: str
    title: str
    figure: Figure
    verdict: Verdict | None = None
    baseline: str = ""
    threat_model: str = ""


@dataclass(frozen=True, slots=True)
class AccessAnswer:
    """What an attacker finds who sees so much of a model, by an attack that no result has chosen.

    Attributes:
        access: What the attacker sees.
        membership: What the attack says.
        found: At each false-positive rate, the most telling first.
    """

    access: str
    membership: Statement
    found: Sequence[Found] = ()


@dataclass(frozen=True, slots=True)
class BlockRange:
    """AUROCs of a model's blocks under one signal, the lowest and the highest of them.

    The highest of many is no finding: it is told beside the lowest.

    Attributes:
        signal: The signal's id.
        lowest: Lowest AUROC.
        highest: Highest AUROC.
        n_blocks: Blocks that were measured.
    """

    signal: str
    lowest: float
    highest: float
    n_blocks: int


@dataclass(frozen=True)
class ModelAnswer:
    """What is said of one model, or over replicates of models of one kind.

    Attributes:
        label: What readers call it.
        run: Its name in the tables; of several replicates, that of the first.
        role: Its role in the tables.
        membership: By the headline attack, fixed before any result; None, not audited.
        swap: The swap estimate of that attack, where a counterfactual was trained.
        found: At each false-positive rate, the most telling first.
        by_access: The same for each kind of access that an attack had, the least first.
        memorization: Gap of what it writes of private and other records; None, not measured.
        single_records: How many records shadow worlds name, and the share found; None without.
        worst_group: The task that it gives most away of, named by other records than measure it.
        blocks: How far apart its blocks lie; None, not audited.
        utility: Perplexity, or what else says that it learnt anything.
        utility_beside: The same of its control or teacher, by whose name.
        skipped: Records that could not be scored.
        cut: Records that the model does not read whole.
        cautions: What must be known before its figures are read, gravest first.
        shipped: Whether it is a model that is given away: no control, no counterfactual.
        guarantee: What its training guarantees, and what voids it; None, nothing is said.
    """

    label: str
    run: str
    role: str
    membership: Statement | None = None
    swap: Figure | None = None
    found: Sequence[Found] = ()
    by_access: Sequence[AccessAnswer] = ()
    memorization: Statement | None = None
    single_records: tuple[Figure, Figure] | None = None
    worst_group: tuple[str, Figure] | None = None
    blocks: BlockRange | None = None
    utility: Statement | None = None
    utility_beside: tuple[str, Figure] | None = None
    skipped: int = 0
    cut: int = 0
    cautions: Sequence[str] = ()
    shipped: bool = True
    guarantee: Guarantee | None = None


@dataclass(frozen=True)
class Answer:
    """What a reader is told first.

    Attributes:
        kind: What was audited: one model, a teacher and its student, a study.
        question: The question that it answers.
        sentence: The answer in one or two plain sentences.
        models: One for each model, those that are shipped first.
        caution: The one thing that matters most before figures are read; empty if there is none.
        advice: What to do, at most three lines, each of which follows from the figures.
        untested: What was not tested, so that nothing is said of it.
        notes: Everything else that must be known, gravest first.
    """

    kind: Literal["model", "pair", "study"]
    question: str
    sentence: str
    models: Sequence[ModelAnswer]
    caution: str = ""
    advice: Sequence[str] = ()
    untested: Sequence[str] = ()
    notes: Sequence[str] = field(default=())


def _number(value: object) -> float | None:
    number = None if value is None else float(str(value))
    return None if number is None or number != number else number


def _count(value: object) -> int | None:
    number = _number(value)
    return None if number is None else int(number)
