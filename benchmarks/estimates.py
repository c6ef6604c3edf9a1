"""What `kd-study plan` says of memory and time, beside measurements.

`python -m benchmarks.estimates` measures the peak memory of a few fits, each in a fresh process
(`benchmarks.training_memory`), sets beside it what the plan counts as held throughout and writes
`benchmarks/results/estimates.json` and `.md`. `--study OUT` also asks the time model for each cell
of a finished study in turn, with that cell's own time kept from it.
"""

import argparse
import json
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.training_memory import Case, Peak, in_fresh_process
from common.errors import UserError
from studies.plan.cells import Plan
from studies.run.estimates import TimeModel
from studies.run.estimates.layout import Layout
from studies.run.estimates.memory import TrainingRun
from studies.run.estimates.networks import NetworkSpec

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Row:
    """A measured fit."""

    case: Case
    peak: Peak


@dataclass(frozen=True)
class TimeRow:
    """A cell's time and what the model expected of it.

    Attributes:
        cell: Its name.
        seconds: What it took.
        expected: Expected with this cell left out; None where nothing comparable had ended.
        basis: What that rested on.
    """

    cell: str
    seconds: float
    expected: float | None
    basis: str


def _gpt2(depth: int, width: int, heads: int) -> dict[str, Any]:
    sizes = {"n_layer": depth, "n_embd": width, "n_head": heads, "n_positions": 1024}
    dropout = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    return {**sizes, **dropout, "activation_function": "gelu_pytorch_tanh"}


def _llama(depth: int, width: int, heads: int, inner: int) -> dict[str, Any]:
    return {
        **{"num_hidden_layers": depth, "hidden_size": width, "intermediate_size": inner},
        **{"num_attention_heads": heads, "num_key_value_heads": heads},
        "max_position_embeddings": 1024,
    }


def _opt(depth: int, width: int, heads: int) -> dict[str, Any]:
    return {
        **{"num_hidden_layers": depth, "hidden_size": width, "word_embed_proj_dim": width},
        **{"ffn_dim": 4 * width, "num_attention_heads": heads, "dropout": 0.0},
        "max_position_embeddings": 1024,
    }


def cases() -> list[Case]:
    """The tiny pair of each family, and networks of the shapes of GPT-2 small and SmolLM2."""
    tiny, mini, small = _gpt2(3, 128, 4), _gpt2(4, 160, 4), _gpt2(12, 768, 12)
    llama, opt = (
        (_llama(3, 128, 4, 352), _llama(4, 160, 4, 432)),
        (_opt(3, 128, 4), _opt(4, 160, 4)),
    )
    smollm2 = {**_llama(30, 576, 9, 1536), "num_key_value_heads": 3, "tie_word_embeddings": True}
    return [
        Case("tiny, taught by mini", "gpt2", tiny, mini, 2048, 8, 256),
        Case("tiny", "gpt2", tiny, None, 2048, 8, 256),
        Case("mini", "gpt2", mini, None, 2048, 8, 512),
        Case("tiny, taught by mini", "gpt2", tiny, mini, 2048, 16, 512),
        Case("tiny, recomputed", "gpt2", _gpt2(6, 128, 4), None, 2048, 16, 512, recomputed=True),
        Case("one block", "gpt2", _gpt2(1, 128, 4), None, 1024, 24, 512),
        Case("one block", "gpt2", _gpt2(1, 192, 4), None, 1024, 16, 512),
        Case("one block", "llama", _llama(1, 128, 4, 352), None, 1024, 24, 512),
        Case("tiny, taught by mini", "llama", *llama, 2048, 8, 512),
        Case("tiny, taught by mini", "opt", *opt, 2048, 8, 512),
        Case("GPT-2 small", "gpt2", small, None, 50257, 2, 256),
        Case("half of GPT-2 small, taught by it", "gpt2", _gpt2(6, 768, 12), small, 50257, 4, 256),
        Case("SmolLM2 135M", "llama", smollm2, None, 49152, 4, 256),
    ]


def run_of(row: Row) -> TrainingRun:
    """Returns what an estimate of a measured fit starts from."""
    case = row.case
    student, teacher = _spec(case, case.student), case.teacher
    return TrainingRun(
        student=student.figures(),
        teachers=() if teacher is None else (_spec(case, teacher).figures(),),
        layout=Layout("single", 1, "32-true", on_cpu=True),
    )


