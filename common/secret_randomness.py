"""Random numbers that nobody can repeat who lacks a secret: noise and draws that protect records.

A run's seed is published with its configuration, and a generator of 32 or 64 bits of state can be
tried out; so what protects is keyed by 128 bits of the operating system's. As everything random
here it is a pure function of its key and of what it is for, so that order, resume and ranks need no
generator's state.
"""

import hashlib
import secrets
from pathlib import Path

import numpy as np

from common.atomic_file import make_private, replacing
from common.errors import UserError

_BYTES = 16


def fresh_secret() -> bytes:
    """Returns 128 bits of the operating system."""
    return secrets.token_bytes(_BYTES)


def published_secret(seed: int) -> bytes:
    """Returns what stands for a secret in a test that repeats a run; it protects nothing."""
    return hashlib.blake2b(f"seed {seed}".encode(), digest_size=_BYTES).digest()


def write_secret(path: Path, secret: bytes) -> None:
    """Keeps a secret in a file that its owner alone can read, in a folder of the same kind."""
    make_private(path.parent)
    with replacing(path, private=True) as file:
        file.write(f"{secret.hex()}\n".encode())


def read_secret(path: Path) -> bytes:
    """Reads what `write_secret` wrote.

    Raises:
        UserError: There is none, so that nothing can go on with it.
    """
    try:
        secret = bytes.fromhex(path.read_text(encoding="ascii"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} holds no secret to go on with: resume in the folder in which the run was "
            "started, or begin anew without --ckpt_path"
        ) from error
    return secret


def secret_generator(secret: bytes, *parts: int | str) -> np.random.Generator:
    """Returns a generator of NumPy keyed by 128 bits: the secret and what the numbers are for."""
    return np.random.Generator(np.random.Philox(key=_digest(secret, parts)))


def secret_key(secret: bytes, *parts: int | str) -> int:
    """Returns a 63-bit integer for generators that take no more.

    For what is random and protects nothing by itself, such as dropout.
    """
    return _digest(secret, parts) >> 65


def _digest(secret: bytes, parts: tuple[int | str, ...]) -> int:
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    digest = hashlib.blake2b(text.encode(), digest_size=_BYTES, key=secret).digest()
    return int.from_bytes(digest, "big")
