"""Attempts on `kd-privacy fit` by configurations: fragments, and files that an option names."""

from collections.abc import Iterator

from tests.siege.attempts import SECRET, Attempt, bomb
from tests.siege.runs import TINY

_TWICE = "init_args:\n  seed: 1\n  seed: 2\n"


def named() -> Iterator[tuple[str, Attempt]]:
    """Yields files that stand for an option's value, and say another thing than they show."""
    for option in ("model", "data", "trainer", "model.network", "model.optimizer", "data.splits"):
        for name, content in {
            "a key twice": _TWICE,
            "an alias bomb": bomb(),
            "an anchor of itself": "a: &a [*a]\n",
            "a Python tag": "a: !!python/object/apply:os.system [touch ../pwned]\n",
        }.items():
            given = (*TINY, f"--{option}=own.yaml")
            yield f"--{option}: {name}", Attempt(given, r"own\.yaml", {"own.yaml": content})
    records = f'{{"instruction": "{SECRET}", "response": "{SECRET}"}}\n'
    for option in ("data", "model", "trainer", "model.network.config", "trainer.callbacks"):
        yield (
            f"--{option} is a file of records",
            Attempt((*TINY, f"--{option}=r.jsonl"), "instruction|network", {"r.jsonl": records}),
        )
    yield (
        "--model: no UTF-8",
        Attempt((*TINY, "--model=own.yaml"), "model", {"own.yaml": b"class_path: \xff\n"}),
    )
    within = {"own.yaml": "model: more.yaml\n", "more.yaml": _TWICE}
    yield (
        "a fragment that names a file with a key twice",
        Attempt((*TINY, "-c", "own.yaml"), r"more\.yaml:3", within),
    )


def typed() -> Iterator[tuple[str, Attempt]]:
    """Yields YAML on the command line itself."""
    network = "--model.network.config"
    for name, text in {
        "a key twice": "{n_layer: 1, n_layer: 2}",
        "a Python tag": "{n_layer: !!python/object/apply:os.system [touch ../pwned]}",
        "an anchor of itself": "{n_layer: &a [*a]}",
        "nested deep": "[" * 2000 + "]" * 2000,
    }.items():
        yield f"typed: {name}", Attempt((*TINY, f"{network}={text}"), "n_layer|nested|YAML")
    yield (
        "typed: -c of a key twice",
        Attempt((*TINY, "-c", "{data: {init_args: {seed: 1, seed: 2}}}"), "seed.*twice"),
    )
    yield "typed: -c of words", Attempt((*TINY, "-c", "no such thing"), "no such thing|-c")
    yield "a fragment that is a folder", Attempt((*TINY, "-c", "own"), "own", {"own/a.yaml": ""})


def places() -> Iterator[tuple[str, Attempt]]:
    """Yields names that nothing can have."""
    long = "a" * 300
    yield "a run folder's name too long", Attempt((*TINY, f"--run_dir={long}"), "run_dir|aaa")
    yield "a run folder of no user", Attempt((*TINY, "--run_dir=~nobody-here/x"), "nobody-here")
    yield (
        "a run folder in a file",
        Attempt((*TINY, "--run_dir=mine/run"), "mine", {"mine": "a"}),
    )
    yield (
        "a disk that is full",
        Attempt(TINY, r"File too large.*(starts anew|goes on)", room=60_000),
    )
    yield "a run folder in /proc", Attempt((*TINY, "--run_dir=/proc/mine/run"), "/proc")
    yield "a source's name too long", Attempt((*TINY, f"--data.source={long}.jsonl"), "aaa")
    yield "a source of no user", Attempt((*TINY, "--data.source=~nobody-here/a.csv"), "nobody")
    yield (
        "a source with a null byte",
        Attempt(
            (*TINY, "-c", "own.yaml"),
            "null byte",
            {"own.yaml": 'data:\n  init_args:\n    source: "a\\0b.jsonl"\n'},
        ),
    )
    yield "a template's name too long", Attempt((*TINY, f"--data.template={long}"), "aaa")
    yield "a checkpoint's name too long", Attempt((*TINY, f"--ckpt_path={long}"), "aaa|ckpt")
    yield "a checkpoint that is a folder", Attempt((*TINY, "--ckpt_path=own"), "own", {"own/a": ""})
    yield (
        "a model beside others of a folder here",
        Attempt((*TINY, "--model.network.source=runs/gone"), "runs/gone", {"runs/a": ""}),
    )
