"""The order of a fit's batches, keyed by epoch, and its comparison at a resume."""

from abc import abstractmethod
from typing import Any

from lightning.pytorch.trainer.states import TrainerFn

from common.errors import UserError
from datamodules.batches import EncodedRecord
from datamodules.order import RecordLoader, TrainingOrder
from datamodules.poisson import PoissonOrder, PoissonSampling
from datamodules.record_module import RecordDataModule
from datamodules.records import InstructionRecord


class TrainingDataModule(RecordDataModule):
    """A data module whose records are trained on.

    Attributes:
        batch_size: records per optimiser step over all ranks and accumulation steps.
        seed: of the order of batches.
        group_by_length: whether batches hold records of similar length.
    """

    batch_size: int
    seed: int
    group_by_length: bool

    @abstractmethod
    def training_records(self, split: str) -> list[InstructionRecord]:
        """What a module that trains on a split is served."""

    def train_dataloader(self) -> RecordLoader:
        """Batches of the split that the module names in `training_split`, keyed by epoch.

        A module whose `poisson` is a `PoissonSampling` is served draws of units.
        """
        order = self._order()
        fit_loop = self.attached_trainer.fit_loop
        return RecordLoader(
            self._training_tokens(),
            plan=order.micro_batches,
            n_batches=len(order),
            start=lambda: fit_loop.batch_idx + 1,
            pad_id=self.pad_id,
            num_workers=self.num_workers,
        )

    def state_dict(self) -> dict[str, Any]:
        """What fixes the order of batches, so that a resume can tell whether it goes on in it."""
        return self._order().identity

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Compares the order of the checkpoint with this run's.

        Raises:
            UserError: a fit that would go on in another order than it began with.
        """
        if self.attached_trainer.state.fn != TrainerFn.FITTING:
            return
        now = self.state_dict()
        changed = [
            f"{name} (was {state.get(name)}, is {now[name]})"
            for name in now
            if now[name] != state.get(name)
        ]
        if changed:
            raise UserError(
                f"the checkpoint's batches came in another order: {', '.join(changed)}; resume "
                "with the options it was written with, or begin anew without --ckpt_path"
            )

    def _training_tokens(self) -> list[EncodedRecord]:
        split = self.attached_trainer.lightning_module.training_split
        if not isinstance(split, str):
            raise TypeError(f"training_split must name a split, found {type(split).__name__}")
        return self.tokens(split, self.training_records(split))

    def _order(self) -> TrainingOrder | PoissonOrder:
        encoded, trainer = self._training_tokens(), self.attached_trainer
        sampling = getattr(trainer.lightning_module, "poisson", None)
        if isinstance(sampling, PoissonSampling):
            ids = [record.record_id for record in encoded]
            return PoissonOrder(ids, sampling, trainer.world_size, trainer.global_rank)
        return TrainingOrder(
            record_ids=[record.record_id for record in encoded],
            batch_size=self.batch_size,
            accumulate=trainer.accumulate_grad_batches,
            world_size=trainer.world_size,
            rank=trainer.global_rank,
            seed=self.seed,
            lengths=[len(record) for record in encoded] if self.group_by_length else None,
        )
