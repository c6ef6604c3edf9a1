"""The accelerator's benchmark, at toy size without one; on one where there is one."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks import gpu
from benchmarks.gpu import as_markdown, main, objectives, scoring
from benchmarks.gpu_device import Ceilings, Device
from benchmarks.gpu_steps import PAIRS, Setting, Step, measure_step, needed_bytes, spec_of
from kdmodules.losses import ForwardKL, JensenShannon, KDLoss, KDStep, SkewReverseKL

CPU = Device("cpu")
TINY = Setting(records=2, tokens=212, steps=2, precision="32-true")


def test_a_step_needs_the_operations_counted_by_hand() -> None:
    found = measure_step("student", PAIRS["tiny"], CPU, TINY, distil=True)
    assert found.tokens == 2 * 212
    assert found.scored == 2 * 106
    assert found.seconds > 0
    needed = 0.0
    for stem, passes in (("gpt2-tiny", 3.0), ("gpt2-mini", 1.0)):
        config = json.loads(spec_of(stem).config)
        width, depth = int(str(config["n_embd"])), int(str(config["n_layer"]))
        of_blocks = 2 * depth * 12 * width**2 * found.tokens + 4 * depth * width * 2 * 212**2
        needed += passes * (of_blocks + 2 * 2048 * width * found.scored)
    # A position table, and what a norm or bias costs, are in neither count.
    assert found.operations == pytest.approx(needed, rel=1e-9)


def test_what_does_not_fit_is_left_out_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Device, "free_bytes", 24_000_000_000)
    found = measure_step("student", PAIRS["llama 7B to open 3B"], CPU, TINY, distil=True)
    assert found.skipped == "needs 79 GB, 24 GB are free"
    # 3.4264 B parameters trained at 16 bytes, 6.7384 B frozen at 2, 15% of room.
    by_hand = 1.15 * (16 * 3.4264e9 + 2 * 6.7384e9)
    pair = PAIRS["llama 7B to open 3B"]
    needed = needed_bytes(spec_of(pair.student), spec_of(pair.teacher))
    assert needed == pytest.approx(by_hand, rel=1e-3)
    text = as_markdown({"card": "CPU"}, Ceilings(1e12, 1e12, 1e9), [found], [])
    assert "| student | not run: needs 79 GB, 24 GB are free |" in text


def test_rates_and_shares_are_those_of_their_times() -> None:
    rows = scoring(CPU, PAIRS["tiny"], 4, peak=1e12, rounds=1)
    assert [one.way.split(":")[0] for one in rows] == ["floor", "ours, four attacks' statistics"]
    for one in rows:
        assert one.seconds is not None
        assert one.rate is not None
        assert one.rate * one.seconds == pytest.approx(4 * 128)
    ways = objectives(CPU, "toy", (512, 16, 16), 1)
    ours = {one.what for one in ways if one.way == "ours"}
    assert ours == {f"{name}, toy" for name in ("forward_kl", "skew_reverse_kl", "js", "js at 0.5")}
    step = Step("student", seconds=2.0, scored=100, tokens=200, operations=1e12)
    text = as_markdown({"card": "CPU"}, Ceilings(1e12, 1e12, 1e9), [step], ways)
    assert "| student | 2.0000 | 50 | 0.500 | – |" in text


def test_without_an_accelerator_it_says_how_to_try_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as stopped:
        main([])
    assert stopped.value.code == 2
    assert "no GPU here: --device cpu --pairs tiny" in capsys.readouterr().err


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an accelerator")
def test_the_whole_benchmark_runs_on_an_accelerator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "SHAPES", gpu.TINY_SHAPES)
    toy = ["--pairs", "tiny", "--records", "2", "--steps", "2", "--scored_records", "16"]
    main([*toy, "--rounds", "1", "--size", "512", "--out", str(tmp_path)])
    [path] = tmp_path.glob("gpu-*.json")
    found = json.loads(path.read_text())
    assert all(one["seconds"] > 0 and one["peak_bytes"] > 0 for one in found["steps"])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an accelerator")
@pytest.mark.parametrize("objective", [ForwardKL(), SkewReverseKL(0.1), JensenShannon(0.5)])
@pytest.mark.parametrize(("dtype", "within"), [(torch.float32, 1e-4), (torch.bfloat16, 2e-2)])
def test_objectives_on_an_accelerator_equal_float64(
    objective: KDLoss, dtype: torch.dtype, within: float
) -> None:
    draw = torch.Generator().manual_seed(0)
    hidden, teacher = (torch.randn(40, 24, generator=draw) for _ in range(2))
    heads = [torch.randn(300, 24, generator=draw) / 5 for _ in range(2)]
    targets = torch.randint(300, (40,), generator=draw)
    # Both sides start from the values that bfloat16 can hold.
    rounded = [one.to(dtype) for one in (hidden, heads[0], teacher, heads[1])]

    def total(device: str, wide: torch.dtype) -> tuple[float, torch.Tensor]:
        own, weight, taught, head = (one.to(device, wide) for one in rounded)
        own = own.detach().requires_grad_()
        step = KDStep(
            student_hidden=own,
            student_weight=weight,
            targets=targets.to(device),
            teachers=((taught, head),),
            vocabulary_size=300,
        )
        sums = objective(step).total
        sums.backward()
        assert own.grad is not None
        return float(sums), own.grad.cpu().double()

    (value, grad), (expected, slope) = total("cuda", dtype), total("cpu", torch.float64)
    assert value == pytest.approx(expected, rel=within)
    assert (grad - slope).norm() <= within * slope.norm()
