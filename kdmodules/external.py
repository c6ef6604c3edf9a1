"""A model that was trained elsewhere, for audits only."""

from typing import NoReturn

from datamodules.batches import InstructionBatch
from datamodules.errors import UserError
from kdmodules.causal_lm import CausalLM
from kdmodules.families import require_window
from kdmodules.language_model import LanguageModelModule
from kdmodules.network import Network, load_model
from kdmodules.optimization import OptimizerSettings
from kdmodules.sharding import shard_language_model


class ExternalModule(LanguageModelModule):
    """Loads somebody else's model so that ``kd-privacy validate`` can audit it.

    Args:
        source: Hub name or ``save_pretrained`` folder of a GPT-2, OPT or LLaMA model.
    """

    training_split = "none"

    def __init__(self, source: str) -> None:
        super().__init__(Network(source=source), OptimizerSettings())
        self.source = source

    def configure_model(self) -> None:
        """Loads the model, whatever its family and size."""
        if self.lm is not None:
            return
        model = load_model(self.source)
        require_window(model, self.data.max_tokens)
        self.lm = CausalLM(model, len(self.tokenizer))
        shard_language_model(self.lm, self.device_mesh)

    def loss_sums(self, batch: InstructionBatch) -> NoReturn:
        """Refuses to train."""
        raise UserError(
            "configs/audits/external.yaml audits a model and trains none: use kd-privacy validate"
        )
