"""Where the reference models of a run's audits are."""

from lightning.pytorch import Callback, Trainer

from audits.scoring.references import BASE, ReferenceModel
from common.errors import UserError
from kdmodules.language_model import LanguageModelModule
from kdmodules.models.blueprint import network_blueprint


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
        encoder, mesh = module.data.encoder, module.device_mesh
        if name in self.models:
            source = self.models[name]
            found = ReferenceModel.of_source(source, encoder, self.allow_pickle, mesh)
        elif name == BASE and module.network.source is not None:
            blueprint = network_blueprint(module.network, encoder.tokenizer, seed=0)
            found = ReferenceModel.of_blueprint(blueprint, encoder, mesh)
        else:
            raise UserError(self._unknown(name))
        found.lm.requires_grad_(False).eval().to(module.device)
        return found

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
