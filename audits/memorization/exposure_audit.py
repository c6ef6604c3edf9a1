"""The exposure audit: how far planted secrets stand out, by how often each was planted."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from audits.context import Measurements
from audits.memorization.candidate_pass import CandidateSet, candidate_log_likelihoods
from audits.memorization.exposure import (
    Exposure,
    chance_exposure,
    exact_exposure,
    extrapolated_exposure,
    mean_exposure,
)
from audits.rows import Audit, MemorizationRow, ResultRow, bounds
from audits.scoring.model_access import ModelAccess
from common.errors import UserError
from common.keys import numpy_generator
from datamodules.canaries import Canary
from datamodules.encoding import RecordEncoder

CANARIES = "canary_exposure"
"""Under this name the exposure canaries stand in the tables; no other audit reads them."""

ALL_FORMATS = "all"
_FEWEST_CANDIDATES = 100


@dataclass(frozen=True)
class Candidates:
    """Which secrets stand beside a planted one.

    Attributes:
        largest_space: Largest space of which every secret is scored, for the exact rank.
        sample: Secrets drawn from a larger space.

    Raises:
        UserError: If too few are drawn.
    """

    largest_space: int
    sample: int

    def __post_init__(self) -> None:
        """Checks the number."""
        if self.sample < _FEWEST_CANDIDATES:
            raise UserError(
                f"sample_candidates is {self.sample}: a distribution is fitted to them, give "
                f"{_FEWEST_CANDIDATES} or more"
            )

    def of(self, canary: Canary, encoder: RecordEncoder) -> CandidateSet:
        """Returns the planted response and, after it, those with the other secrets.

        Raises:
            UserError: If the responses do not fit.
        """
        n_others = canary.secret_space - 1
        if self._is_exact(canary):
            drawn = np.arange(n_others)
        else:
            rng = numpy_generator("exposure-candidates", canary.id)
            drawn = rng.choice(n_others, self.sample, replace=False, shuffle=False)
        # The planted secret's own number is left out: those from it on move up by one.
        others = drawn + (drawn >= canary.secret_index)
        record = canary.record()
        encoded = encoder.encode_last(
            [
                replace(record, response=canary.candidate_response(int(index)))
                for index in (canary.secret_index, *others)
            ]
        )
        if any(response.response_cut for response in encoded):
            raise UserError(
                f"{canary.id} does not fit into data.max_tokens ({encoder.max_tokens}) with every "
                "secret: raise it"
            )
        return CandidateSet.of(encoded)

    def exposure(self, canary: Canary, scores: np.ndarray) -> Exposure:
        """Returns a canary's exposure from the scores of its candidates, its own first."""
        secret, others = float(scores[0]), scores[1:]
        if self._is_exact(canary):
            return exact_exposure(secret, others)
        return extrapolated_exposure(secret, others, canary.secret_space)

    def _is_exact(self, canary: Canary) -> bool:
        return canary.secret_space <= self.largest_space


def audit_exposure(
    model: ModelAccess,
    canaries: Sequence[Canary],
    sets: Sequence[CandidateSet],
    candidates: Candidates,
) -> Measurements:
    """Returns a row per canary, and means by format and repetitions with their curves.

    Args:
        model: The model under audit.
        canaries: The planted canaries.
        sets: Responses of each canary (`Candidates.of`).
        candidates: How the sets were chosen.
    """
    scores = candidate_log_likelihoods(
        model.lm,
        sets,
        model.ranks,
        model.batch_size,
        model.max_batch_tokens,
        lambda total: model.progress("exposure: candidate secrets", total),
    )
    measured = [
        MeasuredCanary(canary, candidates.exposure(canary, scored.numpy()), len(chosen.tails[0]))
        for canary, scored, chosen in zip(canaries, scores, sets, strict=True)
    ]
    rows = exposure_rows(measured)
    return Measurements(
        results=rows,
        memorization=[canary.row() for canary in measured],
        curves=_curves(rows),
    )


@dataclass(frozen=True, slots=True)
class MeasuredCanary:
    """A canary and what was found of it; `n_tokens` of its response differ between secrets."""

    canary: Canary
    exposure: Exposure
    n_tokens: int

    def row(self) -> MemorizationRow:
        """Returns its row of the memorization table, which does not hold the secret."""
        return {
            "record": self.canary.id,
            "population": CANARIES,
            "name": "exposure",
            "params": _params(self.canary.format, self.canary.repetitions, [self]),
            "value": self.exposure.bits,
            "n_tokens": self.n_tokens,
        }


def exposure_rows(measured: Sequence[MeasuredCanary]) -> list[ResultRow]:
    """Returns the mean exposure by repetitions, of all formats together and of each.

    Beside each format's stands `exposure_chance`, what canaries that were never met would show.
    """
    rows = []
    for level in sorted({one.canary.repetitions for one in measured}):
        mine = [one for one in measured if one.canary.repetitions == level]
        rows.append(_row(ALL_FORMATS, level, mine))
        for name in sorted({one.canary.format for one in mine}):
            same = [one for one in mine if one.canary.format == name]
            row = _row(name, level, same)
            chance = ResultRow(
                audit=Audit.memorization,
                population=CANARIES,
                name="exposure",
                params=row.params,
                metric="exposure_chance",
                value=chance_exposure(same[0].canary.secret_space),
            )
            rows += [row, chance]
    return rows


def _row(name: str, level: int, measured: Sequence[MeasuredCanary]) -> ResultRow:
    mean = mean_exposure(
        [one.exposure for one in measured], [one.canary.secret_space for one in measured]
    )
    return ResultRow(
        audit=Audit.memorization,
        population=CANARIES,
        name="exposure",
        params=_params(name, level, measured),
        metric="exposure",
        p_value=mean.p_value,
        n_members=mean.n,
        **bounds(mean),
    )


def _params(name: str, level: int, measured: Sequence[MeasuredCanary]) -> dict[str, object]:
    methods = sorted({one.exposure.method for one in measured})
    return {"format": name, "repetitions": level, "method": "+".join(methods)}


def _curves(rows: Sequence[ResultRow]) -> dict[str, float]:
    return {
        f"exposure/repeated_{row.params['repetitions']}": row.value
        for row in rows
        if row.params["format"] == ALL_FORMATS and row.value is not None
    }
