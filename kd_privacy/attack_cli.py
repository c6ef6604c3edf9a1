"""`kd-privacy attack`: attacks on a stored audit, without a model or an accelerator."""

import sys
from collections.abc import Sequence
from pathlib import Path

from jsonargparse import ActionConfigFile
from lightning.pytorch import Callback
from rich.console import Console
from rich.table import Table
from rich.text import Text

from audits.context import Measurements
from audits.known_text import known_text_rows, known_text_warning
from audits.membership.any_leak import MAX_T
from audits.membership.evaluation import evaluate
from audits.membership.measurements import Scored
from audits.membership.plan import AuditPlan
from audits.membership.stored_audit import StoredAudit, load_audit
from audits.results import merge_parts, write_part
from audits.rows import Audit, ResultRow
from audits.scoring.token_statistics import nats_per_token
from callbacks.membership import MembershipAudit
from common.errors import UserError
from common.guarantee import Guarantee, read
from common.options import require_folder
from common.roles import COUNTERFACTUAL_ROLES
from kd_privacy.parsers import PrivacyParser

COMMAND = "attack"
_DESCRIPTION = (
    "Runs membership attacks on what an audit with save_statistics has kept, and writes "
    "results.parquet and scores.parquet. Example: kd-privacy attack --statistics "
    "runs/student/private/statistics/step=400 --out runs/again -c configs/audits/membership.yaml"
)


def run_attacks(arguments: Sequence[str]) -> None:
    """Runs `kd-privacy attack`.

    Args:
        arguments: The command line behind the command's name.

    Raises:
        UserError: No stored audit there, something that an attack needs was not stored, or no
            membership audit among the fragments.
    """
    parser = attack_parser()
    options = parser.parse_args(list(arguments))
    require_folder("--out", options.out)
    callbacks = parser.instantiate_classes(options).trainer.callbacks or []
    audits = [one for one in callbacks if isinstance(one, MembershipAudit)]
    if not audits:
        raise UserError(
            "no fragment names a membership audit: give -c configs/audits/membership.yaml"
        )
    stored = load_audit(Path(options.statistics), AuditPlan.of(audits[-1].attacks))
    if audits[-1].worlds is not None:
        sys.stderr.write(
            "note: worlds: single records are judged when models are audited, not from what was "
            "stored\n"
        )
    for warning in guess_warnings(stored):
        sys.stderr.write(f"warning: {warning}\n")
    found = _evaluate(audits[-1], stored, stored_guarantee(Path(options.statistics), stored))
    _write(Path(options.out), stored, found)
    _print(found)


def guess_warnings(stored: StoredAudit) -> list[str]:
    """Returns what must be known before a figure is read: that the model guesses."""
    if stored.vocabulary_size is None:
        return []
    found: list[str] = []
    for name in dict.fromkeys(pair.nonmembers for pair in stored.oppositions):
        view = stored.sides[name].view
        if Scored() in view.passes:  # else no attack reads what the model says of the text
            nats = nats_per_token(part.statistics for part in view.shards())
            rows = known_text_rows(nats, stored.vocabulary_size, name)
            found += map(known_text_warning, rows)
    return found


def attack_parser() -> PrivacyParser:
    """Returns the parser of `kd-privacy attack`."""
    parser = PrivacyParser(
        prog=f"kd-privacy {COMMAND}",
        description=_DESCRIPTION,
        allow_abbrev=False,
        exit_on_error=True,
    )
    parser.add_argument(
        "-c", "--config", action=ActionConfigFile, help="Fragment that names the attacks."
    )
    parser.add_argument(
        "--statistics", type=str, required=True, help="Folder private/statistics/step=<n> of a run."
    )
    parser.add_argument("--out", type=str, required=True, help="Folder for the tables.")
    parser.add_argument(
        "--trainer.callbacks",
        type=list[Callback] | None,
        default=None,
        help="Callbacks of the fragments, of which the last membership audit is read.",
    )
    return parser


def stored_guarantee(statistics: Path, stored: StoredAudit) -> Guarantee | None:
    """Returns what the training of the run whose statistics these are guarantees of its members."""
    run = statistics.resolve().parent.parent.parent
    return None if stored.identity["role"] in COUNTERFACTUAL_ROLES else read(run)


def _evaluate(
    audit: MembershipAudit, stored: StoredAudit, guarantee: Guarantee | None
) -> Measurements:
    shift_tests = {}
    if audit.blind is not None:
        shift_tests = {
            pair.members: pair.shift_test(stored.sides, audit.blind) for pair in stored.oppositions
        }
        for shift_test in shift_tests.values():
            if shift_test.message is not None:
                sys.stderr.write(f"{shift_test.message}\n")
    sides, pairs = stored.sides, stored.oppositions
    # Attacks that are chosen when others have been seen have no bound on epsilon.
    return evaluate(audit.attacks, audit.fprs, sides, pairs, shift_tests, False, guarantee)


def _write(out: Path, stored: StoredAudit, found: Measurements) -> None:
    step = int(str(stored.identity["step"]))
    for table, rows in found.tables(stored.identity, Audit.membership).items():
        write_part(out, table, step, Audit.membership, rows)
    merge_parts(out)


def _print(found: Measurements) -> None:
    table = Table("Attack", "Members", "AUROC", "95% interval")
    for row in found.results:
        if row["metric"] == "auroc" and row.get("task") is None and row.get("value") is not None:
            interval = f"[{row['lower']:.3f}, {row['upper']:.3f}]"
            name = f"{row['name']}{_of(row)}"
            words = name, str(row["population"]), f"{row['value']:.3f}", interval
            table.add_row(*map(Text, words))
    console = Console()
    console.print(table)
    for row in found.results:
        if row["metric"] == MAX_T and row.get("p_value") is not None:
            tested = f"Any attack{_of(row)}, {row['population']}"
            console.print(f"{tested}: p = {row['p_value']:.3g} (max-T)", markup=False)


def _of(row: ResultRow) -> str:
    """Returns what a row is of, where it is not of records."""
    return " of subjects" if row.params.get("unit") == "subject" else ""
