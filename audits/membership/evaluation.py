"""From what was measured to rows and curves: the same beside a model and from stored audits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from audits.context import Measurements
from audits.membership.any_leak import any_leak_rows
from audits.membership.attacks import Attack
from audits.membership.ceiling_rows import ceiling_rows
from audits.membership.dataset_inference import dataset_inference_rows
from audits.membership.epsilon_rows import (
    coins_read_row,
    epsilon_rows,
    reads_the_coins,
)
from audits.membership.metrics import ScoredRecords, attack_rows, diagnostic_rows, units
from audits.membership.roc import roc_figure
from audits.membership.same_rankings import repeated_rankings
from audits.membership.score_rows import ScoreRows
from audits.membership.view import AuditView
from audits.membership.worst_task import worst_task_rows
from audits.rows import ResultRow, banded
from audits.scoring.blind_baseline import BlindOptions, BlindSide
from audits.scoring.shift_test import ShiftTest, coins_row, gravest_shift
from common.guarantee import Guarantee
from common.keys import key


@dataclass(frozen=True)
class Side:
    """A population with everything that was measured on it.

    Attributes:
        view: Its records that have a response.
        clusters: Name of each record's near-duplicate cluster.
        empty: Records without a response, which nothing is measured on.
    """

    view: AuditView
    clusters: Sequence[str]
    empty: int = 0

    @property
    def cluster_ids(self) -> NDArray[np.int64]:
        """[B] number of each record's cluster."""
        return np.fromiter(map(key, self.clusters), dtype=np.int64, count=len(self.clusters))

    @property
    def blind(self) -> BlindSide:
        """What the blind baseline sees."""
        return BlindSide(list(self.view.records), self.cluster_ids)


@dataclass(frozen=True)
class Opposition:
    """Two populations that attacks tell apart.

    Attributes:
        members: Population of the members.
        nonmembers: Population of the non-members.
        fair_coins: Whether coins alone decided which audited record was trained on.
        unit: What each coin decided on: ``record`` or ``cluster``.
        dealt_by_coins: Whether fair coins dealt the sides, whatever was trained on or cut off.
    """

    members: str
    nonmembers: str
    fair_coins: bool
    unit: str = "cluster"
    dealt_by_coins: bool = False

    def shift_test(self, sides: Mapping[str, Side], options: BlindOptions) -> ShiftTest:
        """Measures what the texts of both populations alone tell."""
        ours, theirs = sides[self.members], sides[self.nonmembers]
        empty = ours.empty + theirs.empty
        sides_of = (ours.blind, theirs.blind)
        return ShiftTest.of(self.members, *sides_of, options, empty, self.dealt_by_coins)


def evaluate(
    attacks: Sequence[Attack],
    fprs: Sequence[float],
    sides: Mapping[str, Side],
    oppositions: Sequence[Opposition],
    shift_tests: Mapping[str, ShiftTest],
    named: bool,
    guarantee: Guarantee | None = None,
) -> Measurements:
    """Scores every side under every attack and sets the sides against each other.

    Args:
        attacks: The attacks.
        fprs: False-positive rates at which the true-positive rate is reported.
        sides: Populations by name.
        oppositions: Which are set against each other.
        shift_tests: What the texts alone tell, by the members' population; may be empty.
        named: Whether the checkpoint was named beforehand. Only then are there bounds on epsilon,
            each of which pays for all attacks on all populations that coins dealt; one that ranks
            records as another does is no further look.
        guarantee: Of the training that read the members; ceilings then stand beside what attacks
            that read no coin found.
    """
    scores = ScoreRows()
    found = Measurements(scores=scores)
    scorable = [side.view.scorable_only() for side in sides.values()]
    attacks = [attack.tuned(scorable) for attack in attacks]
    scored = {name: _scored(attacks, name, side) for name, side in sides.items()}
    members = {pair.members for pair in oppositions}
    repeated = {
        pair.members: repeated_rankings(attacks, scored[pair.members], scored[pair.nonmembers])
        for pair in oppositions
    }
    looks = sum(
        len(attacks) - len(repeated[pair.members]) for pair in oppositions if pair.fair_coins
    )
    for name, ours in scored.items():
        column = "n_members" if name in members else "n_nonmembers"
        shifted = gravest_shift(
            shift_tests[pair.members].verdict.shifted
            for pair in oppositions
            if name in (pair.members, pair.nonmembers) and pair.members in shift_tests
        )
        for attack, one in zip(attacks, ours, strict=True):
            scores.add(attack.name, attack.params, one)
            found.results += diagnostic_rows(attack.name, attack.params, column, one, shifted)
    for pair in oppositions:
        shift_test = shift_tests.get(pair.members)
        found.results.append(coins_row(pair.members, pair.dealt_by_coins))
        found.results += [] if shift_test is None else shift_test.rows
        found.curves |= {} if shift_test is None else shift_test.curves
        shifted = None if shift_test is None else shift_test.verdict.shifted
        _oppose(found, attacks, fprs, pair, scored, shift_test)
        views = sides[pair.members].view, sides[pair.nonmembers].view
        of_two = [attack for attack in attacks if reads_the_coins(attack, *views)]
        found.results += [coins_read_row(attack, pair.members) for attack in of_two]
        every = zip(attacks, scored[pair.members], scored[pair.nonmembers], strict=True)
        alone = [
            one
            for place, one in enumerate(every)
            if one[0] not in of_two and place not in repeated[pair.members]
        ]
        judged = [attack for attack, _, _ in alone]
        for own, unit in units({}, *(alone[0][1:] if alone else ())):
            inside, outside = [unit(one) for _, one, _ in alone], [unit(one) for *_, one in alone]
            found.results += any_leak_rows(judged, inside, outside, shifted, own)
            found.results += dataset_inference_rows(inside, outside, shifted, own)
        for attack, ours_alone, theirs in alone if pair.fair_coins else ():
            judged_sides = (attack.name, attack.params, ours_alone, theirs)
            rows = epsilon_rows(*judged_sides, pair.unit, looks) if named else []
            if guarantee is not None:
                rows += ceiling_rows(*judged_sides, guarantee, fprs)
            found.results += [replace(row, shifted=shifted) for row in rows]
    return found


