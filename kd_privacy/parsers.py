"""Parsers of command lines: fragments by path or name, and every mistake told in one line."""

import difflib
import re
import sys
from collections.abc import Sequence
from itertools import pairwise
from textwrap import shorten
from typing import Any, NoReturn

import yaml
from jsonargparse import ActionConfigFile, get_loader, set_loader
from jsonargparse._util import config_load_stack
from lightning.pytorch.cli import LightningArgumentParser

from common.errors import UserError, mistake_behind
from common.fragments import find_fragment, nearest_fragment
from common.located_yaml import load_located, require_plain

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
"""Old modules of classes that a YAML file may name, and what each is called now."""


_FOUND = re.compile(r"Got value: ?[\[{].*|Unexpected config: .*")
"""What the parser tells of more than a word: of a file that was named by mistake, its records."""

_RECORD_FILE = re.compile(r"\.(jsonl|csv|parquet)(\.gz)?\Z")

_NO_DEVICE_MAP = (
    "device_map is no option here: Lightning moves the whole model to one device, so that parts on "
    "several would not stay there; kd-privacy audit and kd_privacy.audit take it, and fit and "
    "validate shard with --trainer.strategy"
)


_SHOWN = 60
"""Characters that are shown of YAML that stands on the command line itself."""
_MORE_THAN_A_WORD = frozenset("&*!{[:\n")
_read_yaml = get_loader("yaml")


def _read_checked(text: str) -> Any:
    """Reads YAML, wherever a parser meets it: in a fragment, on the command line, in a file that an
    option names.

    Raises:
        yaml.YAMLError: It is no YAML; some options then take it for text.
        UserError: A key is given twice, or as `require_plain`.
    """
    if _MORE_THAN_A_WORD.intersection(text):
        files = config_load_stack.get()
        require_plain(text, files[-1][1] if files else repr(shorten(text, _SHOWN)))
    return _read_yaml(text)


set_loader("yaml", _read_checked, (yaml.YAMLError,))


class FragmentAction(ActionConfigFile):
    """Reads a fragment by its path, or by the name of one that comes with kd-privacy."""

    def __call__(
        self, parser: Any, cfg: Any, values: Any, option_string: str | None = None
    ) -> None:
        """Adds the fragment's options to those read before."""
        found = find_fragment(values)
        nearest = nearest_fragment(values) if found is None else None
        if nearest is not None:
            parser.error(f"-c: there is no file {values} (did you mean {nearest}?)")
        if found is not None:
            try:
                content = load_located(found)
                if not isinstance(content.data, dict):
                    raise content.error((), "a fragment holds options by name")
            except UserError as error:
                parser.error(str(error))
        super().__call__(parser, cfg, str(found or values), option_string)


class PrivacyParser(LightningArgumentParser):
    """Reports a mistake on the command line or in a fragment in one line."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.add_argument("--help_all", action="help", help="Print every option.")

    def add_argument(self, *args: Any, **kwargs: Any) -> Any:
        """Adds an argument; one that takes a configuration file takes a fragment's name too."""
        if kwargs.get("action") is ActionConfigFile:
            kwargs["action"] = FragmentAction
        return super().add_argument(*args, **kwargs)

    def parse_args(self, *args: Any, **kwargs: Any) -> Any:
        """Parses a command line; what breaks a parser of values, such as a null byte, is told."""
        words = args[0] if args and isinstance(args[0], list) else sys.argv[1:]
        for word, following in pairwise([*words, ""]):
            option, _, value = word.partition("=")
            if option == "--data" and _RECORD_FILE.search(value or following):
                file = value or following
                self.error(
                    f"{file} holds records, which --data does not name: give --data.source={file}, "
                    "or, of a model that was trained elsewhere, --data.members and "
                    "--data.nonmembers"
                )
        try:
            return super().parse_args(*args, **kwargs)
        except (ValueError, ArithmeticError, RecursionError) as error:
            self.error(str(error), error)

    def instantiate_classes(self, *args: Any, **kwargs: Any) -> Any:
        """Builds what a configuration names; an option of a wrong kind is told.

        Raises:
            UserError: What is wrong.
        """
        try:
            return super().instantiate_classes(*args, **kwargs)
        except ValueError as error:
            raise mistake_behind(error) or UserError(self.line(str(error))) from error

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Exits with status 2 after one line that names the key and the nearest valid one."""
        sys.stderr.write(f"error: {self.line(message)}\n")
        sys.exit(2)

    def line(self, message: str) -> str:
        """Returns a report in one line, with the nearest name of this parser or its commands."""
        commands = getattr(self._subcommands_action, "_name_parser_map", {}).values()
        known = [action.dest for parser in (self, *commands) for action in parser._actions]
        return shorten_error(message, known)


def shorten_error(message: str, known: Sequence[str]) -> str:
    """Turns jsonargparse's report into one line: what is wrong, where, and the nearest valid name.

    Args:
        message: The parser's message, several lines long where types are nested.
        known: Option names of the parser.

    Returns:
        One line.

    >>> shorten_error("Unrecognized arguments: --model.network.device_map=auto", []).split(":")[0]
    'device_map is no option here'
    """
    moved = moved_class(message)
    if moved is not None:
        return moved
    lines = [line.strip(" -\t") for line in message.splitlines() if line.strip()]
    causes = [
        line
        for line in lines
        if not line.startswith(("Problem with given class_path", "Given value"))
    ]
    line = re.sub(r"\s+", " ", " ".join(dict.fromkeys(causes)))
    line = _FOUND.sub("found a mapping or list of other names", line)[:600]
    unknown = re.search(
        r"(?:[Uu]nrecognized arguments?:|[Oo]ption|Key|Unknown key) ['\"]?(?:--)?([\w.]+)", line
    )
    if unknown and unknown.group(1).rpartition(".")[2] == "device_map":
        return _NO_DEVICE_MAP
    if unknown and "did you mean" not in line:
        known = [*known, *(name.rpartition(".")[2] for name in known)]
        nearest = difflib.get_close_matches(unknown.group(1), known, n=1, cutoff=0.6)
        if nearest and nearest[0] != unknown.group(1):
            return f"{line} (did you mean {nearest[0]}?)"
    absent = re.search(r"module '([\w.]+)' has no attribute '(\w+)'", line)
    if absent and absent.group(1) in sys.modules:
        nearest = difflib.get_close_matches(absent.group(2), dir(sys.modules[absent.group(1)]), n=1)
        return f"{line} (did you mean {nearest[0]}?)" if nearest else line
    return line


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


class CheckingParser(PrivacyParser):
    """Ends with the command's one line as its status, for whoever catches it."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raises SystemExit, which a parser that tries another type does not take for its own."""
        sys.exit(self.line(message))
