"""The membership audit: every attack from the fewest passes, with every validation."""

from collections.abc import Mapping, Sequence

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_info, rank_zero_warn

from audits.context import Measurements, require_distinct
from audits.membership.attacks import Attack
from audits.membership.audit import audit_membership, audit_plan, check_membership
from audits.membership.evaluation import Opposition, Side, curve_tag
from audits.membership.metrics import DEFAULT_FPRS
from audits.membership.single_records import ShadowWorlds
from audits.membership.stored_audit import StoredAudit, save_audit
from audits.record_counts import counts_note
from audits.rows import Audit, band_tags
from audits.scoring.blind_baseline import BlindOptions
from audits.template_check import template_warning
from callbacks.audit import AuditCallback
from callbacks.run import RunContext, private_folder
from callbacks.schedule import is_last_validation
from callbacks.tensorboard import tag_in

_DEFAULT_BLIND = BlindOptions()


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
        worlds: Shadow worlds that judge every record by itself, an even number of the references
            ``shadow0``, ``shadow1``, ...; 0 judges none.
        every_n_validations: Audits every n-th validation of a fit and the last one; 0, only that;
            None, as the run's other audits (``audits.every_n_validations``).
        max_records: Most records of a population.
        batch_size: Most records in a batch.
        max_batch_tokens: Most tokens in a batch with its padding.
    """

    audit = Audit.membership

    def __init__(
        self,
        attacks: list[Attack],
        populations: list[str] | None = None,
        fprs: list[float] | None = None,
        blind: BlindOptions | None = _DEFAULT_BLIND,
        save_statistics: bool = False,
        worlds: int = 0,
        every_n_validations: int | None = None,
        max_records: int | None = None,
        batch_size: int = 64,
        max_batch_tokens: int = 8192,
    ) -> None:
        super().__init__(every_n_validations, max_records, batch_size, max_batch_tokens)
        require_distinct("attacks", attacks)
        self.attacks = attacks
        self.populations = populations
        self.fprs = list(DEFAULT_FPRS) if fprs is None else fprs
        self.blind = blind
        self.save_statistics = save_statistics
        self.worlds = None if worlds == 0 else ShadowWorlds(worlds)
        self._told = False

    @property
    def pool_uses(self) -> frozenset[str]:
        """Those that some attack reads."""
        return audit_plan(self.attacks, self.worlds).pool_uses

    def measure(self, context: RunContext) -> Measurements:
        """Scores both sides of every population and returns rows, curves and ROC figures."""
        keep = None
        if self.save_statistics:
            folder = private_folder(context.trainer) / "statistics" / f"step={context.step}"

            def keep(sides: Mapping[str, Side], pairs: Sequence[Opposition]) -> None:
                if context.trainer.is_global_zero:
                    size = context.module.language_model.vocabulary_size
                    save_audit(folder, StoredAudit(context.identity, sides, pairs, size))

        found = audit_membership(
            self.audit_context(context),
            self.attacks,
            self.populations,
            self.fprs,
            self.blind,
            is_last_validation(context.trainer),
            keep,
            self.worlds,
        )
        if not self._told:
            self._tell(found)
        return found

    def _tell(self, found: Measurements) -> None:
        """Says once what must be known of the records' tokens."""
        self._told = True
        note, warning = counts_note(found.results), template_warning(found.results)
        if note is not None:
            rank_zero_info(f"note: {note}")
        if warning is not None:
            rank_zero_warn(warning)

    def check(self, context: RunContext) -> None:
        """Refuses an attack that could not be measured on these records."""
        check_membership(self.audit_context(context), self.attacks, self.populations, self.worlds)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Checks, and lays out AUROCs and TPRs with their bands in TensorBoard's custom scalars."""
        super().on_fit_start(trainer, pl_module)
        context = self.audit_context(RunContext.of(trainer, pl_module))
        charts = {"AUROC": "auroc"} | {
            f"found at {100 * fpr:g} false accusations per 100": f"tpr_at_fpr_{fpr:g}"
            for fpr in self.fprs
        }
        for logger in trainer.loggers:
            if trainer.is_global_zero and isinstance(logger, TensorBoardLogger):
                layout = {
                    f"membership: {title}, with 95% interval": {
                        f"{attack.name}, {population} against "
                        f"{context.data.opposed_to(population)}": _band(
                            logger, curve_tag(population, attack.name, metric)
                        )
                        for population in context.members_of(self.populations)
                        for attack in self.attacks
                    }
                    for title, metric in charts.items()
                }
                logger.experiment.add_custom_scalars(layout)


def _band(logger: Logger, tag: str) -> list[object]:
    """Returns a chart of a curve and its interval, as TensorBoard lays it out."""
    return ["Margin", [tag_in(logger, one) for one in band_tags(tag)]]
