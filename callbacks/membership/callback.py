"""The membership audit: every attack from one forward pass, with every validation."""

from collections.abc import Sequence

import numpy as np
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_info, rank_zero_warn

from callbacks.audit import AuditCallback, Measurements
from callbacks.membership.attacks import Attack
from callbacks.membership.blind import BlindOptions, BlindSide
from callbacks.membership.collection import Collector
from callbacks.membership.gate import Gate
from callbacks.membership.measurements import NEVER
from callbacks.membership.metrics import (
    DEFAULT_FPRS,
    ScoredRecords,
    attack_rows,
    diagnostic_rows,
    score_rows,
)
from callbacks.membership.plan import AuditPlan
from callbacks.membership.roc import roc_figure
from callbacks.membership.signals import ModelAccess
from callbacks.membership.view import AuditView
from callbacks.progress import progress
from callbacks.references import reference_models
from callbacks.run import Scene
from datamodules.errors import UserError
from datamodules.keys import key
from datamodules.records import InstructionRecord

_DEFAULT_BLIND = BlindOptions()


class MembershipAudit(AuditCallback):
    """Asks of every record whether the model's training reached it.

    Args:
        attacks: The attacks; all of them share one forward pass.
        populations: Populations whose records count as members, each against held-out records:
            private (an external model's: external), public, never; canary_in, against the coin
            canaries left out.
        fprs: False-positive rates at which the true-positive rate is reported.
        blind: The blind baseline, which tells whether the text alone gives members away; measured
            once in a run. None leaves it out, and no row then says whether the data are shifted.
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
        blind: BlindOptions | None = _DEFAULT_BLIND,
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
        self.blind = blind
        self._gates: dict[int, Gate] = {}

    def measure(self, scene: Scene) -> Measurements:
        """Scores both sides of every population and returns rows, curves and ROC figures."""
        found = Measurements()
        populations = self._member_populations(scene)
        gates = {name: self._gate(scene, name) for name in populations}
        views = self._views(scene)
        scored = {name: self._scored(scene, name, view) for name, view in views.items()}
        for name, one in scored.items():
            self._add_scores(found, "n_members" if name in populations else "n_nonmembers", one)
        for population in populations:
            opposed = scored[scene.data.opposed_to(population)]
            self._add_results(scene, found, gates[population], scored[population], opposed)
        return found

    def _gate(self, scene: Scene, population: str) -> Gate | None:
        """Returns what the texts alone tell, measured by rank 0 once and the same on every rank."""
        if self.blind is None:
            return None
        names = self._sides(scene, population)
        sides = [self._blind_side(scene, name) for name in names]
        cached = key(population, *(one.content for side in sides for one in side.records))
        if cached not in self._gates:
            skipped = sum(len(self.population(scene, name)) for name in names)
            skipped -= sum(len(side.records) for side in sides)
            own = []
            if scene.trainer.is_global_zero:
                own = [Gate.of(population, sides[0], sides[1], self.blind, skipped)]
            (gate,) = scene.trainer.strategy.broadcast(own)
            self._gates[cached] = gate
            if gate.message is not None:
                (rank_zero_warn if gate.verdict.shifted else rank_zero_info)(gate.message)
        return self._gates[cached]

    def _blind_side(self, scene: Scene, name: str) -> BlindSide:
        records = [one for one in self.population(scene, name) if one.response]
        return BlindSide(records, _cluster_ids(scene, records))

    def _sides(self, scene: Scene, population: str) -> tuple[str, str]:
        return population, scene.data.opposed_to(population)

    def _views(self, scene: Scene) -> dict[str, AuditView]:
        """Returns everything that the attacks read, by population, measured once."""
        wanted = self._member_populations(scene)
        names = dict.fromkeys(side for name in wanted for side in self._sides(scene, name)[::-1])
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
        clusters = _cluster_ids(scene, scorable.records)
        found = []
        for attack in self.attacks:
            defined = attack.defined(scorable)
            kept = scorable.where(defined)
            draws = attack.draws(kept)
            found.append(
                ScoredRecords(
                    population,
                    [record.id for record in kept.records],
                    [record.task for record in kept.records],
                    clusters[defined.numpy()],
                    attack.score(kept).numpy(),
                    skipped=unscorable + int((~defined).sum()),
                    draws=None if draws is None else draws.numpy(),
                    diagnostics=attack.diagnostics(kept),
                )
            )
        return found

    def _add_scores(self, found: Measurements, side: str, scored: Sequence[ScoredRecords]) -> None:
        for attack, one in zip(self.attacks, scored, strict=True):
            found.scores += score_rows(attack.name, attack.params, one)
            found.results += diagnostic_rows(attack.name, attack.params, side, one)

    def _add_results(
        self,
        scene: Scene,
        found: Measurements,
        gate: Gate | None,
        members: Sequence[ScoredRecords],
        nonmembers: Sequence[ScoredRecords],
    ) -> None:
        curves: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        population = members[0].population
        shifted = None if gate is None else gate.verdict.shifted
        coins = self._fair_coins(scene, population)
        found.results += [] if gate is None else gate.rows
        found.curves |= {} if gate is None else gate.curves
        for attack, inside, outside in zip(self.attacks, members, nonmembers, strict=True):
            rows = attack_rows(attack.name, attack.params, inside, outside, self.fprs, coins)
            found.results += [{**row, "shifted": shifted} for row in rows]
            curves[attack.name] = (inside.scores, outside.scores)
            for row in rows:
                tag = f"membership/{population}/{attack.name}/{row['metric']}"
                for column, suffix in (("value", ""), ("lower", "/lower"), ("upper", "/upper")):
                    number = row.get(column)
                    if row["task"] is None and isinstance(number, float):
                        found.curves[tag + suffix] = number
        counts = f"n = {len(members[0].scores)} + {len(nonmembers[0].scores)}"
        warning = "SHIFTED DATA: " if shifted else ""
        title = f"{warning}{population} against {nonmembers[0].population}: {counts}"
        found.figures[f"membership/{population}/roc"] = roc_figure(curves, title)

    def _fair_coins(self, scene: Scene, population: str) -> bool:
        """Whether coins alone decided which audited records are members.

        Where `max_records` cuts a side, the cut fixed their number.
        """
        whole = all(
            len(self.population(scene, name)) == len(scene.data.population(name))
            for name in self._sides(scene, population)
        )
        return whole and scene.data.fair_coins(population)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Lays out every AUROC with its interval as a band in TensorBoard's custom scalars."""
        scene = Scene.of(trainer, pl_module)
        populations = self._member_populations(scene)
        bands = {
            f"{attack.name}, {population} against {scene.data.opposed_to(population)}": [
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


def _cluster_ids(scene: Scene, records: Sequence[InstructionRecord]) -> np.ndarray:
    names = scene.data.clusters(records)
    return np.array([key(name) for name in names], dtype=np.int64)
