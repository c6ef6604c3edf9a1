"""Attempts on `kd-privacy audit`."""

from collections.abc import Iterator

from tests.siege.attempts import SECRET, Attempt

_ROWS = "".join(f'{{"instruction":"{SECRET} {i}","response":"b"}}\n' for i in range(4))
_FILES = {"a.jsonl": _ROWS, "b.jsonl": _ROWS.replace("b", "c"), "m/config.json": "{}"}
_SIDES = ("--members", "a.jsonl", "--nonmembers", "b.jsonl")


def _audit(says: str, *more: str, **other: str | bytes) -> Attempt:
    return Attempt(("audit", "m", *_SIDES, *more), says, {**_FILES, **other})


def audits() -> Iterator[tuple[str, Attempt]]:
    """Yields options and files."""
    alpaca = ("--template", "alpaca")
    yield "audit: a misspelt option", _audit("template", "--tempate", "alpaca")
    yield "audit: a configuration", _audit("takes no -c", "-c", "audits/external")
    yield "audit: no members", Attempt(("audit", "m"), "members")
    for name, sides in {
        "no such members": ("none.jsonl", "b.jsonl"),
        "no such non-members": ("a.jsonl", "none.jsonl"),
        "one file for both": ("a.jsonl", "a.jsonl"),
    }.items():
        given = ("audit", "m", "--members", sides[0], "--nonmembers", sides[1], *alpaca)
        yield f"audit: {name}", Attempt(given, r"none\.jsonl|a\.jsonl", _FILES)
    yield "audit: out is a file", _audit("--out", "--out", "a.jsonl")
    yield "audit: out is used", _audit("--force", "--out", "m")
    yield "audit: out is empty", _audit("--out", "--out", " ")
    yield "audit: an unknown attack", _audit("los", "--attacks", "los")
    gate = _audit(r"gate:? .*UTF-8|gate: not UTF-8", "--fail_if", "gate", gate=b"\xff")
    yield "audit: a gate that is no UTF-8", gate
    yield "audit: columns", _audit("columns", "--columns", "response")
    yield "audit: a column that is not there", _audit("answer", "--columns", "response=answer")
    for option, value in {
        "batch_size": "many",
        "max_records": "0",
        "max_tokens": "0",
        "max_prompt_tokens": "-1",
        "seed": "-1",
        "dtype": "float8",
        "score": "some",
        "device": "abacus",
    }.items():
        says = f"{option}|{value}".replace(".", r"\.")
        yield f"audit: {option} {value}", _audit(says, f"--{option}", value, *alpaca)
    yield "audit: batch size 0", _audit("batch_size", "--batch_size", "0", *alpaca)
    yield "audit: no tokenizer", _audit("tokenizer", *alpaca)
    yield (
        "audit: no such model",
        Attempt(("audit", "./none", *_SIDES, *alpaca, "--out", "o"), "none", _FILES),
    )
    yield "audit: counterfactual alone", _audit("--teacher", "--counterfactual", "m")
    broken = _ROWS.splitlines()[0] + f'\n{{"instruction": "{SECRET}'
    yield "audit: a broken line", _audit(r"a\.jsonl:2", *alpaca, **{"a.jsonl": broken})
