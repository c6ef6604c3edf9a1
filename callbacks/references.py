"""Reference models: other models that score the same records."""

from lightning.pytorch import Callback, Trainer

from audits.membership.collection import ReferenceModel
from common.errors import UserError
from datamodules.batches import RecordEncoder
from datamodules.tokenizer import load_tokenizer
from kdmodules.language_model import LanguageModelModule
from kdmodules.models.blueprint import Placement, network_blueprint, realise, source_blueprint
from kdmodules.models.families import require_window

BASE = "base"
"""Name under which the network that the audited run started from is known without being named."""


class ReferenceModels(Callback):
    """Where the reference models of a run's audits are.

    A reference may have another tokenizer than the audited model: it then scores the same text in
    tokens of its own.

    Args:
        models: Hub name, ``save_pretrained`` folder or checkpoint by name, such as ``base`` (the
            audited model's own base checkpoint) or ``control`` (a model that never met a teacher).
            Without an entry, ``base`` is the checkpoint that the run's network was loaded from.
        allow_pickle: Read those that have no safetensors from their pickled weights; nothing but
            tensors is taken from them.
    """

    def __init__(self, models: dict[str, str] | None = None, allow_pickle: bool = False) -> None:
        self.models = models or {}
        self.allow_pickle = allow_pickle

    def load(self, name: str, module: LanguageModelModule) -> ReferenceModel:
        """Loads a reference model onto the audited model's device.

        Raises:
            UserError: If no such reference is known, it cannot be loaded, or its window is too
                short for the records.
        """
        encoder = module.data.encoder
        if name not in self.models and name == BASE and module.network.source is not None:
            blueprint = network_blueprint(module.network, encoder.tokenizer, seed=0)
            own = encoder
        elif name in self.models:
            source = self.models[name]
            blueprint = source_blueprint(source, self.allow_pickle)
            tokenizer = encoder.tokenizer if source.endswith(".ckpt") else load_tokenizer(source)
            own = RecordEncoder(
                tokenizer,
                encoder.template,
                encoder.max_prompt_tokens,
                encoder.max_tokens,
                encoder.options,
            )
        else:
            raise UserError(self._unknown(name))
        lm = realise(blueprint, len(own.tokenizer), Placement(module.device_mesh))
        require_window(lm.model, encoder.max_tokens)
        own.limit_rows(lm.vocabulary_size)
        return ReferenceModel(lm.requires_grad_(False).eval().to(module.device), own)

    def _unknown(self, name: str) -> str:
        known = ", ".join(sorted(self.models)) or "none"
        reason = " (this run's network starts from scratch)" if name == BASE else ""
        return (
            f"there is no reference model {name!r}{reason}; known: {known}. Give "
            f"--references.models.{name} a hub name or folder"
        )


def reference_models(trainer: Trainer) -> ReferenceModels:
    """Returns the trainer's reference models; none but the base outside the command line."""
    for callback in getattr(trainer, "callbacks", []):
        if isinstance(callback, ReferenceModels):
            return callback
    return ReferenceModels()
