"""A model that was trained elsewhere, for audits only."""

from typing import NoReturn

from common.errors import UserError
from datamodules.batches import InstructionBatch
from kdmodules.language_model import LanguageModelModule
from kdmodules.models.blueprint import source_blueprint
from kdmodules.models.network import Network
from kdmodules.models.pretrained import Dtype
from kdmodules.optimization import OptimizerSettings


class ExternalModule(LanguageModelModule):
    """Loads somebody else's model so that ``kd-privacy validate`` can audit it.

    Args:
        source: Hub name (also ``owner/name@revision:subfolder``), ``save_pretrained`` folder, LoRA
            adapter alone or GGUF file of a causal language model.
        allow_pickle: Read a source that has no safetensors from its pickled weights; nothing but
            tensors is taken from them.
        dtype: Type in which the weights are held; auto: as they are stored. What is computed from
            the model's logits stays float32.
        adapter_base: Takes the place of the base that an adapter as ``source`` names.
    """

    def __init__(
        self,
        source: str,
        allow_pickle: bool = False,
        dtype: Dtype = "float32",
        adapter_base: str | None = None,
    ) -> None:
        network = Network(
            source=source, allow_pickle=allow_pickle, dtype=dtype, adapter_base=adapter_base
        )
        super().__init__(network, OptimizerSettings())
        self.source = source

    def configure_model(self) -> None:
        """Loads the model, whatever its architecture and size."""
        if self.lm is not None:
            return
        self.lm = self.built(
            source_blueprint(
                self.source,
                self.network.allow_pickle,
                dtype=self.network.dtype,
                adapter_base=self.network.adapter_base,
            )
        )

    def loss_sums(self, batch: InstructionBatch) -> NoReturn:
        """Refuses to train."""
        raise UserError(
            "configs/audits/external.yaml audits a model and trains none: use kd-privacy validate"
        )
