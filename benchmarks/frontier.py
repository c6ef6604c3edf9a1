"""What defences cost and buy: a committed page on a finished study with defences.

`python -m benchmarks.frontier RUN_DIR` reads the table and the chart of the section *Defences* that
`kd-study report` wrote there, and writes `results/frontier.md` and `docs/images/frontier.png`:
every run with its risk, ceiling and utility, and whether what must hold of each row did.
"""

import argparse
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from studies.report.defence_rows import UNDEFENDED, over_kinds, reading

RESULTS = Path(__file__).parent / "results"
IMAGE = Path(__file__).parents[1] / "docs" / "images" / "frontier.png"
_CHANCE = 0.5


def kinds_of(table: pd.DataFrame) -> pd.DataFrame:
    """Returns a row per kind of run with what it is read as and the ends of its AUROC.

    Args:
        table: `report/tables/defences.csv`, of one replicate.
    """
    table = table.fillna({"guarantee": "", "technique": ""})
    kinds = over_kinds(table).merge(table[["kind", "value", "lower", "upper", "unit_lower"]])
    return kinds.assign(reading=[reading(row) for row in kinds.to_dict("records")])


def checks(kinds: pd.DataFrame) -> Iterator[tuple[str, bool]]:
    """Yields what must hold of a study with differentially private teachers, and whether it did."""
    bounded = kinds[kinds["auroc_upper"].notna()]
    below = bounded["unit_lower"] <= bounded["auroc_upper"]
    yield (
        f"the measured lower end is below the ceiling in each of {len(bounded)} bounded rows",
        bool(len(bounded)) and bool(below.all()),
    )
    teacher = kinds[(kinds["role"] == "teacher") & (kinds["defence"] == UNDEFENDED)]
    yield (
        "the undefended teacher's interval lies above one half",
        len(teacher) == 1 and bool((teacher["lower"] > _CHANCE).all()),
    )


def page(run_dir: Path) -> str:
    """Returns the page.

    Args:
        run_dir: Folder of a finished study whose report was written.
    """
    kinds = kinds_of(pd.read_csv(run_dir / "report" / "tables" / "defences.csv"))
    states = [json.loads(path.read_text()) for path in run_dir.glob("cells/*/state.json")]
    seconds = sum(state["seconds"] for state in states)
    lines = [
        f"| {row.kind} | {row.reading} | {row.value:.3f} [{row.lower:.3f}, {row.upper:.3f}] "
        f"| {_number(row.auroc_upper, '.3f')} | {_number(row.tpr, '.1%')} "
        f"| {_number(row.tpr_upper, '.1%')} | {_number(row.gap, '+.3f')} "
        f"| {_number(row.perplexity, '.1f')} | {_number(row.rouge_l_f1, '.3f')} "
        f"| {_number(row.teacher_kl, '.3f')} |"
        for row in kinds.itertuples()
    ]
    return "\n".join(
        [
            "# What defences cost and buy",
            "",
            f"Written by `python -m benchmarks.frontier` from {len(states)} runs, "
            f"{seconds / 60:.0f} minutes of one core in all ({states[0]['machine']}). One "
            "replicate; intervals of the AUROC are over records. The ceiling bounds an "
            "expectation: it is compared with the lower end of what was measured.",
            "",
            "| Run | Read as | AUROC | Ceiling | Found at 1 per 100 | Ceiling of it "
            "| Token accuracy gap | Perplexity | ROUGE-L | KL from the teacher |",
            "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
            *lines,
            "",
            *(f"- {'held' if held else '**failed**'}: {what}" for what, held in checks(kinds)),
            "",
        ]
    )


def _number(value: float, style: str) -> str:
    return "" if pd.isna(value) else format(value, style)


def main() -> None:
    """Reads a study's report and writes page and picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run_dir", type=Path, help="a finished study with defences, reported")
    run_dir = parser.parse_args().run_dir
    if not (run_dir / "report" / "tables" / "defences.csv").is_file():
        parser.error(f"{run_dir} has no report on defences: `kd-study report` writes it")
    (RESULTS / "frontier.md").write_text(page(run_dir), encoding="utf-8")
    shutil.copy(run_dir / "report" / "figures" / "defences_perplexity.png", IMAGE)


if __name__ == "__main__":
    main()
