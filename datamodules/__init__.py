"""What models train on and are audited with: records, splits, tokens, batches."""

from typing import TYPE_CHECKING

from common.lazy_names import lazy_names

if TYPE_CHECKING:
    from datamodules.external import ExternalDataModule as ExternalDataModule
    from datamodules.instruction import InstructionDataModule as InstructionDataModule

_MODULES = {
    "ExternalDataModule": "datamodules.external",
    "InstructionDataModule": "datamodules.instruction",
}
__all__ = list(_MODULES)
__getattr__, __dir__ = lazy_names(__name__, _MODULES)