def _spec(case: Case, config: dict[str, Any]) -> NetworkSpec:
    complete = {**config, "vocab_size": case.vocabulary}
    return NetworkSpec(case.family, json.dumps(complete, sort_keys=True))


def held_mb(row: Row) -> float:
    """Returns what the plan counts of a fit in 10^6 bytes."""
    return run_of(row).bytes / 1e6


def held_share(row: Row) -> float:
    """Returns what the plan counts as a share of the measured peak."""
    return held_mb(row) / row.peak.megabytes


def time_rows(out: Path) -> list[TimeRow]:
    """Expects every cell of a finished study from the others.

    Raises:
        UserError: No cell of the study has ended without interruption.
    """
    plan = Plan.from_dict(json.loads((out / "plan.json").read_text(encoding="utf-8"))).moved_to(out)
    model = TimeModel(plan.cells)
    rows = []
    for cell in plan.cells:
        if cell.id not in model.taken:
            continue
        seconds = model.taken.pop(cell.id)[1]
        expected = model.expect(cell)
        model.add(cell, seconds)
        known = (None, "") if expected is None else (expected.seconds, expected.basis)
        rows.append(TimeRow(cell.alias, seconds, *known))
    if not rows:
        raise UserError(f"{out}: no cell has ended without interruption")
    return rows


def as_markdown(rows: Sequence[Row], times: Sequence[TimeRow], machine: dict[str, str]) -> str:
    """Both tables, and on what."""
    shares = [held_share(row) for row in rows]
    lines = [
        "# Estimates of `kd-study plan` against measurements",
        "",
        ", ".join(f"{key} {value}" for key, value in machine.items()),
        "",
        "## Memory",
        "",
        "| network | family | batch | measured peak, MB | held throughout, MB | share |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row, share in zip(rows, shares, strict=True):
        case = row.case
        lines.append(
            f"| {case.name} | {case.family} | {case.records} x {case.tokens} | "
            f"{row.peak.megabytes:.0f} | {held_mb(row):.0f} | {share:.0%} |"
        )
    lines += [
        "",
        "Weights, gradients, optimiser state and teachers are "
        f"{min(shares):.0%} to {max(shares):.0%} of the peak.",
        "",
        "Peaks are of the resident set, above what a process holds that has trained a network of",
        "one block, in a Lightning fit of three steps with batches full to the last token. The",
        "rest are activations and logits, and of GPT-2 small 91 MB of its tokenizer.",
    ]
    return "\n".join([*lines, *_time_lines(times)]) + "\n"


def _time_lines(times: Sequence[TimeRow]) -> list[str]:
    known = [(row, row.expected / row.seconds - 1) for row in times if row.expected is not None]
    if not known:
        return []
    sizes = sorted(abs(error) for _, error in known)
    return [
        "",
        "## Time",
        "",
        "| cell | s | expected | error | from |",
        "| --- | --- | --- | --- | --- |",
        *(
            f"| {row.cell} | {row.seconds:.0f} | {row.expected:.0f} | {error:+.0%} | {row.basis} |"
            for row, error in known
        ),
        "",
        f"Each cell is expected from the others. Median of the absolute errors "
        f"{np.median(sizes):.0%}, largest {sizes[-1]:.0%}.",
    ]


def main() -> None:
    """Measures, estimates and writes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--study", type=Path, help="folder of a finished study, for the times")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for both files")
    parser.add_argument(
        "--reread", action="store_true", help="estimate the folder's measurements anew"
    )
    options = parser.parse_args()
    path = options.out / "estimates.json"
    if options.reread and not path.is_file():
        parser.error(f"--reread: there is no {path}")
    options.out.mkdir(parents=True, exist_ok=True)
    before = json.loads(path.read_text()) if options.reread else {}
    rows = [Row(Case(**one["case"]), Peak(**one["peak"])) for one in before.get("memory", [])] or [
        Row(case, in_fresh_process(case, _say)) for case in cases()
    ]
    times = [TimeRow(**one) for one in before.get("time", [])]
    if options.study is not None:
        times = time_rows(options.study)
    machine = before.get("machine") or {
        "torch": torch.__version__,
        "threads": "1",
        "machine": platform.processor() or platform.machine(),
    }
    content = {
        "machine": machine,
        "shares": [held_share(row) for row in rows],
        "memory": [asdict(row) for row in rows],
        "time": [asdict(row) for row in times],
    }
    path.write_text(json.dumps(content, indent=1) + "\n")
    (options.out / "estimates.md").write_text(as_markdown(rows, times, machine))


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


if __name__ == "__main__":
    main()
