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
from audits.rows import Audit, MemorizationRow, ResultRow, bounds, tagged
from callbacks.audit import AuditCallback
from callbacks.progress import progress
from callbacks.run import RunContext
from common.errors import UserError
from common.keys import numpy_generator
from datamodules.canaries import Canary
from datamodules.encoding import RecordEncoder
from datamodules.instruction import InstructionDataModule

POPULATION = "canary_exposure"
"""Under this name the exposure canaries stand in the tables; no other audit reads them."""

ALL_FORMATS = "all"
_FEWEST_CANDIDATES = 100


class ExposureAudit(AuditCallback):
    """Measures the exposure of the canaries that the private split holds once to 16 times.

    A model that never met them, such as a control, is audited on the same canaries: its mean
    exposure should be that of chance, 1.44 bits.

    Args:
        max_candidates: Largest space of which every secret is scored, for the exact rank; 24,000
            takes in the codes.
        sample_candidates: Secrets drawn from a larger space, among which the rank gives the p-value
            and to which a skew-normal distribution is fitted for the bits, an approximation.
        every_n_validations: Audits every n-th validation of a fit and the last one; 0, only that;
            None, as the run's other audits (``audits.every_n_validations``).
        batch_size: Most candidates in a batch.
        max_batch_tokens: Most tokens in a batch, the prompt counted once per candidate.
    """

    audit = Audit.exposure

    def __init__(
        self,
        max_candidates: int = 24_000,
        sample_candidates: int = 1000,
        every_n_validations: int | None = None,
        batch_size: int = 256,
        max_batch_tokens: int = 32_768,
    ) -> None:
        super().__init__(every_n_validations, None, batch_size, max_batch_tokens)
        if sample_candidates < _FEWEST_CANDIDATES:
            raise UserError(
                f"sample_candidates is {sample_candidates}: a distribution is fitted to them, give "
                f"{_FEWEST_CANDIDATES} or more"
            )
        self.max_candidates = max_candidates
        self.sample_candidates = sample_candidates
        self._sets: list[CandidateSet] = []

    def measure(self, context: RunContext) -> Measurements:
        """Returns a row per canary, and means by format and repetitions with their curves."""
        canaries = exposure_canaries(context)
        if not self._sets:
            self._sets = [self._candidates(one, context.data.encoder) for one in canaries]
        scores = candidate_log_likelihoods(
            context.module.language_model,
            self._sets,
            context.ranks,
            self.batch_size,
            self.max_batch_tokens,
            lambda total: progress(context.trainer, "exposure: candidate secrets", total),
        )
        measured = [
            MeasuredCanary(canary, self._exposure(canary, own.numpy()), len(one.tails[0]))
            for canary, own, one in zip(canaries, scores, self._sets, strict=True)
        ]
        rows = exposure_rows(measured)
        return Measurements(
            results=rows,
            memorization=[one.row() for one in measured],
            curves=_curves(rows),
        )

    def _is_exact(self, canary: Canary) -> bool:
        return canary.secret_space <= self.max_candidates

    def _candidates(self, canary: Canary, encoder: RecordEncoder) -> CandidateSet:
        """Returns the planted response and, after it, those with the other secrets."""
        n_others = canary.secret_space - 1
        if self._is_exact(canary):
            drawn = np.arange(n_others)
        else:
            rng = numpy_generator("exposure-candidates", canary.id)
            drawn = rng.choice(n_others, self.sample_candidates, replace=False, shuffle=False)
        # The planted secret's own number is left out: those from it on move up by one.
        others = drawn + (drawn >= canary.secret_index)
        record = canary.record()
        encoded = encoder.encode_all(
            [
                replace(record, response=canary.candidate_response(int(index)))
                for index in (canary.secret_index, *others)
            ]
        )
        if any(one.response_cut for one in encoded):
            raise UserError(
                f"{canary.id} does not fit into data.max_tokens ({encoder.max_tokens}) with every "
                "secret: raise it"
            )
        return CandidateSet.of(encoded)

    def _exposure(self, canary: Canary, scores: np.ndarray) -> Exposure:
        secret, others = float(scores[0]), scores[1:]
        if self._is_exact(canary):
            return exact_exposure(secret, others)
        return extrapolated_exposure(secret, others, canary.secret_space)


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
            "population": POPULATION,
            "name": "exposure",
            "params": _params(self.canary.format, self.canary.repetitions, [self]),
            "value": self.exposure.bits,
            "n_tokens": self.n_tokens,
        }


def exposure_canaries(context: RunContext) -> list[Canary]:
    """Returns the exposure series of the run's data.

    Raises:
        UserError: If none are planted.
    """
    planted = context.data.canaries if isinstance(context.data, InstructionDataModule) else []
    found = [canary for canary in planted if canary.series == "exposure"]
    if not found:
        raise UserError(
            "ExposureAudit has no exposure canaries to audit: plant them with "
            "-c configs/data/canaries.yaml, or --data.canaries.exposure_per_level 20"
        )
    return found


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
                population=POPULATION,
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
        population=POPULATION,
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
    curves: dict[str, float] = {}
    for row in rows:
        if row.params["format"] == ALL_FORMATS:
            curves |= tagged(f"exposure/repeated_{row.params['repetitions']}", row)
    return curves
