"""Keyed hashes of the tokens before a token: the same draw wherever the same text stands."""

import torch
from torch import Tensor
from torch.nn.functional import pad

# Constants of splitmix64 (Steele, Lea and Flood 2014) as signed integers, in which torch computes.
_STEP = 0x9E3779B97F4A7C15 - 2**64
_FIRST, _SECOND = 0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64
_ABSENT = -1


def mixed(values: Tensor) -> Tensor:
    """Returns 64 bits, each of which depends on every bit of its own value (splitmix64).

    Args:
        values: int64 of any shape.
    """
    values = values + _STEP
    values = (values ^ _shifted(values, 30)) * _FIRST
    values = (values ^ _shifted(values, 27)) * _SECOND
    return values ^ _shifted(values, 31)


def _shifted(values: Tensor, bits: int) -> Tensor:
    """Shifts right and fills with zeros, where torch would fill with the sign."""
    return (values >> bits) & ((1 << (64 - bits)) - 1)


def uniform(hashes: Tensor) -> Tensor:
    """Returns hashes as float64 in (0, 1)."""
    return (_shifted(hashes, 12).double() + 0.5) * 2.0**-52


def window_hashes(input_ids: Tensor, attention_mask: Tensor, window: int, key: int) -> Tensor:
    """Returns a hash of the tokens before each position, the last so many of them.

    Args:
        input_ids: [B, T] int64.
        attention_mask: [B, T], 1 for tokens, 0 for padding.
        window: How many tokens count; where fewer stand before, their absence counts.
        key: Of the hash; below 2^63.

    Returns:
        [B, T] int64.
    """
    width = input_ids.shape[1]
    known = input_ids.where(attention_mask.bool(), _ABSENT)
    hashes = torch.full_like(known, key)
    for back in range(window, 0, -1):
        hashes = mixed(hashes ^ pad(known, (back, 0), value=_ABSENT)[:, :width])
    return hashes


def prefix_hashes(input_ids: Tensor, attention_mask: Tensor, key: int) -> Tensor:
    """Returns a hash of all tokens before each position, [B, T] int64; padding does not count.

    Args:
        input_ids: [B, T] int64.
        attention_mask: [B, T], 1 for tokens, 0 for padding.
        key: Of the hash; below 2^63.
    """
    hashes = torch.empty_like(input_ids)
    running = torch.full_like(input_ids[:, 0], key)
    for position in range(input_ids.shape[1]):
        hashes[:, position] = running
        there = attention_mask[:, position].bool()
        running = mixed(running ^ input_ids[:, position]).where(there, running)
    return hashes
