"""Tokens per second of sampling, ours against transformers' own, and how stable each way is.

`python benchmarks/sampling.py` writes `benchmarks/results/sampling.json` and a table beside it. A
GPT-2-shaped model of 6 blocks x 256, vocabulary 50,257, 8 prompts x 128 new tokens, with no end
token so that every way does the same work. The ways take turns, so that only ratios within one
round count; the figure is the median ratio over rounds.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel, PreTrainedModel

from kdmodules.sampling.generation_batches import Vocabulary, left_pad
from kdmodules.sampling.keyed_choice import RandomScope, keyed_choice, keyed_uniforms
from kdmodules.sampling.sampler import SamplingSettings, generate

VOCABULARY_SIZE = 50_257
PROMPTS = 8
NEW_TOKENS = 128
NO_END = VOCABULARY_SIZE  # an id that no model produces
RESULTS = Path(__file__).parent / "results"


def build_model() -> PreTrainedModel:
    """Return a seeded 6 x 256 GPT-2 whose logits spread like a trained model's (about 3 nats)."""
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=VOCABULARY_SIZE, n_embd=256, n_layer=6, n_head=8)
    model = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        model.transformer.ln_f.weight.mul_(9.0)
    return model


def build_prompts(vocabulary_size: int = VOCABULARY_SIZE) -> list[list[int]]:
    """Return prompts of 40 to 200 tokens, as Dolly's in the Alpaca template."""
    draw = np.random.default_rng(0)
    lengths = draw.integers(40, 200, size=PROMPTS)
    return [draw.integers(0, vocabulary_size, size=length).tolist() for length in lengths]


def ways(model: PreTrainedModel, prompts: list[list[int]]) -> dict[str, Callable[[], object]]:
    """Return what is timed, by name."""
    names = [f"record-{index}" for index in range(len(prompts))]
    vocabulary = Vocabulary(model.config.vocab_size, eos_id=NO_END, pad_id=0)
    ids, mask = left_pad(prompts, 0, model.device)

    def ours(settings: SamplingSettings) -> Callable[[], object]:
        scope = RandomScope(0, "benchmark")
        return lambda: generate(model, prompts, names, settings, vocabulary, scope)

    def theirs(sample: bool) -> Callable[[], object]:
        config = GenerationConfig(
            max_new_tokens=NEW_TOKENS,
            do_sample=sample,
            top_k=0 if sample else None,
            top_p=1.0 if sample else None,
            eos_token_id=None,
            pad_token_id=0,
        )
        return lambda: model.generate(ids, attention_mask=mask, generation_config=config)

    return {
        "generate, sampling": theirs(True),
        "ours, sampling": ours(SamplingSettings(max_new_tokens=NEW_TOKENS)),
        "generate, greedy": theirs(False),
        "ours, greedy": ours(SamplingSettings(decoding="greedy", max_new_tokens=NEW_TOKENS)),
        "ours, sampling, top-p 0.9": ours(SamplingSettings(max_new_tokens=NEW_TOKENS, top_p=0.9)),
    }


def time_ways(candidates: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Return each way's seconds per round; the ways take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for run in candidates.values():
        run()
    for _ in range(rounds):
        for name, run in candidates.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def inverse_choice(logits: Tensor, keys: Tensor, stream: int, dtype: torch.dtype) -> Tensor:
    """Draw by inverse cumulative distribution from the same keys, for comparison."""
    cumulative = logits.to(dtype).softmax(-1).cumsum(-1)
    uniform = keyed_uniforms(keys, stream, 1).to(dtype) * cumulative[:, -1:]
    return torch.searchsorted(cumulative, uniform).squeeze(-1)


def flips_per_text(draws: int) -> dict[str, float]:
    """Return how many of `NEW_TOKENS` tokens change when logits move by a relative 1e-6.

    That is the size of a float32 model's differences between batch compositions.
    """
    generator = torch.Generator().manual_seed(1)
    keys = RandomScope(0, "benchmark").keys([str(index) for index in range(PROMPTS)])
    choices: dict[str, Callable[[Tensor, int], Tensor]] = {
        "two-stage Gumbel-max": lambda x, s: keyed_choice(x, keys, s),
        "inverse CDF, float64": lambda x, s: inverse_choice(x, keys, s, torch.float64),
        "inverse CDF, float32": lambda x, s: inverse_choice(x, keys, s, torch.float32),
    }
    flips = dict.fromkeys(choices, 0)
    for stream in range(draws):
        logits = 3 * torch.randn(PROMPTS, VOCABULARY_SIZE, generator=generator)
        moved = logits * (1 + 1e-6 * torch.randn(logits.shape, generator=generator))
        for name, choose in choices.items():
            flips[name] += int((choose(logits, stream) != choose(moved, stream)).sum())
    return {name: NEW_TOKENS * count / (draws * PROMPTS) for name, count in flips.items()}


def table(report: dict[str, object], seconds: dict[str, list[float]]) -> str:
    """Return the report as Markdown."""
    base = seconds["generate, sampling"]
    lines = ["| Way | tokens/s | x generate's sampling |", "| --- | --- | --- |"]
    for name, times in seconds.items():
        rate = PROMPTS * NEW_TOKENS / statistics.median(times)
        ratio = statistics.median(b / t for b, t in zip(base, times, strict=True))
        lines.append(f"| {name} | {rate:.0f} | {ratio:.2f} |")
    lines += [
        "",
        "| Choice | tokens changed per text of 128 by 1e-6 on the logits |",
        "| --- | --- |",
    ]
    flips = report["flips_per_text"]
    if isinstance(flips, dict):
        lines += [f"| {name} | {count:.4f} |" for name, count in flips.items()]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Time, write and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--flip_draws", type=int, default=400)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    seconds = time_ways(ways(build_model(), build_prompts()), options.rounds)
    report: dict[str, object] = {
        "prompts": PROMPTS,
        "new_tokens": NEW_TOKENS,
        "threads": options.threads,
        "torch": torch.__version__,
        "seconds": seconds,
        "flips_per_text": flips_per_text(options.flip_draws),
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "sampling.json").write_text(json.dumps(report, indent=2) + "\n")
    text = table(report, seconds)
    (RESULTS / "sampling.md").write_text(text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
