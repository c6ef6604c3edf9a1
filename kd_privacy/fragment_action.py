"""Fragments on the command line, by path or by name."""

from typing import Any

from jsonargparse import ActionConfigFile

from common.fragments import find_fragment


class FragmentAction(ActionConfigFile):
    """Reads a fragment by its path, or by the name of one that comes with kd-privacy."""

    def __call__(
        self, parser: Any, cfg: Any, values: Any, option_string: str | None = None
    ) -> None:
        """Adds the fragment's options to those read before."""
        super().__call__(parser, cfg, str(find_fragment(values) or values), option_string)
