"""What a private training guarantees, beside the run from its first step on."""

import math

from lightning.pytorch import Callback, LightningModule, Trainer

from callbacks.run import run_folder, run_identity
from common.guarantee import Certificate, Guarantee, write
from datamodules.instruction import InstructionDataModule
from kdmodules.private_training import PrivatelyTrained

DEFENCE = "dp_teacher"
COVERS = ("any number of students of this teacher, whatever the technique",)
DOES_NOT_COVER = (
    "figures of audits and cards, numbers of records among them",
    "other models of the same records that are released too (a counterfactual teacher, shadow "
    "teachers, undefended ones)",
    "choices among teachers or settings by results on these records",
    "public records that repeat private ones, and what the weights that it starts from had met",
)


class TrainingGuarantee(Callback):
    """Writes ``guarantee.json`` before the first step of a differentially private training.

    It counts the steps that are planned; no more are taken, and what is released of fewer is
    covered too.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes it, on the first rank."""
        if not isinstance(pl_module, PrivatelyTrained) or pl_module.constants is None:
            return
        if trainer.is_global_zero:
            name = run_identity(trainer).defence or DEFENCE
            write(run_folder(trainer), private_guarantee(pl_module, name))


def private_guarantee(module: PrivatelyTrained, defence: str = DEFENCE) -> Guarantee:
    """Returns the guarantee of a training that is about to start, and what voids it.

    Args:
        module: After the start of its fit.
        defence: What the guarantee is told as.

    Raises:
        ValueError: The module trains without one.
    """
    # SciPy is slow to import, and no other run asks for it.
    from audits.bounds.ceilings import gaussian_equivalent
    from kdmodules.privacy.privacy_loss import SampledGaussian, epsilon_of, removal_loss

    options, constants, units = module.dp, module.constants, module.units
    if options is None or constants is None or units is None:
        raise ValueError("only a module with model.dp has a guarantee, once its fit has started")
    epsilon, mu, delta = math.inf, math.inf, options.delta_of(module.expected_units)
    if constants.noise > 0.0:
        training = SampledGaussian(constants.rate, constants.noise, module.planned_steps)
        epsilon, mu = epsilon_of(training, delta), gaussian_equivalent(removal_loss(training))
    return Guarantee(
        certificate=Certificate.dp,
        defence=defence,
        epsilon=_finite(epsilon),
        delta=delta,
        mu=_finite(mu),
        unit=units.kind,
        rate=constants.rate,
        noise=constants.noise,
        steps=module.planned_steps,
        covers=COVERS,
        does_not_cover=DOES_NOT_COVER,
        voided_by=_voided_by(module),
    )


def _voided_by(module: PrivatelyTrained) -> tuple[str, ...]:
    found = []
    if module.dp is not None and module.dp.seed is not None:
        found.append("model.dp.seed is given, and repeats the noise")
    if module.constants is not None and module.constants.noise == 0.0:
        found.append("model.dp.noise is 0")
    data = module.data
    if isinstance(data, InstructionDataModule) and data.splits.protocol == "as_released":
        found.append("the published split puts near-duplicates of private records on other sides")
    return tuple(found)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
