"""The fair coins of the pool and of canaries, in the first world and in the shadow worlds.

Shadow worlds come in pairs: what is heads in world 2j is tails in world 2j + 1, so that of an even
number of worlds each record is in exactly half. The first throw is nobody's opposite.
"""

from common.keys import key


def throw(seed: int, purpose: str, name: str, shadow: int | None) -> int:
    """Throws a fair coin: 1 heads, 0 tails.

    Args:
        seed: of the split.
        purpose: what the coin decides; other purposes have coins of their own.
        name: what it decides about: a cluster, a canary.
        shadow: number of the shadow world, 0 or more; None for the first throw.

    >>> throw(7, "coin", "a cluster", 4) + throw(7, "coin", "a cluster", 5)
    1
    """
    if shadow is None:
        return key(seed, purpose, name) & 1
    return (key(seed, purpose, name, "shadow", shadow - shadow % 2) & 1) ^ (shadow % 2)
