"""The data set's own responses."""

from datamodules.batches import InstructionBatch
from kdmodules.responses.source import ResponseContext, ResponseSource


class DatasetResponses(ResponseSource):
    """Leaves every batch as the data module served it: supervised, off-policy distillation (KD).

    Source: Hinton et al. 2015; Sanh et al. 2019 for language models.
    """

    fixed_text = True

    def replace(self, batch: InstructionBatch, context: ResponseContext) -> InstructionBatch:
        """Returns ``batch`` itself."""
        return batch