def _scored(attacks: Sequence[Attack], population: str, side: Side) -> list[ScoredRecords]:
    """Returns one entry for every attack, in order."""
    scorable = side.view.scorable
    view = side.view.where(scorable)
    everybody = ScoredRecords(
        population,
        [record.id for record in view.records],
        [record.task for record in view.records],
        side.cluster_ids[scorable.numpy()],
        np.zeros(len(view.records)),
        skipped=side.empty + side.view.skipped,
        subjects=[record.subject for record in view.records],
    )
    found = []
    for attack in attacks:
        defined = attack.defined(view)
        kept = view.where(defined)
        draws = attack.draws(kept)
        found.append(
            replace(
                everybody.where(defined.numpy()),
                scores=attack.score(kept).numpy(),
                skipped=everybody.skipped + int((~defined).sum()),
                draws=None if draws is None else draws.numpy(),
                diagnostics=attack.diagnostics(kept),
            )
        )
    return found


def _oppose(
    found: Measurements,
    attacks: Sequence[Attack],
    fprs: Sequence[float],
    pair: Opposition,
    scored: Mapping[str, Sequence[ScoredRecords]],
    shift_test: ShiftTest | None,
) -> None:
    shifted = None if shift_test is None else shift_test.verdict.shifted
    curves: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]] = {}
    sides = zip(attacks, scored[pair.members], scored[pair.nonmembers], strict=True)
    for attack, inside, outside in sides:
        rows = attack_rows(attack.name, attack.params, inside, outside, fprs)
        curves[attack.name] = (inside.scores, outside.scores)
        rows += worst_task_rows(attack.name, attack.params, inside, outside)
        found.results += [replace(row, shifted=shifted) for row in rows]
        found.curves |= _curves(pair, rows)
    counts = f"n = {len(scored[pair.members][0].scores)} + {len(scored[pair.nonmembers][0].scores)}"
    warning = "SHIFTED DATA: " if shift_test is not None and shift_test.alarming else ""
    title = f"{warning}{pair.members} against {pair.nonmembers}: {counts}"
    found.figures[f"membership/{pair.members}/roc"] = roc_figure(curves, title)


def _curves(pair: Opposition, rows: Sequence[ResultRow]) -> dict[str, float]:
    """Returns AUROCs and TPRs over all tasks with their intervals, by tag."""
    found: dict[str, float] = {}
    for row in rows:
        drawn = row.metric == "auroc" or row.metric.startswith("tpr_at_fpr_")
        if drawn and row.task is None and row.params.get("unit") != "subject":
            found |= banded(curve_tag(pair.members, row.name, row.metric), row)
    return found


def curve_tag(population: str, attack: str, metric: str) -> str:
    """Returns the tag under which TensorBoard has a figure of an attack."""
    return f"membership/{population}/{attack}/{metric}"
