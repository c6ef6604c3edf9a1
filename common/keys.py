"""Random numbers keyed by what they are for.

Everything random is a function of (run seed, purpose, step or epoch, record, draw), so that order,
batch size, resume and ranks do not change it.
"""

import hashlib

import numpy as np
import torch


def key(*parts: int | str) -> int:
    """Returns a 63-bit integer that is a pure function of ``parts``.

    >>> key(1, "order", 0) == key(1, "order", 0), key(1, "order", 0) == key(1, "order", 1)
    (True, False)
    """
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    digest = hashlib.blake2b(text.encode("utf-8"), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def numpy_generator(*parts: int | str) -> np.random.Generator:
    """Returns a NumPy generator keyed by ``parts``."""
    return np.random.Generator(np.random.PCG64(key(*parts)))


def torch_generator(*parts: int | str) -> torch.Generator:
    """Returns a CPU generator of torch keyed by ``parts``."""
    return torch.Generator().manual_seed(key(*parts))
