"""A block's weights, by name."""

from torch import nn

from audits.membership.signals.weights import named_weights
from kdmodules.models.anatomy import transformer_blocks
from kdmodules.models.causal_lm import CausalLM


def weights_by_block(
    lm: CausalLM, signal: str, whole: bool = True
) -> list[dict[str, nn.Parameter]]:
    """Returns each block's parameters by their name in the whole model.

    An adapter's matrices are weights of the block that they are in. Embeddings and a head that is
    tied to them belong to no block.

    Args:
        lm: The audited model, between two passes.
        signal: Who asks, for the error.
        whole: Whether weights that are sharded over ranks are refused.

    Raises:
        UserError: If weights are sharded and must be whole, are in half precision, or the structure
            is unknown.
    """
    names = {id(weight): name for name, weight in named_weights(lm, signal, whole).items()}
    return [
        {names[id(weight)]: weight for weight in block.parameters()}
        for block in transformer_blocks(lm.model)
    ]
