"""What `kd-study` tells as cells end, and at its end: the study's answer, and where the rest is."""

from collections.abc import Mapping
from pathlib import Path

from audits.answer.console import console_lines, verdict_text
from audits.answer.one_run import run_model
from studies.plan.cells import Cell, Plan
from studies.report.answer import study_answer
from studies.report.study_data import read_study_data

_TOLD = ("teacher", "student", "control")
"""Roles of cells whose verdict is told when they end; of others an AUROC would mislead."""


def cell_verdict(cell: Cell) -> str:
    """Returns what the membership audit of a cell says; empty where there is nothing to tell."""
    model = run_model(Path(cell.run_dir)) if cell.role in _TOLD else None
    return "" if model is None else verdict_text(model)


def ending(
    plan: Plan, out: Path, paths: Mapping[str, str], *, out_of_date: bool = False
) -> list[str]:
    """Returns the last lines, at most twenty.

    Args:
        plan: The plan that the last run used; some of its cells are done.
        out: The study's folder, with its tables.
        paths: Where the rest is, by what it is called.
        out_of_date: Whether the study file asks for other cells by now.
    """
    data = read_study_data(plan, out)
    done = f"{len(data.cells)} of {len(plan.cells)} done, in {out}"
    return console_lines(study_answer(data, out_of_date=out_of_date), {**paths, "cells": done})
