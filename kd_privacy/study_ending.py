"""What `kd-study run` and `kd-study report` end with: the study's answer, and where the rest is."""

from collections.abc import Mapping
from pathlib import Path

from audits.answer.console import console_lines
from studies.plan.cells import Plan
from studies.report.answer import study_answer
from studies.report.study_data import read_study_data


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
