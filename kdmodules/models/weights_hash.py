"""What a model is, in one line: a hash of its weights and of what gives them meaning."""

import hashlib
import json

import torch

from kdmodules.models.causal_lm import CausalLM
from kdmodules.models.sharding import whole_weights

_NOT_OF_THE_FUNCTION = ("_name_or_path", "transformers_version")


def weights_hash(lm: CausalLM) -> str:
    """Returns the SHA-256 of a model's weights and configuration; work for all ranks at once.

    Where the weights are sharded, it is that of the model on rank 0 only.
    """
    config = {k: v for k, v in lm.model.config.to_dict().items() if k not in _NOT_OF_THE_FUNCTION}
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    for name, value in sorted(whole_weights(lm).items()):
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        whole = value.detach().cpu().contiguous().reshape(-1)
        digest.update(whole.view(torch.uint8).numpy().data)
    return digest.hexdigest()
