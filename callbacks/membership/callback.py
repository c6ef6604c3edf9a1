"""The membership audit: every attack from one forward pass, with every validation."""

from collections.abc import Sequence

import numpy as np
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from callbacks.audit import AuditCallback, Measurements
from callbacks.membership.attacks import Attack
from callbacks.membership.collection import Collector
from callbacks.membership.measurements import NEVER
from callbacks.membership.metrics import DEFAULT_FPRS, ScoredRecords, attack_rows, score_rows
from callbacks.membership.plan import AuditPlan
from callbacks.membership.roc import roc_figure
from callbacks.membership.signals import ModelAccess
from callbacks.membership.view import AuditView
from callbacks.progress import progress
from callbacks.references import reference_models
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
        self.plan = AuditPlan.of(attacks)
        self.populations = populations
        self.fprs = list(DEFAULT_FPRS) if fprs is None else fprs

    def measure(self, scene: Scene) -> Measurements:
        """Scores both sides of every population and returns rows, curves and ROC figures."""
        found = Measurements()
        views = self._views(scene)
        scored = {name: self._scored(scene, name, view) for name, view in views.items()}
        for one in scored.values():
            self._add_scores(found, one)
        for population in self._member_populations(scene):
            self._add_results(found, scored[population], scored[NONMEMBERS])
        return found

    def _views(self, scene: Scene) -> dict[str, AuditView]:
        """Returns everything that the attacks read, by population, measured once."""
        names = [NONMEMBERS, *self._member_populations(scene)]
        populations = {name: self.population(scene, name) for name in names}
        references = reference_models(scene.trainer)
        collector = Collector(
            access=ModelAccess(
                scene.module.language_model,
                scene.data.encoder,
                scene.ranks,
                self.batch_size,
                self.max_batch_tokens,
                scene.module.seed,
                lambda title, total: progress(scene.trainer, title, total),
            ),
            load_reference=lambda name: references.load(name, scene.module),
            own_pass=lambda name: self.token_statistics(scene, name),
            weights_hash=lambda lm: "",
            pool_records=scene.data.by_role,
            never_records=lambda: scene.data.population(NEVER),
            met=scene.data.met,
        )
        return collector.collect(self.plan, populations)

    def _member_populations(self, scene: Scene) -> list[str]:
        return self.populations or [scene.data.member_population]

    def _scored(self, scene: Scene, population: str, view: AuditView) -> list[ScoredRecords]:
        """Returns one entry for every attack, in order."""
        unscorable = len(self.population(scene, population)) - len(view.records) + view.skipped
        scorable = view.scorable_only()
        names = scene.data.clusters(scorable.records)
        clusters = np.array([key(name) for name in names], dtype=np.int64)
        found = []
        for attack in self.attacks:
            defined = attack.defined(scorable)
            kept = scorable.where(defined)
            found.append(
                ScoredRecords(
                    population,
                    [record.id for record in kept.records],
                    [record.task for record in kept.records],
                    clusters[defined.numpy()],
                    attack.score(kept).numpy(),
                    skipped=unscorable + int((~defined).sum()),
                )
            )
        return found

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
