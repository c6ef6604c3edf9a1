"""Training on conversations: every turn of the assistant is scored, and the last is rewritten."""

import json
from pathlib import Path

import pytest
import torch
from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

from datamodules.batches import RecordEncoder, collate
from datamodules.templates import chosen_template
from kdmodules.models.causal_lm import CausalLM
from kdmodules.responses.rewriting import records_of, replace_responses
from kdmodules.sampling.generation_batches import Vocabulary
from kdmodules.sampling.keyed_choice import RandomScope
from kdmodules.sampling.sampler import SamplingSettings, generate_responses
from kdmodules.token_means import supervised_sums
from tests.audits.test_chats import network, rows
from tests.datamodules import chat_models as models
from tests.datamodules.chat_models import messages_of


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return models.chat_tokenizer(models.CHATML)


def encoder_of(tokenizer: PreTrainedTokenizerFast, **options: object) -> RecordEncoder:
    talks = [messages_of(row["messages"], row["id"]) for row in rows(0, 4)]
    return RecordEncoder(tokenizer, chosen_template(None, talks, tokenizer), **options)


def test_the_loss_is_over_every_turn_and_the_last_is_rewritten(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    talks = [messages_of(row["messages"], row["id"]) for row in rows(0, 4)]
    encoded = encoder_of(tokenizer).encode_all(talks)
    batch = collate(encoded, tokenizer.pad_token_id)
    assert [one.response_ids for one in records_of(batch)] == [one.response_ids for one in encoded]
    assert [one.scored for one in records_of(batch)] == [one.scored for one in encoded]
    model = network(tokenizer)
    sums = supervised_sums(CausalLM(model, len(tokenizer)), batch=batch)
    expected, n = 0.0, 0
    for one in encoded:
        ids = [*one.prompt_ids, *one.response_ids]
        logp = model.double()(torch.tensor([ids])).logits[0].log_softmax(-1)
        for place, flag in enumerate(one.scored, start=len(one.prompt_ids)):
            expected -= float(logp[place - 1, ids[place]].detach()) * flag
            n += flag
    assert float(sums["loss"].detach()) == pytest.approx(expected, rel=1e-4)
    assert int(sums["tokens"]) == n
    # A response source writes behind everything before the last turn, and only that is scored.
    other = replace_responses(batch, {1: [5, 6, 7]}, tokenizer.pad_token_id)
    kept, changed = (records_of(other)[place] for place in (0, 1))
    assert kept.scored == encoded[0].scored
    assert (changed.prompt_ids, changed.response_ids) == (
        encoded[1].last_turn.prompt_ids,
        (5, 6, 7),
    )
    ends = tokenizer.decode(changed.prompt_ids)
    assert ends.endswith("<|im_start|>user\nof the blue<|im_end|>\n<|im_start|>assistant\n")


def test_any_of_three_ends_ends_a_response(tokenizer: PreTrainedTokenizerFast) -> None:
    model = network(tokenizer)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4.0)
    encoded = encoder_of(tokenizer).encode_last(
        [messages_of(row["messages"], row["id"]) for row in rows(0, 6)]
    )
    settings = SamplingSettings(max_new_tokens=12)
    scope = RandomScope(0, "ends")

    def written(vocabulary: Vocabulary) -> list[tuple[tuple[int, ...], bool]]:
        found = generate_responses(model, encoded, settings, vocabulary, scope)
        return [(one.token_ids, one.ended) for one in found]

    encoder = encoder_of(tokenizer)
    model.generation_config.eos_token_id = None
    known = Vocabulary.of(len(tokenizer), encoder, model)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert known.ends == [tokenizer.eos_token_id, end]
    free = written(known)
    others = [free[0][0][4], free[1][0][6]]
    model.generation_config.eos_token_id = [*others, len(tokenizer) + 3]
    three = Vocabulary.of(len(tokenizer), encoder, model)
    assert three.ends == [*known.ends, *dict.fromkeys(others)]
    expected = []
    for ids, ended in free:
        stops = [place for place, token in enumerate(ids) if token in others]
        expected.append((ids[: stops[0] + 1], True) if stops else (ids, ended))
    assert expected != free
    assert written(three) == expected


@pytest.fixture
def place(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> Path:
    lines = [json.dumps(row) for side in range(8) for row in rows(side)]
    (tmp_path / "chats.jsonl").write_text("\n".join(lines))
    network(tokenizer).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path


def command(place: Path, *more: str) -> list[str]:
    """A fit of two steps on conversations."""
    return [
        "fit",
        *("-c", "trainers/cpu.yaml"),
        "--data=datamodules.InstructionDataModule",
        f"--data.source={place / 'chats.jsonl'}",
        f"--data.tokenizer={place / 'model'}",
        "--data.splits.min_records=1",
        "--data.max_tokens=160",
        "--data.max_prompt_tokens=100",
        "--trainer.max_steps=2",
        "--trainer.enable_progress_bar=false",
        "--data.batch_size=4",
        *more,
    ]


@pytest.mark.slow
def test_a_teacher_and_students_train_on_conversations(place: Path) -> None:
    from kd_privacy.cli import main

    start = f"--model.network.source={place / 'model'}"
    main(command(place, "-c", "base/teacher.yaml", start, f"--run_dir={place / 'teacher'}"))
    for name in ("kd", "gkd"):
        student = ["-c", "base/student.yaml", "-c", f"techniques/{name}.yaml", start]
        teacher = f"--model.teacher={place / 'teacher' / 'export'}"
        more = [] if name == "kd" else ["--model.responses.sampling.max_new_tokens=20"]
        main(command(place, *student, teacher, *more, f"--run_dir={place / name}"))
        exported = GPT2LMHeadModel.from_pretrained(place / name / "export")
        # Whoever generates with it stops at the template's own end.
        tokenizer = models.chat_tokenizer(models.CHATML)
        end = tokenizer.convert_tokens_to_ids("<|im_end|>")
        assert exported.generation_config.eos_token_id == [tokenizer.eos_token_id, end]
