"""A model that was trained elsewhere, for audits only."""

from typing import NoReturn

from common.errors import UserError
from datamodules.batches import InstructionBatch
from kdmodules.language_model import LanguageModelModule
from kdmodules.models.blueprint import source_blueprint
from kdmodules.models.network import Network
from kdmodules.optimization import OptimizerSettings


class ExternalModule(LanguageModelModule):
    """Loads somebody else's model so that ``kd-privacy validate`` can audit it.

    Args:
        source: Hub name (also ``owner/name@revision:subfolder``) or ``save_pretrained`` folder of a
            GPT-2, OPT or LLaMA model.
        allow_pickle: Read a source that has no safetensors from its pickled weights; nothing but
            tensors is taken from them.
    """

    def __init__(self, source: str, allow_pickle: bool = False) -> None:
        super().__init__(Network(source=source, allow_pickle=allow_pickle), OptimizerSettings())
        self.source = source

    def configure_model(self) -> None:
        """Loads the model, whatever its family and size."""
        if self.lm is not None:
            return
        self.lm = self.built(source_blueprint(self.source, self.network.allow_pickle))

    def loss_sums(self, batch: InstructionBatch) -> NoReturn:
        """Refuses to train."""
        raise UserError(
            "configs/audits/external.yaml audits a model and trains none: use kd-privacy validate"
        )
