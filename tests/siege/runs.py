"""Attempts on `kd-privacy fit`: values, records, files, words."""

import io
from collections.abc import Iterator, Mapping

import pyarrow as pa
import pyarrow.parquet as pq

from tests.siege.attempts import SECRET, Attempt, bomb

TINY = (
    *("fit", "-c", "base/teacher", "-c", "data/builtin", "-c", "families/gpt2-tiny"),
    *("--data.n_records=160", "--data.vocabulary=300", "--trainer.max_steps=1"),
    *("--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--run_dir=run"),
)
"""A fit of a second; what follows is laid over it."""


def value(option: str, given: object, says: str | None = None) -> tuple[str, Attempt]:
    """An option of the tiny fit with a value that nobody can mean; its last name is told."""
    name = option.rpartition(".")[2]
    return f"{option}={given}"[:60], Attempt((*TINY, f"--{option}={given}"), says or name)


def values() -> Iterator[tuple[str, Attempt]]:
    """Yields values out of their ranges."""
    for given in ("nan", "-0.1", "1.5", "inf"):
        yield value("data.splits.fractions.private", given, "private|fractions")
    for given in ("nan", "-1", "inf"):
        yield value("model.optimizer.weight_decay", given)
        yield value("model.optimizer.warmup_steps", given, "warmup")
    for given in ("nan", "-1"):
        yield value("trainer.gradient_clip_val", given)
    for given in ("nan", "inf", "-1e-3", "1e9"):
        yield value("model.optimizer.lr", given)
    for given in ("0", "-1"):
        yield value("model.network.config.n_layer", given)
        yield value("data.batch_size", given)
        yield value("trainer.accumulate_grad_batches", given)
        yield value("data.n_records", given)
        yield value("data.max_tokens", given)
        yield value("data.max_prompt_tokens", given)
        yield value("trainer.max_steps", given)
        yield value("trainer.check_val_every_n_epoch", given)
    yield value("recovery.save_every_n_steps", "-1")
    yield value("trainer.log_every_n_steps", "-1")
    yield value("trainer.max_epochs", "0")
    yield value("trainer.max_epochs", "-5")
    yield (
        "no limit at all",
        Attempt(
            (*TINY, "--trainer.max_steps=-1", "--trainer.max_epochs=-1"), "max_epochs|max_steps"
        ),
    )
    for name in ("resid_pdrop", "embd_pdrop", "attn_pdrop"):
        yield value(f"model.network.config.{name}", "1.5")
    yield value("model.network.config.n_head", "3")
    yield value("model.network.config.n_head", "0")
    yield value("model.network.config.n_embd", "0")
    yield value("model.network.config.n_embd", "-8")
    yield value("model.network.config.n_positions", "0")
    yield value("model.network.config.activation_function", "gloo")
    yield value("model.network.config.n_lajer", "3")
    yield value("trainer.accelerator", "abacus")
    yield value("trainer.strategy", "conquest")
    yield value("trainer.devices", "0")
    yield value("trainer.devices", "-3")
    yield value("trainer.precision", "7")
    yield value("threads", "0")
    yield value("threads", "-1")
    yield value("seed_everything", "-1")
    yield value("seed_everything", "1099511627776")
    yield value("data.vocabulary", "1000000000")
    yield value("data.vocabulary", "0")
    yield value("data.vocabulary", "5")
    yield value("data.source", "", "source")
    yield value("data.source", "null", "source")
    yield value("data.pseudonymise", "ture")
    yield value("data.pseudonymise", "")
    yield value("data.template", "jinja")
    yield value("run_dir", "", "run_dir")
    yield value("run.role", "king")
    yield value("data.tokenizer", "", "tokenizer")
    yield value("audits.every_n_validations", "-2")
    yield value("trainer.limit_val_batches", "-1")
    yield value("trainer.val_check_interval", "0")
    yield value("trainer.limit_train_batches", "0")
    audit = (*TINY, "-c", "audits/membership")
    for name in ("batch_size", "max_batch_tokens", "max_records"):
        given = (*audit, f"--trainer.callbacks.{name}=0")
        yield f"an audit of {name} 0", Attempt(given, name)
    yield value("threads", "1000000")
    yield value("data.num_workers", "1000000")
    yield value("trainer.devices", "1000000")
    yield value("model.network.config.n_embd", "4000000", "weights|n_embd")
    yield value("model.optimizer.betas", "[0.9, 1.0]")
    yield value("model.optimizer.final_lr", "inf")
    yield value("data.splits.roles.audit", "nan", "roles")
    yield value("data.splits.near_duplicate_threshold", "nan")
    yield value("recovery.save_every_n_steps", "1.5")


