"""`kd-study`: a whole experiment from one file.

plan    print the cells of a study, their commands, what is done, and what each will take
run     run what is not done yet, in dependency order; a rerun goes on where the last one ended
report  write one self-contained HTML page, its tables and charts, and print the answer
claims  print the verdict on each of the five claims, and what it rests on
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from common.errors import UserError, exit_status, without_traceback_option

if TYPE_CHECKING:
    from studies.plan.cells import Cell, Plan
    from studies.plan.study_file import StudyFile
    from studies.run.executors import Executor
    from studies.run.runner import Shard

FIT_MODULE = "kd_privacy.preloaded"
"""Its `main()` is what `fit_program` runs; it has to import all that a cell needs."""

_WORKERS = 2

_EXAMPLE = """\
  kd-study run configs/studies/quickstart.yaml --run_dir runs/quickstart
  kd-study report configs/studies/quickstart.yaml --run_dir runs/quickstart
"""

_OVERRIDE_HELP = """\
Options of kd-privacy that hold a dot win over the study file, for every cell:
  kd-study run FILE --data.source records.jsonl --trainer.max_epochs 3
and for the cells of one stage alone with stages.<stage>. before them:
  kd-study run FILE --stages.teacher.trainer.max_epochs 20
They are printed by kd-privacy fit --help and, all of them, by kd-privacy fit --help_all.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `kd-study` and returns its exit status.

    0: done; 1: a cell failed; 2: a mistake in the input; 130: interrupted.
    """
    given = without_traceback_option(sys.argv[1:] if arguments is None else arguments)
    return exit_status(lambda: _dispatch(*_parse(given)), "the same command goes on from here")


class _Parser(argparse.ArgumentParser):
    """Reports a mistake in one line, and prints its text as it is laid out."""

    def __init__(self, **kwargs: Any) -> None:
        layout = argparse.RawDescriptionHelpFormatter
        super().__init__(formatter_class=layout, allow_abbrev=False, add_help=False, **kwargs)
        self.add_argument(
            "-h", "--help", "--help_all", action="help", help="print this, which is every option"
        )

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see {self.prog} --help)")


# What a command needs is imported when it is known: help and mistakes take no seconds of imports.
def _dispatch(options: argparse.Namespace, overrides: dict[str, object]) -> int:
    from common.options import require_folder
    from studies.plan.study_file import read_study

    study = read_study(options.file)
    out = Path(options.run_dir or Path("runs") / study.name)
    require_folder("--run_dir", out)
    if options.command in ("plan", "run"):
        plan = _checked_plan(study, out, overrides, options.threads_per_cell)
        return _print_plan(plan, options) if options.command == "plan" else _run(plan, out, options)
    if overrides:
        kind = {"report": "a report takes", "claims": "claims take"}[options.command]
        raise UserError(f"--{next(iter(overrides))}: {kind} no options of kd-privacy")
    if options.command == "claims":
        return _claims(study, out, options.json)
    return _report(study, out, options)


def _checked_plan(
    study: StudyFile, out: Path, overrides: dict[str, object], threads: int | None
) -> Plan:
    from kd_privacy.cli import fit_parser, parse_command
    from studies.plan.planner import make_plan
    from studies.run.checks import check_plan

    plan = make_plan(study, out, overrides, threads)
    check_plan(plan, partial(parse_command, fit_parser()))
    return plan


def _parse(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, dict[str, object]]:
    parser = _Parser(prog="kd-study", description=__doc__, epilog=_EXAMPLE)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    texts = {
        "plan": "print cells, commands, states, and the parameters, memory and time of each; runs "
        "nothing",
        "run": "run the cells that are not done",
        "report": "write OUT/report/index.html, its tables (CSV, LaTeX) and its charts (SVG, PNG)",
        "claims": "print the verdicts on the five claims from the cells that are done",
    }
    for name, text in texts.items():
        command = commands.add_parser(
            name,
            help=text,
            description=text,
            epilog=_OVERRIDE_HELP if name in ("plan", "run") else _EXAMPLE,
        )
        command.add_argument("file", metavar="FILE", help="study file (configs/studies/*.yaml)")
        command.add_argument(
            "--run_dir", metavar="OUT", help="folder of the study (default: runs/<name>)"
        )
        if name == "report":
            command.add_argument(
                "--reveal",
                action="store_true",
                help="also write OUT/private/report.html, which shows private records in words",
            )
            command.add_argument(
                "--full", action="store_true", help="also print the table of every attack"
            )
            command.add_argument(
                "--fail_if",
                action="append",
                default=[],
                metavar="LINE",
                help="end with status 3 where LINE, or one of a file of lines, holds of a student, "
                "such as 'membership/loss.tpr_at_fpr_0.01.lower > 0.05'; may be given again",
            )
            continue
        if name == "claims":
            command.add_argument("--json", action="store_true", help="print JSON")
            continue
        command.add_argument(
            "--threads_per_cell",
            type=_positive,
            metavar="N",
            help="threads of each cell (default: the file's, else 1); part of a cell's identity",
        )
        command.add_argument(
            "--workers",
            type=_positive,
            metavar="N",
            help=f"cells at a time (default: {_WORKERS}"
            + ("; with ray, as many as the cluster's CPUs allow)" if name == "run" else ")"),
        )
        command.add_argument(
            "--only",
            metavar="NAME",
            action="append",
            default=[],
            help="the cells of this name and what those need; * and ? stand for characters, and "
            "the option may come again: --only '*-kd-*-r1' --only 'control-*'",
        )
        command.add_argument(
            "--shard",
            metavar="I/N",
            help="every N-th cell from the I-th on, and what those need; the other shards run "
            "theirs on the same folder at the same time or later",
        )
        if name == "plan":
            command.add_argument(
                "--terms", action="store_true", help="print what each cell's memory is made of"
            )
        if name == "run":
            _add_run_options(command)
    options, rest = parser.parse_known_args(arguments)
    return options, _overrides(rest)


def _add_run_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--report", action="store_true", help="then write the page too, as kd-study report does"
    )
    command.add_argument(
        "--executor",
        choices=["local", "ray"],
        default="local",
        help="where cells run: this machine, or the Ray cluster at $RAY_ADDRESS (one of this "
        "machine where that is not set)",
    )
    command.add_argument(
        "--gpus_per_cell",
        type=float,
        default=0.0,
        metavar="N",
        help="GPUs that Ray gives each cell; a fraction shares one (0)",
    )


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def _overrides(rest: Sequence[str]) -> dict[str, object]:
    from common.located_yaml import load_plain

    overrides: dict[str, object] = {}
    words = list(rest)
    while words:
        word = words.pop(0)
        name, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or "." not in name:
            raise UserError(f"{word}: no such option of kd-study (see kd-study --help)")
        if not equals:
            if not words:
                raise UserError(f"--{name}: a value is missing")
            value = words.pop(0)
        overrides[name] = load_plain(value, f"--{name}") if value else ""
    return overrides


def _print_plan(plan: Plan, options: argparse.Namespace) -> int:
    from rich.console import Console

    from studies.run.estimate_output import print_plan
    from studies.run.estimates import TimeModel, estimate_cells

    times, workers = TimeModel(plan.cells), options.workers or _WORKERS
    asked = replace(plan, cells=tuple(_asked_cells(plan, options)))
    estimates = estimate_cells(asked.cells)
    print_plan(asked, estimates, times, workers, Console(), terms=options.terms)
    return 0


def _asked_cells(plan: Plan, options: argparse.Namespace) -> list[Cell]:
    from studies.run.runner import chosen_cells

    return chosen_cells(plan, options.only, _shard(options))


def _shard(options: argparse.Namespace) -> Shard | None:
    from studies.run.runner import Shard

    return None if options.shard is None else Shard.parse(options.shard)


def _run(plan: Plan, out: Path, options: argparse.Namespace) -> int:
    from rich.console import Console

    from common.options import make_folder
    from kd_privacy.study_ending import cell_verdict, ending
    from studies.compare.tables import write_study_tables
    from studies.run.curves import link_curves
    from studies.run.estimates import Forecast, TimeModel
    from studies.run.progress import Progress
    from studies.run.runner import run_plan

    make_folder("--run_dir", out)
    console = Console()
    executor = _executor(plan, options)
    forecast = Forecast(_asked_cells(plan, options), TimeModel(plan.cells), executor.workers)
    curves = link_curves(plan, out)
    with Progress(plan, console, forecast, cell_verdict) as progress:
        complete = run_plan(
            plan,
            out,
            executor=executor,
            progress=progress,
            only=options.only,
            shard=_shard(options),
        )
    if not write_study_tables(plan, out):
        _print([f"none of {len(plan.cells)} cells is done"])
    elif options.report:
        _write(plan, out)
    else:
        page = f"kd-study report {options.file} --run_dir {out} writes it"
        _print(ending(plan, out, {"page": page, "curves": f"tensorboard --logdir {curves}"}))
    return 0 if complete else 1


def _print(lines: Sequence[str]) -> None:
    sys.stdout.write("\n".join(lines) + "\n")


def _executor(plan: Plan, options: argparse.Namespace) -> Executor:
    from studies.run.executors import LocalExecutor, RayExecutor, fit_program

    if options.executor == "local":
        if options.gpus_per_cell:
            raise UserError("--gpus_per_cell: only with --executor ray; here CUDA_VISIBLE_DEVICES")
        workers = options.workers or _WORKERS
        return LocalExecutor(
            fit_program(), workers, end_holders=not options.shard, module=FIT_MODULE
        )
    if options.shard:
        raise UserError("--shard: Ray spreads the cells itself; leave it out with --executor ray")
    return RayExecutor(fit_program(), options.workers, options.gpus_per_cell, plan.threads)


def _last_plan(study: StudyFile, out: Path) -> Plan:
    from common.own_files import read_json
    from studies.plan.cells import Plan

    path = out / "plan.json"
    if not path.is_file():
        raise UserError(f"{path}: no such file; first `kd-study run {study.path} --run_dir {out}`")
    again = f"`kd-study run {study.path} --run_dir {out}` writes it again; what is done stays"
    content = read_json(path, again)
    try:
        return Plan.from_dict(content).moved_to(out)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path} does not hold what was written there: {again}") from error


def _claims(study: StudyFile, out: Path, as_json: bool) -> int:
    from rich.console import Console

    from studies.claims import study_findings
    from studies.claims.output import findings_json, print_findings
    from studies.compare.tables import write_study_tables

    plan = _last_plan(study, out)
    write_study_tables(plan, out)
    findings = study_findings(plan, out)
    console = Console()
    if as_json:
        console.print(findings_json(findings), markup=False, highlight=False, soft_wrap=True)
    else:
        print_findings(findings, console)
    return 0


def _report(study: StudyFile, out: Path, options: argparse.Namespace) -> int:
    from audits.answer.gate import conditions_of
    from kd_privacy.audit_cli import gate_status
    from studies.plan.planner import make_plan
    from studies.report.machine import study_failures
    from studies.report.study_data import read_study_data

    gate = conditions_of(options.fail_if)
    plan = _last_plan(study, out)
    now = make_plan(study, out, plan.overrides, plan.threads)
    changed = {cell.id for cell in now.cells} ^ {cell.id for cell in plan.cells}
    _write(plan, out, bool(changed), reveal=options.reveal, full=options.full)
    return gate_status(study_failures(read_study_data(plan, out), gate)) if gate else 0


def _write(
    plan: Plan, out: Path, out_of_date: bool = False, *, reveal: bool = False, full: bool = False
) -> None:
    from rich.console import Console

    from kd_privacy.study_ending import ending
    from studies.report import write_report
    from studies.run.curves import link_curves

    console = Console() if full else None
    page = write_report(plan, out, out_of_date=out_of_date, reveal=reveal, console=console)
    paths = {"page": str(page), "summary": str(out / "report" / "audit.json")}
    paths["curves"] = f"tensorboard --logdir {link_curves(plan, out)}"
    _print(ending(plan, out, paths, out_of_date=out_of_date))


if __name__ == "__main__":
    sys.exit(main())
