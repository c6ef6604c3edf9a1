"""The membership audit: every attack from one forward pass, with every validation."""

from collections.abc import Sequence

import numpy as np
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from callbacks.audit import AuditCallback, Measurements
from callbacks.membership.attacks import Attack
from callbacks.membership.metrics import DEFAULT_FPRS, ScoredRecords, attack_rows, score_rows
from callbacks.membership.roc import roc_figure
from callbacks.membership.view import AuditView
from callbacks.run import Scene
from datamodules.errors import UserError
from datamodules.keys import key

NONMEMBERS = "held_out"


class MembershipAudit(AuditCallback):
    """Asks of every record whether the model's training reached it.

    Args:
        attacks: The attacks; all of them share one forward pass.
        populations: Populations whose records count as members, each against held-out records:
            private (an external model's: external), public, never.
        fprs: False-positive rates at which the true-positive rate is reported.
        every_n_validations: Audits every n-th validation of a fit; the last one is always audited.
        max_records: Most records of a population.
        batch_size: Most records in a batch.
        max_batch_tokens: Most tokens in a batch with its padding.
    """

    audit = "membership"

    def __init__(
        self,
        attacks: list[Attack],
        populations: list[str] | None = None,
        fprs: list[float] | None = None,
        every_n_validations: int = 1,
        max_records: int | None = None,
        batch_size: int = 64,
        max_batch_tokens: int = 8192,
    ) -> None:
        super().__init__(every_n_validations, max_records, batch_size, max_batch_tokens)
        names = [(attack.name, str(attack.params)) for attack in attacks]
        if not attacks or len(set(names)) < len(names):
            raise UserError(
                f"attacks are {[name for name, _ in names]}: name at least one, each once"
            )
        self.attacks = attacks
        self.populations = populations
        self.fprs = list(DEFAULT_FPRS) if fprs is None else fprs

    def measure(self, scene: Scene) -> Measurements:
        """Scores both sides of every population and returns rows, curves and ROC figures."""
        found = Measurements()
        nonmembers = self._scored(scene, NONMEMBERS)
        self._add_scores(found, nonmembers)
        for population in self._member_populations(scene):
            members = self._scored(scene, population)
            self._add_scores(found, members)
            self._add_results(found, members, nonmembers)
        return found

    def _member_populations(self, scene: Scene) -> list[str]:
        return self.populations or [scene.data.member_population]

    def _scored(self, scene: Scene, population: str) -> list[ScoredRecords]:
        """Returns one entry for every attack, in order."""
        records = self.population(scene, population)
        statistics = self.token_statistics(scene, population)
        scorable = set(statistics.record_ids)
        kept = [record for record in records if record.id in scorable]
        view = AuditView(records=kept, statistics=statistics)
        clusters = np.array([key(name) for name in scene.data.clusters(kept)], dtype=np.int64)
        return [
            ScoredRecords(
                population,
                [record.id for record in kept],
                [record.task for record in kept],
                clusters,
                attack.score(view).numpy(),
                skipped=len(records) - len(kept),
            )
            for attack in self.attacks
        ]

    def _add_scores(self, found: Measurements, scored: Sequence[ScoredRecords]) -> None:
        for attack, one in zip(self.attacks, scored, strict=True):
            found.scores += score_rows(attack.name, attack.params, one)

    def _add_results(
        self,
        found: Measurements,
        members: Sequence[ScoredRecords],
        nonmembers: Sequence[ScoredRecords],
    ) -> None:
        curves: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        population = members[0].population
        for attack, inside, outside in zip(self.attacks, members, nonmembers, strict=True):
            rows = attack_rows(attack.name, attack.params, inside, outside, self.fprs)
            found.results += rows
            curves[attack.name] = (inside.scores, outside.scores)
            for row in rows:
                tag = f"membership/{population}/{attack.name}/{row['metric']}"
                for column, suffix in (("value", ""), ("lower", "/lower"), ("upper", "/upper")):
                    number = row.get(column)
                    if row["task"] is None and isinstance(number, float):
                        found.curves[tag + suffix] = number
        counts = f"n = {len(members[0].scores)} + {len(nonmembers[0].scores)}"
        title = f"{population} against {NONMEMBERS}: {counts}"
        found.figures[f"membership/{population}/roc"] = roc_figure(curves, title)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Lays out every AUROC with its interval as a band in TensorBoard's custom scalars."""
        populations = self._member_populations(Scene.of(trainer, pl_module))
        bands = {
            f"{attack.name}, {population} against {NONMEMBERS}": [
                "Margin",
                [
                    f"membership/{population}/{attack.name}/auroc",
                    f"membership/{population}/{attack.name}/auroc/lower",
                    f"membership/{population}/{attack.name}/auroc/upper",
                ],
            ]
            for population in populations
            for attack in self.attacks
        }
        for logger in trainer.loggers:
            if trainer.is_global_zero and isinstance(logger, TensorBoardLogger):
                logger.experiment.add_custom_scalars({"membership: AUROC with 95% interval": bands})
