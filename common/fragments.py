"""Where a configuration fragment is, by the name that a user gives it."""

import difflib
from pathlib import Path

CONFIG_NAME = "config.yaml"
"""What a run saves in its folder: all fragments and options of the command, resolved."""
_FOLDER = "configs"
_ROOT = Path(__file__).resolve().parents[1]


def packaged_fragments() -> Path:
    """Returns the folder of the fragments that come with kd-privacy.

    A source checkout has it beside the packages; a wheel, whose top level is everybody's, inside
    the package ``kd_privacy``.
    """
    inside = _ROOT / "kd_privacy" / _FOLDER
    return inside if inside.is_dir() else _ROOT / _FOLDER


def find_fragment(name: str) -> Path | None:
    """Returns the file that a fragment's name stands for, or None where there is none.

    A file of that path wins. Otherwise ``audits/external``, ``audits/external.yaml`` and
    ``configs/audits/external.yaml`` all name the fragment that comes with kd-privacy.

    Args:
        name: A path, or a fragment's name.
    """
    try:
        if Path(name).is_file():
            return Path(name)
    except (OSError, ValueError):  # YAML given in place of a path: too long, or a null byte
        return None
    short = name.removeprefix(f"{_FOLDER}/")
    packaged = packaged_fragments() / (short if short.endswith(".yaml") else f"{short}.yaml")
    inside = ".." not in Path(short).parts and not Path(short).is_absolute()
    try:
        return packaged if inside and packaged.is_file() else None
    except (OSError, ValueError):
        return None


def nearest_fragment(name: str) -> str | None:
    """Returns the name of the packaged fragment that a name was likely meant for, or None.

    >>> nearest_fragment("configs/base/teachr.yaml")
    'base/teacher'
    """
    root = packaged_fragments()
    known = [path.relative_to(root).with_suffix("").as_posix() for path in root.rglob("*.yaml")]
    meant = name.removeprefix(f"{_FOLDER}/").removesuffix(".yaml")
    return next(iter(difflib.get_close_matches(meant, known, n=1, cutoff=0.8)), None)
