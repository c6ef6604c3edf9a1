"""C5: the risk differs by a large margin between blocks."""

import json
from collections.abc import Iterator, Sequence

import pandas as pd

from common.wording import estimate_text, p_value_text
from studies.claims.figures import StudyFigures
from studies.claims.levels import levels_differ
from studies.claims.panel import Entry, panel_of
from studies.claims.verdict import ALPHA, BLOCK_MARGIN, Outcome, Statement, Verdict, state
from studies.compare.memorization import PRIVATE
from studies.plan.cells import Cell

# Fixed before looking: the published signal. Weight noise less reliable than this is not ranked.
SIGNAL = "block_mope"
_RELIABLE = 0.8
_WHERE = {"audit": "blocks", "population": PRIVATE, "task": None}
_OF_WEIGHTS = ("max_minus_min", "equal_blocks_wald")
Reading = tuple[str, str]


def block_statements(figures: StudyFigures) -> list[Statement]:
    """Returns a statement for every family, size and reading; those of the signal decide.

    Over replicates the figure of a block is the mean over techniques of (A + 1 - B)/2, A and B its
    AUROC under the student and under the counterfactual. A study of one replicate is judged by what
    its block audits say of each student, over records.
    """
    statements = []
    for family, size in figures.strata:
        students = [one for one in figures.students if (one.family, one.size) == (family, size)]
        for reading in _readings(figures, students):
            statements.append(_statement(figures, students, reading, size))
    if any(statement.decides for statement in statements):
        return statements
    reason = f"the signal {SIGNAL} was not measured (configs/audits/blocks_all.yaml measures it)"
    outcome = Outcome("undecided", None, "largest difference of two blocks")
    replicates = len({cell.replicate for cell in figures.students})
    return [state(outcome, SIGNAL, replicates, missing=[reason]), *statements]


def _readings(figures: StudyFigures, students: Sequence[Cell]) -> list[Reading]:
    """Returns name and parameters of what was measured, noise of one sign left out."""
    rows = [figures.rows(cell, "auroc", _WHERE) for cell in students]
    every = pd.concat(rows) if rows else figures.results.iloc[:0]
    every = every[every["block"].notna()]
    pairs = dict.fromkeys(zip(every["name"], every["params"], strict=True))
    return sorted(one for one in pairs if json.loads(one[1]).get("antithetic") is not False)


def _statement(
    figures: StudyFigures, students: Sequence[Cell], reading: Reading, size: str
) -> Statement:
    name, params = reading
    shown = {key: one for key, one in json.loads(params).items() if key in ("measure", "sigma")}
    measure = " ".join([name, *(str(one) for one in shown.values()), f"at {size}"])
    entries = _entries(figures, students, reading)
    panel = panel_of(entries, shift_excluded=figures.shift_excluded())
    decides, sample = name == SIGNAL, panel.sample()
    if sample is not None:
        return panel.statement(levels_differ(sample, BLOCK_MARGIN), measure, decides=decides)
    if len(panel.replicates) > 1:
        return panel.statement(panel.untested(), measure, decides=decides)
    outcome, records = _of_weights(figures, students, reading)
    # The audits judged this one replicate's students whether or not their blocks can be ranked.
    return panel.statement(outcome, measure, records=records, replicates=1, decides=decides)


def _entries(figures: StudyFigures, students: Sequence[Cell], reading: Reading) -> Iterator[Entry]:
    for cell in students:
        pair = figures.pair(cell)
        if isinstance(pair, str):
            yield cell.replicate, "", pair
            continue
        ours, theirs = (_by_block(figures, one, "auroc", reading) for one in pair)
        reliability = [_by_block(figures, one, "reliability", reading) for one in pair]
        noisy = {
            block for known in reliability for block, value in known.items() if value < _RELIABLE
        }
        if not ours or ours.keys() != theirs.keys():
            yield cell.replicate, "", f"{cell.alias}: no {reading[0]} of both runs of the pair"
        elif noisy:
            blocks = ", ".join(str(block) for block in sorted(noisy))
            reason = f"{cell.alias}: noise too unreliable at blocks {blocks} to be ranked"
            yield cell.replicate, "", reason
        else:
            for block, value in ours.items():
                yield cell.replicate, f"block {block}", (value + 1.0 - theirs[block]) / 2.0


def _by_block(figures: StudyFigures, cell: Cell, metric: str, reading: Reading) -> dict[int, float]:
    rows = _last(figures, cell, metric, reading)
    rows = rows[rows["block"].notna()].sort_values("block")
    return dict(zip(rows["block"].astype(int), rows["value"].astype(float), strict=True))


def _last(figures: StudyFigures, cell: Cell, metric: str, reading: Reading) -> pd.DataFrame:
    rows = figures.rows(cell, metric, {**_WHERE, "name": reading[0], "params": reading[1]})
    return rows[rows["step"] == rows["step"].max()]


def _of_weights(
    figures: StudyFigures, students: Sequence[Cell], reading: Reading
) -> tuple[Outcome, str]:
    """Judges every student by its own interval of max - min and its Wald outcome, over records."""
    judged: list[tuple[str, pd.Series, pd.Series]] = []
    for cell in students:
        spread, wald = (_last(figures, cell, metric, reading) for metric in _OF_WEIGHTS)
        if not (len(spread) and len(wald)):
            return Outcome("undecided", None, "largest minus smallest AUROC of a block"), ""
        judged.append((str(cell.technique), spread.iloc[0], wald.iloc[0]))
    name, weakest, _ = min(judged, key=lambda item: float(item[1]["lower"]))
    p_value = max(float(wald["p_value"]) for *_, wald in judged)
    large = weakest["lower"] > BLOCK_MARGIN and p_value <= ALPHA
    small = any(one["upper"] < BLOCK_MARGIN for _, one, _ in judged)
    verdict: Verdict = "confirmed" if large else "refuted" if small else "undecided"
    why = f"each student's simultaneous interval against {BLOCK_MARGIN:g}, and its Wald test"
    outcome = Outcome(
        verdict=verdict,
        effect=float(weakest["value"]),
        what=f"largest minus smallest AUROC of a block, {name}",
        lower=float(weakest["lower"]),
        upper=float(weakest["upper"]),
        p_value=p_value,
        why=why,
        details=tuple(
            f"{name}: {estimate_text(one['value'], one['lower'], one['upper'])}, "
            f"Wald {p_value_text(wald['p_value'])}"
            for name, one, wald in judged
        ),
    )
    return outcome, f"{weakest['n_members']:.0f} + {weakest['n_nonmembers']:.0f} records"
