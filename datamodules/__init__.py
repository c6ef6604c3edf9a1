"""What models train on and are audited with: records, splits, tokens, batches."""

from datamodules.external import ExternalDataModule
from datamodules.instruction import InstructionDataModule

__all__ = ["ExternalDataModule", "InstructionDataModule"]
