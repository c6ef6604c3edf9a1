"""The plug point of block signals: numbers for every record and every block."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from audits.blocks.profile import MeasuredSide, Params, Profile, Reading, profile_of
from audits.scoring.model_access import ModelAccess
from audits.scoring.references import ReferenceModel
from common.errors import UserError
from datamodules.batches import EncodedRecord, InstructionBatch
from kdmodules.models.causal_lm import CausalLM


def no_development() -> Sequence[EncodedRecord]:
    """Refuses to give development text.

    Raises:
        UserError: Always.
    """
    raise UserError("a signal is fitted on development text, and there is none here")


def no_never() -> Sequence[EncodedRecord]:
    """Refuses to give records that no model met.

    Raises:
        UserError: Always.
    """
    raise UserError("a signal is gated on records that no model met, and there are none here")


@dataclass(frozen=True)
class BlockAccess:
    """What a signal may use.

    Attributes:
        model: The model under audit.
        load_reference: Loads another model by name.
        development: Returns two or more development records with a response, none of which is
            audited.
        never: Returns records with a response that neither the audited model nor any reference was
            trained on.
    """

    model: ModelAccess
    load_reference: Callable[[str], ReferenceModel]
    development: Callable[[], Sequence[EncodedRecord]] = no_development
    never: Callable[[], Sequence[EncodedRecord]] = no_never


class BlockSignal(ABC):
    """Says something of every record at every block.

    A new signal is a subclass of :class:`RecordedSignal` or :class:`RerunSignal` in a file of its
    own.

    Attributes:
        name: The signal's id in every table.
        threat_model: What the attacker is assumed to have.
        needs_development: Whether it is fitted on development text before it measures.
        needs_never: Whether it reads records that no model met.
        params: Options that tell two uses of the signal apart, ready for JSON.
    """

    name: ClassVar[str]
    threat_model: ClassVar[str] = "holds the weights"
    needs_development: ClassVar[bool] = False
    needs_never: ClassVar[bool] = False
    params: Params = {}

    def fitted(self, access: BlockAccess) -> "BlockSignal":
        """Returns the signal as it measures these weights: itself, where it is fitted to none.

        Args:
            access: The model, which must be what it was, to the bit, afterwards.
        """
        return self

    def readings(self, measured: Tensor) -> Sequence[Reading]:
        """Returns the signal's numbers of the records of one side, each with its name.

        Args:
            measured: [R, L, K] what was measured on the side's records.

        Raises:
            NotImplementedError: The signal has an :meth:`oppose` of its own in place of readings.
        """
        raise NotImplementedError(f"{self.name} opposes the sides by itself")

    def oppose(self, members: MeasuredSide, nonmembers: MeasuredSide) -> list[Profile]:
        """Tells members from non-members at every block.

        Args:
            members: What was measured on the members.
            nonmembers: The same of the non-members.

        Returns:
            One profile for each of the signal's numbers.
        """
        sides = (self.readings(side.measured) for side in (members, nonmembers))
        return [
            profile_of(ours, theirs, members, nonmembers)
            for ours, theirs in zip(*sides, strict=True)
        ]


def undirected_readings(name: str, measured: Tensor, params: Sequence[Params]) -> list[Reading]:
    """Returns one reading of every block for each of a signal's numbers, tested from two sides.

    Args:
        name: The signal's id.
        measured: [R, L, K] what was measured.
        params: What tells the K numbers apart.
    """
    every = tuple(range(measured.shape[1]))
    return [
        Reading(name, own, every, measured[:, :, place].numpy(), directed=False)
        for place, own in enumerate(params)
    ]


class RecordedSignal(BlockSignal):
    """A signal that reads the blocks' outputs as they pass: one pass serves all of them."""

    @abstractmethod
    def read(self, step: "BlockStep") -> Tensor:
        """Returns [B, K] numbers of a batch at one block, K the same at every block."""


class RerunSignal(BlockSignal):
    """A signal that takes passes of its own through the model."""

    @abstractmethod
    def measure(self, access: BlockAccess, encoded: Sequence[EncodedRecord]) -> Tensor:
        """Measures the audited model.

        Args:
            access: The model. Its weights, hooks and modes must be what they were, to the bit,
                afterwards, also after an exception.
            encoded: R records with at least one response token.

        Returns:
            [R, L, K] float64 on the CPU, whole on every rank: K numbers for each of L blocks.
        """


@dataclass(frozen=True)
class BlockStep:
    """A batch as it leaves one block of a recording pass.

    Attributes:
        lm: The model, its weights whole.
        batch: B records.
        block: Index of the block.
        n_blocks: Number of blocks.
        entered: Rows of the residual stream before the block, [N, D], at the positions that predict
            the scored tokens.
        left: The same rows behind the block.
    """

    lm: CausalLM
    batch: InstructionBatch
    block: int
    n_blocks: int
    entered: Tensor
    left: Tensor
