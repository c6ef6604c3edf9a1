"""What steps, objectives, scoring and sampling cost on an accelerator, beside what it can do.

`python -m benchmarks.gpu` writes `benchmarks/results/gpu-<card>.json` and `.md`. Models have the
proportions of published ones and random weights. The ceilings, a product of large matrices and a
copy, are measured in the same run, and every figure stands beside them: only such ratios carry over
to another card. Every time is taken to the end of the work on the device; ways that are compared
take turns, after one run that warms up. `--device cpu --pairs tiny` runs all of it without one.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from audits.scoring.model_access import ModelAccess
from audits.scoring.scoring_pass import score_records
from benchmarks.gpu_device import Ceilings, Device, ceilings
from benchmarks.gpu_steps import PAIRS, Pair, Setting, Step, measure_step, spec_of, vocabulary_of
from benchmarks.memorization import silent
from benchmarks.objective_forms import Case, all_forms
from benchmarks.objective_forms import Setting as Shape
from benchmarks.sampling import NEW_TOKENS, PROMPTS, build_prompts
from benchmarks.sampling import ways as sampling_ways
from benchmarks.scoring import describe_machine
from benchmarks.scoring_ways import Workload, floor
from common.ranks import Ranks
from datamodules.batches import EncodedRecord, collate
from kdmodules.models.causal_lm import CausalLM
from kdmodules.models.flops import ModelCost, PassSize

RESULTS = Path(__file__).parent / "results"
# Heads of GPT-2 base taught by XL, and of OpenLLaMA 3B taught by LLaMA 7B.
SHAPES = {"50,257 x 768": (50_257, 768, 1600), "32,000 x 3,200": (32_000, 3200, 4096)}
TINY_SHAPES = {"2,048 x 128": (2048, 128, 192)}
HEAD_CHUNK = 8192


@dataclass(frozen=True)
class Way:
    """One way of doing something.

    Attributes:
        what: What is done.
        way: Whose.
        seconds: Median; None where it was not run.
        rate: Tokens per second; None where tokens are not what it is about.
        peak_bytes: Memory above what was held before; None on a CPU.
        share: Share of the ceiling of bfloat16 products that the needed operations reach.
        skipped: Why it was not run; empty where it was.
    """

    what: str
    way: str
    seconds: float | None = None
    rate: float | None = None
    peak_bytes: int | None = None
    share: float | None = None
    skipped: str = ""


def objectives(device: Device, label: str, shape: tuple[int, int, int], rounds: int) -> list[Way]:
    """Objectives from hidden states, forward and backward, of 4 records with half scored."""
    dtype = torch.bfloat16 if device.is_gpu else torch.float32
    tokens = 512 if device.is_gpu else 64
    case = Case(Shape(4, tokens, *shape, scored=0.5), device.name, dtype)
    forms = all_forms(None)

    def run(compute: Callable[[Case], torch.Tensor]) -> None:
        case.hidden.grad = case.weight.grad = None
        compute(case).backward()

    works = {
        form.name: (lambda compute=form.compute: run(compute)) for form in forms if not form.skipped
    }
    seconds = device.in_turn(works, rounds)
    peaks = {name: device.peak_bytes(work) for name, work in works.items()}
    return [
        Way(
            f"{form.objective}, {label}",
            form.way,
            seconds.get(form.name),
            peak_bytes=peaks.get(form.name),
            skipped=form.skipped or "",
        )
        for form in forms
    ]


def scoring(device: Device, pair: Pair, n_records: int, peak: float, rounds: int) -> list[Way]:
    """Token statistics of records of 128 prompt and 128 response tokens, against the floor."""
    spec = spec_of(pair.student)
    vocabulary = vocabulary_of(spec)
    model = spec.build(device.name).eval()
    lm = CausalLM(model.bfloat16() if device.is_gpu else model, vocabulary)
    draw = np.random.default_rng(0)
    encoded = [
        EncodedRecord(
            f"record-{row}",
            "",
            *(tuple(draw.integers(vocabulary, size=128).tolist()) for _ in range(2)),
            prompt_cut=False,
            response_cut=True,
        )
        for row in range(n_records)
    ]
    batches = [collate(encoded[i : i + 16], 0).to(device.name) for i in range(0, n_records, 16)]
    sizes = [PassSize.of(batch) for batch in batches]
    size = sum(sizes[1:], sizes[0])
    access = ModelAccess(lm, SimpleNamespace(pad_id=0), Ranks(), 16, 8192, 0, silent)

    def ours() -> None:
        score_records(access, encoded, "")

    with torch.no_grad():
        seconds = device.in_turn(
            {
                "floor: trunk, and head on responses": lambda: floor(
                    lm, Workload([], encoded, batches, 0), HEAD_CHUNK
                ),
                "ours, four attacks' statistics": ours,
            },
            rounds,
        )
    operations = ModelCost.of(lm).forward(size)
    return [
        Way(
            f"scoring, {pair.student}",
            name,
            took,
            size.scored / took,
            None,
            operations / took / peak,
        )
        for name, took in seconds.items()
    ]


def sampling(device: Device, pair: Pair, rounds: int) -> list[Way]:
    """Sampled and greedy continuations of eight prompts, against `generate`."""
    spec = spec_of(pair.student)
    vocabulary = vocabulary_of(spec)
    model = spec.build(device.name).eval()
    model = model.bfloat16() if device.is_gpu else model
    seconds = device.in_turn(dict(sampling_ways(model, build_prompts(vocabulary))), rounds)
    tokens = PROMPTS * NEW_TOKENS
    return [
        Way(f"sampling, {pair.student}", name, took, tokens / took)
        for name, took in seconds.items()
    ]


def as_markdown(
    machine: dict[str, object], most: Ceilings, steps: Sequence[Step], ways: Sequence[Way]
) -> str:
    """The three tables."""

    def cell(value: float | None, digits: int, scale: float = 1.0) -> str:
        known = value is not None and value == value
        return f"{value / scale:,.{digits}f}" if known and value is not None else "–"

    lines = [
        f"# On {machine['card']}",
        "",
        ", ".join(f"{key} {value}" for key, value in machine.items()),
        "",
        f"Ceilings: {most.bf16 / 1e12:.2f} TFLOP/s in bfloat16, {most.float32 / 1e12:.2f} in "
        f"float32, {most.copy / 1e9:.1f} GB/s copied.",
        "",
        "| Step | s | scored tokens/s | share of the bfloat16 ceiling | peak GB |",
        "| --- | --- | --- | --- | --- |",
    ]
    for one in steps:
        if one.skipped:
            lines.append(f"| {one.name} | not run: {one.skipped} | | | |")
            continue
        share = one.operations / one.seconds / most.bf16
        lines.append(
            f"| {one.name} | {one.seconds:.4f} | {one.scored / one.seconds:,.0f} | {share:.3f} | "
            f"{cell(one.peak_bytes, 2, 1e9)} |"
        )
    lines += [
        "",
        "| What | way | s | tokens/s | share | GB |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for way in ways:
        took = f"not run: {way.skipped}" if way.skipped else cell(way.seconds, 4)
        lines.append(
            f"| {way.what} | {way.way} | {took} | {cell(way.rate, 0)} | {cell(way.share, 3)} | "
            f"{cell(way.peak_bytes, 3, 1e9)} |"
        )
    lines += [
        "",
        "A share is the operations that models need, by arithmetic, per second, over the ceiling.",
    ]
    return "\n".join(lines) + "\n"


def measure(options: argparse.Namespace, device: Device) -> tuple[Ceilings, list[Step], list[Way]]:
    """Runs everything."""
    device.release()
    most = ceilings(device, options.size or (8192 if device.is_gpu else 512), options.rounds)
    setting = Setting(
        options.records,
        options.tokens,
        options.steps,
        "bf16-mixed" if device.is_gpu else "32-true",
    )
    steps, ways = [], []
    for name in options.pairs:
        pair = PAIRS[name]
        for distil in (False, True):
            what = f"{pair.teacher} fine-tuned"
            if distil:
                what = f"{pair.student} taught by {pair.teacher}"
            sys.stderr.write(f"{what}\n")
            steps.append(measure_step(what, pair, device, setting, distil))
        sys.stderr.write(f"scoring and sampling, {pair.student}\n")
        ways += scoring(device, pair, options.scored_records, most.bf16, options.rounds)
        ways += sampling(device, pair, options.rounds)
    for label, shape in (SHAPES if device.is_gpu else TINY_SHAPES).items():
        sys.stderr.write(f"objectives, {label}\n")
        device.release()
        ways += objectives(device, label, shape, options.rounds)
    return most, steps, ways


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    published = [name for name in PAIRS if name != "tiny"]
    add("--device", choices=["cuda", "cpu"], default="cuda", help="where")
    add("--pairs", nargs="+", choices=list(PAIRS), default=published, help="teacher and student")
    add("--records", type=int, default=8, help="records of a training batch")
    add("--tokens", type=int, default=512, help="tokens of a training record")
    add("--steps", type=int, default=8, help="timed training steps")
    add("--scored_records", type=int, default=512, help="records of the scoring pass")
    add("--rounds", type=int, default=5, help="repetitions of everything else")
    add("--size", type=int, help="rows of the ceilings' matrices (default: by device)")
    add("--out", type=Path, default=RESULTS, help="folder for both files")
    options = parser.parse_args(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("no GPU here: --device cpu --pairs tiny tries the benchmark without one")
    return options


def main(arguments: list[str] | None = None) -> None:
    """Measures, writes both files, and prints the tables last."""
    options = parse(arguments)
    device = Device(options.device)
    most, steps, ways = measure(options, device)
    machine = {"card": device.card, "cuda": torch.version.cuda, **describe_machine()}
    text = as_markdown(machine, most, steps, ways)
    content = {
        "machine": machine,
        "ceilings": asdict(most),
        "steps": [asdict(one) for one in steps],
        "ways": [asdict(one) for one in ways],
    }
    stem = f"gpu-{device.card.lower().replace(' ', '-')}"
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / f"{stem}.json").write_text(json.dumps(content, indent=1) + "\n")
    (options.out / f"{stem}.md").write_text(text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
