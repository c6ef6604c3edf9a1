"""Where classes that a YAML file may name by `class_path` have moved to."""

import re

__all__ = ["MOVED", "moved_class"]

MOVED = {
    "callbacks.blocks.callback": "callbacks.blocks",
    "callbacks.blocks.signals": "audits.blocks.signals",
    "callbacks.membership.attacks": "audits.membership.attacks",
    "callbacks.membership.callback": "callbacks.membership",
    "callbacks.memorization.callback": "callbacks.memorization",
    "callbacks.memorization.exposure_callback": "callbacks.exposure",
    "callbacks.memorization.metrics": "audits.memorization.metrics",
    "callbacks.memorization.released_callback": "callbacks.released_memorization",
    "callbacks.throughput.callback": "callbacks.throughput",
    "callbacks.utility.callback": "callbacks.utility",
    "callbacks.utility.transfer_callback": "callbacks.transfer",
}
"""Old modules and what each is called now."""


def moved_class(message: str) -> str | None:
    """Returns the line for a user whose file names a class by its old path, or None.

    Args:
        message: What the parser says of a class path that cannot be imported.

    >>> moved_class("module 'callbacks.utility' has no attribute 'transfer_callback'")
    'class_path callbacks.utility.transfer_callback.* has moved: write callbacks.transfer.*'
    """
    for package, missing in re.findall(r"module '([\w.]+)' has no attribute '(\w+)'", message):
        old = f"{package}.{missing}"
        if old in MOVED:
            return f"class_path {old}.* has moved: write {MOVED[old]}.*"
    return None