def tables() -> Iterator[tuple[str, Attempt]]:
    """Yields files that are not what they seem."""
    long = f'{{"instruction": "{SECRET}", "response": "{SECRET}"}}\n'
    source = (*TINY, "--data.source=records.jsonl")
    yield (
        "JSON nested deep",
        Attempt(source, r"records\.jsonl", {"records.jsonl": long + "[" * 200_000 + "]" * 200_000}),
    )
    yield (
        "5,000 digits",
        Attempt(
            source,
            r"records\.jsonl",
            {"records.jsonl": f'{{"instruction":"a","response":"b","id":{"9" * 5000}}}\n{long}'},
        ),
    )
    yield (
        "no header",
        Attempt(
            (*TINY, "--data.source=records.csv"),
            r"records\.csv",
            {"records.csv": f"{SECRET} one,{SECRET} two\n{SECRET} three,{SECRET} four\n"},
        ),
    )
    yield (
        "swapped columns",
        Attempt(
            (*TINY, "--data.source=records.csv"),
            r"records\.csv",
            {"records.csv": f"{SECRET} one,response\nx,y\n"},
        ),
    )
    yield (
        "duplicate ids",
        Attempt(
            source,
            r"records\.jsonl",
            {
                "records.jsonl": "".join(
                    f'{{"instruction":"a{i}","response":"b","id":"{SECRET}@mail.org"}}\n'
                    for i in range(3)
                )
            },
        ),
    )
    yield (
        "a key of pseudonyms that is none",
        Attempt(
            (*TINY, "--data.pseudonymise=mine.key"),
            r"mine\.key: holds no key",
            {"mine.key": SECRET},
        ),
    )
    yield (
        "zero-width instruction",
        Attempt(
            source,
            r"records\.jsonl",
            {"records.jsonl": '{"instruction":"\\u200b","response":"b"}\n' * 30},
        ),
    )
    yield (
        "duplicate JSON keys",
        Attempt(
            source,
            r"records\.jsonl:1",
            {"records.jsonl": f'{{"instruction":"a","instruction":"{SECRET}","response":"b"}}\n'},
        ),
    )
    yield (
        "an invalid Parquet file",
        Attempt(
            (*TINY, "--data.source=r.parquet"), r"r\.parquet", {"r.parquet": b"PAR1\xff\xfePAR1"}
        ),
    )
    for name, table in parquet_files().items():
        arguments = (*TINY, "--data.source=r.parquet")
        yield f"Parquet: {name}", Attempt(arguments, r"r\.parquet", {"r.parquet": table})
    for name, line in chats().items():
        yield f"chat: {name}", Attempt(source, r"records\.jsonl:1", {"records.jsonl": line})
    header = f"{SECRET} " * 40_000
    yield (
        "CSV of one long cell",
        Attempt((*TINY, "--data.source=r.csv"), r"r\.csv", {"r.csv": header}),
    )
    yield "an empty file", Attempt(source, r"records\.jsonl", {"records.jsonl": ""})
    yield (
        "a folder of nothing",
        Attempt((*TINY, "--data.source=empty"), "empty", {"empty/.keep": ""}),
    )
    yield "no such file", Attempt((*TINY, "--data.source=nowhere.jsonl"), r"nowhere\.jsonl")
    yield "no such folder", Attempt((*TINY, "--data.source=./nowhere"), "nowhere")
    for column in ("instruction", "response"):
        yield (
            f"JSON key of private text ({column})",
            Attempt(
                source,
                r"records\.jsonl:1",
                {"records.jsonl": f'{{"{SECRET} says": 1, "{column}": 2}}\n'},
            ),
        )


def parquet_files() -> Mapping[str, bytes]:
    """Returns tables that Parquet takes and no record is made of."""
    offsets = pa.array([0, 2, 4], pa.int32()).buffers()[1]
    broken = pa.StringArray.from_buffers(2, offsets, pa.py_buffer(b"\xff\xfeok"))
    texts, late = pa.array([SECRET, "b"]), pa.array([10**18, 1], pa.timestamp("us"))
    return {
        name: _written(pa.table(columns, names=names))
        for name, columns, names in (
            ("text that is no UTF-8", [broken, texts], ["instruction", "response"]),
            ("a column twice", [texts] * 3, ["instruction", "response", "response"]),
            ("a time beyond the calendar", [texts, texts, late], ["instruction", "response", "id"]),
            ("numbers for text", [pa.array([1, 2]), texts], ["instruction", "response"]),
        )
    }


def _written(table: pa.Table) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file)
    return file.getvalue()


