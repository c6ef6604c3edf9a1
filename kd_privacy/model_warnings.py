"""What must be known of the models of an audit before a figure is read."""

from collections.abc import Mapping

import torch
from transformers import PreTrainedModel


def model_warnings(audited: PreTrainedModel, references: Mapping[str, object]) -> list[str]:
    """Returns what a reader must know of the audited model and of references in memory.

    A reference that is handed over comes without a tokenizer, so that a vocabulary of another size
    is all that tells of one.

    Args:
        audited: The model under audit.
        references: Reference models by name; one that is named by its source warns of nothing.
    """
    told = _rounding("the model", audited)
    rows = audited.config.vocab_size
    for name, reference in references.items():
        if not isinstance(reference, PreTrainedModel):
            continue
        told += _rounding(f"the reference {name!r}", reference)
        if reference.config.vocab_size != rows:
            told.append(
                f"the reference {name!r} has a vocabulary of {reference.config.vocab_size}, the "
                f"model one of {rows}, and both read the model's tokens: name the reference by its "
                "folder if its tokenizer is another"
            )
    return told


def _rounding(whose: str, model: PreTrainedModel) -> list[str]:
    """Returns a warning of a model that computes in fewer bits than an audit does."""
    head = model.get_output_embeddings()
    if head is None or head.weight.dtype.itemsize >= torch.float32.itemsize:
        return []
    precision = str(head.weight.dtype).removeprefix("torch.")
    return [
        f"{whose} computes in {precision}, which rounds its scores; a model that is named by its "
        "folder, or model.float(), is read in float32"
    ]
