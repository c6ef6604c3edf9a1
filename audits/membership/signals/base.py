"""The plug point of record signals: numbers per record that no token statistics hold."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from audits.membership.measurements import Measurement
from audits.scoring.model_access import ModelAccess
from datamodules.batches import EncodedRecord


@dataclass(frozen=True)
class RecordSignal(Measurement):
    """Numbers per record that take more of the model than log-probabilities of given text."""

    @abstractmethod
    def measure(self, access: ModelAccess, encoded: Sequence[EncodedRecord]) -> Tensor:
        """Measures a model on every record: the audited one, or the reference that is named.

        Args:
            access: The model; of a reference, with the audited one beside it. Its weights and modes
                must be what they were, to the bit, afterwards.
            encoded: The tokens of B records with a response.

        Returns:
            [B, K] float64 on the CPU, the same on every rank; NaN where it is undefined for a
            record, never elsewhere.

        Raises:
            FloatingPointError: Naming the record for which the model's output is not a number.
        """
