"""`kd-privacy audit`: `kd_privacy.audit` and `audit_pair` as one command, from any folder."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from common.errors import UserError, exit_status
from common.options import require_folder

if TYPE_CHECKING:
    from audits.membership.attacks import Attack
    from kd_privacy.pair_result import PairAudit
    from kd_privacy.result import Audit

_OF_THE_COMMAND = ("model", "teacher", "counterfactual", "tokenizer", "fail_if", "out", "force")


def main(arguments: Sequence[str]) -> int:
    """Runs `kd-privacy audit` and returns its exit status.

    It is 0, 2 after one line of error, or 3 where a line of the gate (``--fail_if``) fails.

    Args:
        arguments: The command line behind the command's name.
    """
    interrupted = "nothing was written; the same command starts anew"
    return exit_status(lambda: _run(arguments), interrupted)


def _run(arguments: Sequence[str]) -> int:
    options = audit_parser().parse_args(list(arguments))
    out = _out(options)
    _require_files(options)
    _require_measurable(options)
    found = _audited(options)
    page = found.save(out)
    sys.stdout.write(f"{_told(found, page)}\n")
    return gate_status(found.failures(options.fail_if or ()))


def gate_status(failures: Sequence[str]) -> int:
    """Tells every line that fails; returns the exit status, 3 where one does."""
    from audits.answer.gate import FAILED

    sys.stderr.writelines(f"failed: {line}\n" for line in failures)
    return FAILED if failures else 0


def audit_parser() -> argparse.ArgumentParser:
    """Returns the parser of `kd-privacy audit`; `help/audit.txt` explains its options."""
    parser = _Parser(prog="kd-privacy audit", allow_abbrev=False, add_help=False)
    parser.add_argument("model")
    for name in ("members", "nonmembers"):
        parser.add_argument(f"--{name}", required=True)
    for name in (
        *("teacher", "counterfactual", "never", "template", "reference", "tokenizer"),
        *("default_task", "detect_pii", "device", "device_map"),
    ):
        parser.add_argument(f"--{name}")
    parser.add_argument("--score", default="assistant")
    parser.add_argument("--attacks", type=_listed)
    parser.add_argument("--columns", type=_renamed)
    parser.add_argument("--adapter_base", type=_bases)
    parser.add_argument("--dtype", default="float32")
    for name, default in (
        ("batch_size", 64),
        ("max_records", None),
        ("max_prompt_tokens", 256),
        ("max_tokens", 512),
        ("seed", 0),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    for name in ("memorization", "blocks", "utility"):
        parser.add_argument(f"--{name}", action=argparse.BooleanOptionalAction)
    for name in ("spans", "drift"):
        parser.add_argument(f"--{name}", action="store_true")
    parser.add_argument("--pseudonymise", nargs="?", type=_switch, const=True, default=False)
    parser.add_argument("--fail_if", action="append")
    parser.add_argument("--out")
    parser.add_argument("--force", action="store_true")
    return parser


class _Parser(argparse.ArgumentParser):
    """Tells a mistake in one line, with the nearest option."""

    def error(self, message: str) -> NoReturn:
        known = [name for action in self._actions for name in action.option_strings]
        unknown = message.partition("unrecognized arguments: ")[2].split("=")[0].split()
        if "-c" in unknown or "--config" in unknown:
            message = "an audit takes no -c: its options are all on the command line"
        elif unknown:
            message = f"{unknown[0]}: no such option{_nearest(unknown[0], known)}"
        raise UserError(f"{message}; see {self.prog} --help")


def _nearest(word: str, known: Sequence[str]) -> str:
    found = difflib.get_close_matches(word, known, n=1)
    return f" (did you mean {found[0]}?)" if found else ""


def _listed(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _renamed(text: str) -> dict[str, str]:
    pairs = [word.partition("=") for word in _listed(text)]
    if not pairs or not all(name and column for name, _, column in pairs):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no list such as response=answer,context=text"
        )
    return {name.strip(): column.strip() for name, _, column in pairs}


def _switch(text: str) -> bool | str:
    return {"true": True, "false": False}.get(text, text)


def _bases(text: str) -> str | dict[str, str]:
    """Returns one base, or bases by name; a name is one word, unlike a folder's path."""
    return _renamed(text) if text.partition("=")[0].isidentifier() and "=" in text else text


