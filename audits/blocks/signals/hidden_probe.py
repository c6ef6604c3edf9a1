"""Hidden-state probe: can a linear reader of a block's output tell members from others?

A supervised attack: its attacker holds labelled members. It reads the text as well as the model, so
that any difference between the two record sets becomes "membership"; compare it with the probe of
the counterfactual student, at the same block on the same folds.
"""

import numpy as np
from torch import Tensor

from audits.blocks.probe import ProbeOptions, joint_p_values, probe
from audits.blocks.profile import Figure, MeasuredSide, PermutedAreas, Profile
from audits.blocks.readout import record_means
from audits.blocks.signals.base import BlockStep, RecordedSignal
from audits.statistics.clusters import critical_value
from common.errors import UserError

_QUANTILE = critical_value(0.05)
_STRENGTHS = (0.01, 0.1, 1.0, 10.0)


class HiddenProbe(RecordedSignal):
    """Held-out log-odds of a logistic probe on the response's mean hidden state behind a block.

    Args:
        folds: Folds of the cross-validation, grouped by near-duplicate cluster, tasks spread.
        permutations: Permuted labellings that the probe is fitted to anew; the standard error and
            the p-value come from them.
        strengths: Inverse penalties C to choose from, inside each training fold.
        seed: Of folds and permutations; the same in every run, so that probes compare.

    Raises:
        UserError: If a number is out of range.
    """

    name = "hidden_probe"
    threat_model = "holds the weights and labelled members"

    def __init__(
        self,
        folds: int = 5,
        permutations: int = 199,
        strengths: list[float] | None = None,
        seed: int = 0,
    ) -> None:
        chosen = _STRENGTHS if strengths is None else tuple(strengths)
        if folds < 2 or permutations < 199 or not chosen or min(chosen) <= 0:
            raise UserError(
                f"{self.name}: give 2 or more folds (found {folds}), 199 or more permutations "
                f"(found {permutations}) and positive strengths (found {list(chosen)})"
            )
        self.options = ProbeOptions(chosen, folds, max(2, folds - 2), permutations, seed)
        self.params = {"folds": self.options.folds, "permutations": self.options.permutations}

    def read(self, step: BlockStep) -> Tensor:
        """Returns the mean hidden state over the rows that predict the response, [B, D]."""
        return record_means(step.left, step.batch)

    def oppose(self, members: MeasuredSide, nonmembers: MeasuredSide) -> list[Profile]:
        """Returns the one profile; 95% intervals are normal, errors of permuted labellings."""
        features = np.concatenate([members.measured.numpy(), nonmembers.measured.numpy()])
        n = len(members.tasks)
        inside = np.arange(len(features)) < n
        tasks = [*members.tasks, *nonmembers.tasks]
        clusters = np.concatenate([members.clusters, nonmembers.clusters])
        found = [
            probe(features[:, block], inside, tasks, clusters, self.options)
            for block in range(features.shape[1])
        ]
        permuted = PermutedAreas(
            found[0].labellings, np.stack([one.permuted for one in found], axis=1)
        )
        areas = np.array([one.auroc for one in found])
        p_values = joint_p_values(areas, permuted.aurocs, directed=True)
        figures = [
            Figure(
                "auroc",
                block,
                one.auroc,
                max(0.0, one.auroc - _QUANTILE * one.standard_error),
                min(1.0, one.auroc + _QUANTILE * one.standard_error),
                float(p),
            )
            for block, (one, p) in enumerate(zip(found, p_values, strict=True))
        ]
        scores = np.stack([one.scores for one in found], axis=1)
        blocks = tuple(range(len(found)))
        return [
            Profile(
                self.name, self.params, blocks, tuple(figures), scores[:n], scores[n:], permuted
            )
        ]
