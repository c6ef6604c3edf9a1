"""The membership audit: every attack from the fewest passes, with every validation."""

from collections.abc import Callable, Mapping, Sequence

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from audits.membership.attacks import Attack
from audits.membership.collection import Collector
from audits.membership.evaluation import Opposition, Side, evaluate
from audits.membership.measurements import NEVER
from audits.membership.metrics import DEFAULT_FPRS
from audits.membership.plan import AuditPlan
from audits.membership.stored_audit import StoredAudit, save_audit
from audits.membership.view import AuditView
from audits.scoring.blind_baseline import BlindOptions
from audits.scoring.shift_test import ShiftTest
from callbacks.audit import AuditCallback, Measurements
from callbacks.last_validation import is_last_validation
from callbacks.references import reference_models
from callbacks.run import AuditContext, private_folder, run_identity
from callbacks.shift import shared_shift_test
from common.errors import UserError
from common.roles import COUNTERFACTUAL_ROLES
from datamodules.records import InstructionRecord
from kdmodules.models.weights_hash import weights_hash

_DEFAULT_BLIND = BlindOptions()


def pool_of_world(context: AuditContext) -> Callable[[str, str], list[InstructionRecord]]:
    """Returns the pool's records by side and use as the attacker of this model knows them.

    An attack's ``held_out`` are records that the model's training never reached, its ``private``
    ones some that it did. Behind a counterfactual model the sides are the other way round.
    """
    role, split = run_identity(context.trainer).role, context.module.training_split
    swapped = role in COUNTERFACTUAL_ROLES or split == "held_out"
    other = {"private": "held_out", "held_out": "private"} if swapped else {}
    return lambda side, use: context.data.by_role(other.get(side, side), use)


class MembershipAudit(AuditCallback):
    """Asks of every record whether the model's training reached it.

    Args:
        attacks: The attacks; what several of them read is measured once.
        populations: Populations whose records count as members, each against held-out records:
            private (an external model's: external), public, never; canary_in, against the coin
            canaries left out.
        fprs: False-positive rates at which the true-positive rate is reported.
        blind: The blind baseline, which tells whether the text alone gives members away; measured
            once in a run. None leaves it out, and no row then says whether the data are shifted.
        save_statistics: Keeps everything that was measured in the run's private folder, for
            ``kd-privacy attack``; texts of private records included.
        every_n_validations: Audits every n-th validation of a fit and the last one; 0, only that;
            None, as the run's other audits (``audits.every_n_validations``).
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
        save_statistics: bool = False,
        every_n_validations: int | None = None,
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
        self.save_statistics = save_statistics
        self._planned = False

    @property
    def pool_uses(self) -> frozenset[str]:
        """Those that some attack reads."""
        return self.plan.pool_uses

    def measure(self, context: AuditContext) -> Measurements:
        """Scores both sides of every population and returns rows, curves and ROC figures."""
        self._show_plan(context)
        pairs = self._oppositions(context)
        views = self._views(context, pairs)
        sides = {
            name: Side(
                view,
                context.data.clusters(view.records),
                empty=len(self.population(context, name)) - len(view.records),
            )
            for name, view in views.items()
        }
        if self.save_statistics and context.trainer.is_global_zero:
            identity = run_identity(context.trainer).columns(context.module.seed)
            save_audit(
                private_folder(context.trainer) / "statistics" / f"step={context.step}",
                StoredAudit({**identity, "step": context.step}, sides, pairs),
            )
        shift_tests = (
            {} if self.blind is None else self._shift_tests(context, self.blind, sides, pairs)
        )
        named = is_last_validation(context.trainer)
        found = evaluate(self.attacks, self.fprs, sides, pairs, shift_tests, named)
        return Measurements(found.results, found.scores, curves=found.curves, figures=found.figures)

    def _show_plan(self, context: AuditContext) -> None:
        """Tells, once in a run, what is measured and what it costs."""
        if not self._planned:
            rank_zero_info(self.plan.text())
            self._planned = True

    def _oppositions(self, context: AuditContext) -> list[Opposition]:
        return [
            Opposition(
                name,
                context.data.opposed_to(name),
                self._fair_coins(context, name),
                context.data.coin_unit(name),
                context.data.dealt_by_coins(name),
            )
            for name in self._member_populations(context)
        ]

    def _shift_tests(
        self,
        context: AuditContext,
        options: BlindOptions,
        sides: Mapping[str, Side],
        pairs: Sequence[Opposition],
    ) -> dict[str, ShiftTest]:
        """Returns what the texts alone tell of every pair, by the members' population."""
        found = {}
        for pair in pairs:
            ours, theirs = sides[pair.members], sides[pair.nonmembers]
            found[pair.members] = shared_shift_test(
                context.trainer,
                pair.members,
                ours.blind,
                theirs.blind,
                options,
                ours.empty + theirs.empty,
                pair.dealt_by_coins,
            )
        return found

    def _views(self, context: AuditContext, pairs: Sequence[Opposition]) -> dict[str, AuditView]:
        """Returns everything that the attacks read, by population, measured once."""
        names = dict.fromkeys(name for pair in pairs for name in (pair.nonmembers, pair.members))
        populations = {name: self.population(context, name) for name in names}
        return self._collector(context).collect(self.plan, populations)

    def _collector(self, context: AuditContext) -> Collector:
        references = reference_models(context.trainer)
        return Collector(
            access=self.model_access(context),
            load_reference=lambda name: references.load(name, context.module),
            own_pass=lambda name: self.token_statistics(context, name),
            weights_hash=weights_hash if self.save_statistics else lambda lm: "",
            pool_records=pool_of_world(context),
            never_records=lambda: context.data.population(NEVER),
            met=context.data.met,
            folder=private_folder(context.trainer),
        )

    def _member_populations(self, context: AuditContext) -> list[str]:
        return self.populations or [context.data.member_population]

    def _fair_coins(self, context: AuditContext, population: str) -> bool:
        """Whether coins alone decided which audited records were trained on.

        Where `max_records` cuts a side, the cut fixed their number.
        """
        whole = all(
            len(self.population(context, name)) == len(context.data.population(name))
            for name in (population, context.data.opposed_to(population))
        )
        return whole and context.data.fair_coins(population)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Checks the plan and lays out every AUROC with its band in TensorBoard's custom scalars.

        Raises:
            UserError: If an attack could not be measured on these records.
        """
        context = AuditContext.of(trainer, pl_module)
        populations = self._member_populations(context)
        sides = dict.fromkeys(
            side for name in populations for side in (name, context.data.opposed_to(name))
        )
        self._collector(context).check(
            self.plan, {name: self.population(context, name) for name in sides}
        )
        bands = {
            f"{attack.name}, {population} against {context.data.opposed_to(population)}": [
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