def chats() -> Mapping[str, str]:
    """Returns lines of JSON whose conversation is none."""
    asked = f'{{"role": "user", "content": "{SECRET}"}}'
    turns = f'[{asked}, {{"role": "assistant", "content": "b"}}]'
    deep = "[" * 900 + "]" * 900
    return {
        "JSON within, nested deep": f'{{"messages": "{"[" * 100_000}"}}\n',
        "JSON within, of 5,000 digits": f'{{"messages": "[{"9" * 5000}]"}}\n',
        "JSON within, a key twice": '{"messages": "[{\\"role\\": 1, \\"role\\": 2}]"}\n',
        "tools nested deep": f'{{"messages": {turns}, "tools": [{{"a": {deep}}}]}}\n',
        "half a surrogate pair": f'{{"messages": {turns.replace("b", chr(92) + "ud800")}}}\n',
        "no assistant": f'{{"messages": [{asked}]}}\n',
        "messages of one text": f'{{"messages": "{SECRET}"}}\n',
    }


def files() -> Iterator[tuple[str, Attempt]]:
    """Yields configurations, run folders and checkpoints."""
    own = (*TINY, "-c", "own.yaml")
    yield (
        "a fragment that is no UTF-8",
        Attempt(own, r"own\.yaml", {"own.yaml": b"data:\n  \xff\xfe"}),
    )
    yield (
        "duplicate YAML keys",
        Attempt(own, r"own\.yaml", {"own.yaml": "data:\n  init_args:\n    seed: 1\n    seed: 2\n"}),
    )
    yield "an alias bomb", Attempt(own, r"own\.yaml", {"own.yaml": bomb()})
    yield "an anchor of itself", Attempt(own, r"own\.yaml", {"own.yaml": "a: &a [*a]\n"})
    yield (
        "a Python tag",
        Attempt(
            own,
            r"own\.yaml",
            {"own.yaml": "data: !!python/object/apply:os.system [touch ../pwned]\n"},
        ),
    )
    yield "a tab in YAML", Attempt(own, r"own\.yaml", {"own.yaml": "data:\n\tinit_args: 1\n"})
    yield "a list for a mapping", Attempt(own, r"own\.yaml", {"own.yaml": "- 1\n- 2\n"})
    yield "an empty fragment", Attempt(own, r"own\.yaml", {"own.yaml": ""})
    yield (
        "a fragment without base",
        Attempt(("fit", "-c", "audits/membership", "--run_dir=run"), "model|base"),
    )
    yield "a run folder that is a file", Attempt(TINY, "run", {"run": "mine"})
    yield "a used run folder", Attempt(TINY, "run", {"run/results.parquet": b"mine"})
    yield (
        "a checkpoint cut short",
        Attempt(
            (*TINY, "--ckpt_path=last"),
            r"last\.ckpt",
            {"run/checkpoints/last.ckpt": b"PK\x03\x04cut"},
        ),
    )
    yield (
        "a pickle that runs code",
        Attempt(
            (*TINY, "--ckpt_path=bad.ckpt"),
            r"bad\.ckpt",
            {"bad.ckpt": b"cos\nsystem\n(S'touch pwned'\ntR."},
        ),
    )
    yield "no such checkpoint", Attempt((*TINY, "--ckpt_path=no.ckpt"), r"no\.ckpt")
    yield "weights_only switched off", Attempt((*TINY, "--weights_only=false"), "weights_only")


def words() -> Iterator[tuple[str, Attempt]]:
    """Yields commands that are none."""
    yield "an unknown command", Attempt(("trane",), "fit, validate, audit, show, attack")
    yield "no command", Attempt((), "fit, validate, audit, show, attack")
    yield "an unknown option", Attempt((*TINY, "--data.bach_size=3"), "batch_size")
    yield "an unknown class", Attempt((*TINY, "--model=Studnt"), "Studnt")
    yield "an unknown fragment", Attempt(("fit", "-c", "base/taecher"), "taecher.*teacher")
    student = ("fit", "-c", "base/student", "-c", "data/builtin", "-c", "families/gpt2-tiny")
    more = ("-c", "techniques/kd", "--run_dir=run", "--data.n_records=160", "--data.vocabulary=300")
    more = (*more, "--trainer.max_steps=1", "--trainer.accelerator=cpu")
    yield "no teacher", Attempt((*student, *more), "teacher")
    yield "an empty list of teachers", Attempt((*student, *more, "--model.teacher=[]"), "teacher")
    yield "a missing teacher", Attempt((*student, *more, "--model.teacher=./gone"), "gone")