def _out(options: argparse.Namespace) -> Path:
    """Returns the folder that the audit is written to.

    Raises:
        UserError: It holds something, and was not to be overwritten.
    """
    out = Path(options.out or f"audit-{_name(options.model)}")
    require_folder("--out", out)
    if not options.force and out.is_dir() and any(out.iterdir()):
        raise UserError(f"{out} is not empty: give another --out, or --force to write over it")
    return out


def _name(model: str) -> str:
    """Returns the last part of a folder or of a hub name without its revision."""
    last = Path(model.split("@")[0]).resolve().name if Path(model).exists() else model
    return last.split("@")[0].rstrip("/").rpartition("/")[2] or "model"


def _require_files(options: argparse.Namespace) -> None:
    """Refuses what looks like a path and is not there, before anything is imported.

    Raises:
        UserError: Naming option and path.
    """
    for name in ("members", "nonmembers", "never"):
        given = getattr(options, name)
        if given is not None and Path(given).suffix and not Path(given).exists():
            raise UserError(f"--{name} {given}: there is no such file")
    if options.counterfactual is not None and options.teacher is None:
        raise UserError("--counterfactual is a student's: give the --teacher too")


def _require_measurable(options: argparse.Namespace) -> None:
    """Refuses a line of the gate that this audit cannot answer.

    Raises:
        UserError: With the nearest name.
    """
    if not options.fail_if:
        return
    from audits.answer.gate import conditions_of, require_measurable
    from kd_privacy.audit_options import AuditOptions

    chosen = AuditOptions(attacks=_attacks(options.attacks), reference=options.reference)
    models = [name for name in ("teacher", "counterfactual") if getattr(options, name) is not None]
    require_measurable(
        conditions_of(options.fail_if),
        ["student", *models] if models else ["audit"],
        [attack.name for attack in chosen.chosen_attacks],
        [
            name
            for name in ("memorization", "blocks", "utility", "spans")
            if getattr(options, name) is False
        ],
    )


def _attacks(names: Sequence[str] | None) -> list[Attack] | None:
    """Returns attacks by their ids, with their default options.

    Raises:
        UserError: There is none of a name, or it takes options that a command cannot give.
    """
    from audits.membership import attacks

    if names is None:
        return None
    known = sorted(attacks.describe_all())
    found = []
    for name in names:
        kind = attacks.describe(name)
        if kind is None:
            hint = _nearest(name, known) or f"; there are {', '.join(known)}"
            raise UserError(f"--attacks {name}: no such attack{hint}")
        try:
            found.append(kind())
        except TypeError as error:
            raise UserError(
                f"--attacks {name}: it takes several reference models; from Python, "
                "kd_privacy.audit has it"
            ) from error
    return found


def _audited(options: argparse.Namespace) -> Audit | PairAudit:
    """Calls the function that the command line is a form of."""
    import transformers

    import kd_privacy

    # Loading shards is no long work, and passes have bars of their own.
    transformers.utils.logging.disable_progress_bar()
    given: dict[str, Any] = {
        name: value for name, value in vars(options).items() if name not in _OF_THE_COMMAND
    }
    given["attacks"] = _attacks(options.attacks)
    members, nonmembers = given.pop("members"), given.pop("nonmembers")
    if options.teacher is None:
        return kd_privacy.audit(options.model, options.tokenizer, members, nonmembers, **given)
    return kd_privacy.audit_pair(
        options.teacher,
        options.model,
        options.tokenizer,
        members,
        nonmembers,
        counterfactual=options.counterfactual,
        **given,
    )


def _told(found: Audit | PairAudit, page: Path) -> str:
    """Returns the answer, and where the rest is."""
    from audits.answer.console import console_lines

    folder = page.parent
    tables = ", ".join(sorted(path.name for path in folder.glob("*.parquet")))
    paths = {"page": str(page), "summary": str(folder / "audit.json")}
    return "\n".join(console_lines(found.answer, {**paths, "tables": f"{folder} ({tables})"}))
