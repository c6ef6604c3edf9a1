"""Reference models: other models that score the same records."""

from dataclasses import dataclass

from torch.distributed.device_mesh import DeviceMesh
from transformers import PreTrainedTokenizerBase

from datamodules.batches import RecordEncoder
from kdmodules.models.anatomy import require_window
from kdmodules.models.blueprint import Blueprint, Placement, realise, source_blueprint
from kdmodules.models.causal_lm import CausalLM
from kdmodules.models.network import source_tokenizer
from kdmodules.models.pretrained import Dtype

BASE = "base"
"""Name of the network that the audited model started from."""


@dataclass(frozen=True)
class ReferenceModel:
    """A reference model, ready to score.

    Attributes:
        lm: The model, in evaluation mode.
        encoder: Text to its own tokens.
    """

    lm: CausalLM
    encoder: RecordEncoder

    @classmethod
    def of_source(
        cls,
        source: str,
        audited: RecordEncoder,
        allow_pickle: bool = False,
        mesh: DeviceMesh | None = None,
        dtype: Dtype = "float32",
        adapter_base: str | None = None,
    ) -> "ReferenceModel":
        """Loads a model as it is stored, with its own tokenizer.

        Args:
            source: Hub name, ``save_pretrained`` folder, or checkpoint of this project, which has
                the audited model's tokenizer.
            audited: Text to the audited model's tokens.
            allow_pickle: Read a source without safetensors from its pickled weights.
            mesh: Over whose ranks its weights are sharded; None holds them whole.
            dtype: Type of its weights.
            adapter_base: Takes the place of the base that an adapter names.

        Raises:
            UserError: If it cannot be loaded, or its window is too short for the records.
        """
        blueprint = source_blueprint(source, allow_pickle, dtype=dtype, adapter_base=adapter_base)
        tokenizer = reference_tokenizer(source, audited, adapter_base)
        return cls.of_blueprint(blueprint, audited.with_tokenizer(tokenizer), mesh)

    @classmethod
    def of_blueprint(
        cls, blueprint: Blueprint, encoder: RecordEncoder, mesh: DeviceMesh | None = None
    ) -> "ReferenceModel":
        """Builds a model that is named but not built yet; errors are those of `of_source`."""
        lm = realise(blueprint, len(encoder.tokenizer), Placement(mesh))
        return cls.of_model(lm, encoder)

    @classmethod
    def of_model(cls, lm: CausalLM, encoder: RecordEncoder) -> "ReferenceModel":
        """Checks that a model can score what its encoder gives it.

        Raises:
            UserError: If its window is too short for the records.
        """
        require_window(lm.model, encoder.max_tokens)
        encoder.limit_rows(lm.vocabulary_size)
        return cls(lm, encoder)


def reference_tokenizer(
    source: str, audited: RecordEncoder, adapter_base: str | None = None
) -> PreTrainedTokenizerBase:
    """Returns the tokenizer that a reference reads; no weight is read.

    Args:
        source: As for `ReferenceModel.of_source`.
        audited: Text to the audited model's tokens, which checkpoints of this project share.
        adapter_base: Takes the place of the base that an adapter names.

    Raises:
        UserError: If there is none.
    """
    own = not source.endswith(".ckpt")
    return source_tokenizer(source, adapter_base) if own else audited.tokenizer
