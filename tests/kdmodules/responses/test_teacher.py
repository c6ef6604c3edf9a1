"""The teacher's text: sampled once, kept under the hash of what it depends on, never stale."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from transformers import PreTrainedTokenizerFast

from common.errors import UserError
from datamodules.batches import EncodedRecord
from kdmodules.models.weights_hash import weights_hash
from kdmodules.responses import TeacherResponses
from kdmodules.sampling.keyed_choice import RandomScope, keyed_choice
from kdmodules.sampling.sampler import SamplingSettings, generate
from tests.kdmodules.responses.conftest import (
    MakeContext,
    batch_of,
    prompts,
    random_records,
    scored,
    tiny,
)

SAMPLING = SamplingSettings(max_new_tokens=8)


def texts(source: TeacherResponses, records: list[EncodedRecord], context) -> dict:
    return scored(source.replace(batch_of(records), context))


def test_every_record_gets_the_teachers_text(make_context: MakeContext) -> None:
    records = [*random_records(7), random_records(1)[0]]
    context = make_context(records)
    source = TeacherResponses(SAMPLING, sampling_batch_size=3)
    source.prepare(context)
    batch = batch_of(records[2:5])
    replaced = source.replace(batch, context)
    assert prompts(replaced) == [record.prompt_ids for record in records[2:5]]
    scope = RandomScope(0, "teacher responses")
    teacher = context.teachers[0].model
    for record in records[2:5]:
        alone = generate(
            teacher, [record.prompt_ids], [record.record_id], SAMPLING, context.vocabulary, scope
        )[0]
        assert scored(replaced)[record.record_id] == alone.token_ids
    filler = EncodedRecord("", "open_qa", (5, 6), (), False, False)
    assert texts(source, [filler], context) == {"": ()}


def test_the_file_is_reused(make_context: MakeContext, monkeypatch: pytest.MonkeyPatch) -> None:
    records = random_records(5)
    context = make_context(records)
    first = TeacherResponses(SAMPLING)
    first.prepare(context)
    folder = context.private_folder
    (path,) = folder.iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert path.stat().st_mode & 0o777 == 0o600
    monkeypatch.setattr(TeacherResponses, "_sample", None)
    second = TeacherResponses(SAMPLING)
    second.prepare(make_context(records[::-1]))
    assert texts(second, records, context) == texts(first, records, context)


def test_nothing_is_ever_stale(
    make_context: MakeContext, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    records = random_records(5)
    context = make_context(records)
    source = TeacherResponses(SAMPLING)
    own = source.path(records, context)
    other_prompt = [replace(records[0], prompt_ids=(9, 9)), *records[1:]]
    others = [
        source.path(other_prompt, context),
        source.path(records[:4], context),
        source.path(records, replace(context, seed=1)),
        source.path(records, replace(context, teachers=(tiny(tokenizer, 3),))),
        TeacherResponses(SamplingSettings(max_new_tokens=7)).path(records, context),
    ]
    assert len({own, *others}) == 6
    with torch.no_grad():
        next(context.teachers[0].model.parameters())[3, 5] += 1e-3
    assert source.path(records, context) != own
    shared = TeacherResponses(SAMPLING, cache_folder=str(tmp_path / "shared"))
    assert shared.path(records, context).parent == tmp_path / "shared"


def test_the_hash_sees_the_configuration(tokenizer: PreTrainedTokenizerFast) -> None:
    lm = tiny(tokenizer, 1)
    before = weights_hash(lm)
    lm.model.config._name_or_path = "elsewhere"
    assert weights_hash(lm) == before == weights_hash(tiny(tokenizer, 1))
    lm.model.config.layer_norm_epsilon = 1e-3
    assert weights_hash(lm) != before


def test_an_ensemble_answers_every_prompt_as_one(
    make_context: MakeContext, tokenizer: PreTrainedTokenizerFast
) -> None:
    records = random_records(6)
    teachers = (tiny(tokenizer, 2), tiny(tokenizer, 3))
    context = make_context(records, teachers=teachers)
    source = TeacherResponses(SAMPLING)
    source.prepare(context)
    found, by_one = texts(source, records, context), 0
    for record in records:
        ids, keys = (
            list(record.prompt_ids),
            RandomScope(0, "teacher responses").keys([record.record_id]),
        )
        for position, token in enumerate(found[record.record_id]):
            with torch.no_grad():
                logits = [t.model(torch.tensor([ids])).logits[:, -1].double() for t in teachers]
            mean = torch.stack(logits).softmax(-1).mean(0)
            assert int(keyed_choice(mean.log(), keys, stream=position)) == token
            by_one += int(keyed_choice(logits[0], keys, stream=position)) == token
            ids.append(token)
    assert by_one < sum(map(len, found.values()))


def test_every_teacher_counts_for_the_file(
    make_context: MakeContext, tokenizer: PreTrainedTokenizerFast
) -> None:
    records, source = random_records(3), TeacherResponses(SAMPLING)
    first, second, third = (tiny(tokenizer, seed) for seed in (2, 3, 4))
    ensembles = [(first,), (second,), (first, second), (first, third), (first, second, third)]
    paths = {
        source.path(records, make_context(records, teachers=teachers)) for teachers in ensembles
    }
    assert len(paths) == len(ensembles)
    context = make_context(records, teachers=(first, second))
    before = source.path(records, context)
    with torch.no_grad():
        next(second.model.parameters())[3, 5] += 1e-3
    assert source.path(records, context) != before


def test_an_ensemble_without_members_or_with_beams_is_refused(
    make_context: MakeContext, tokenizer: PreTrainedTokenizerFast
) -> None:
    records = random_records(3)
    with pytest.raises(UserError, match=r"model.teacher names no teacher"):
        TeacherResponses(SAMPLING).prepare(make_context(records, teachers=()))
    pair = (tiny(tokenizer, 2), tiny(tokenizer, 3))
    with pytest.raises(UserError, match="beam search decodes one teacher"):
        TeacherResponses(SamplingSettings("beam", max_new_tokens=8)).prepare(
            make_context(records, teachers=pair)
        )


def test_a_broken_file_is_named(make_context: MakeContext) -> None:
    records = random_records(3)
    context = make_context(records)
    source = TeacherResponses(SAMPLING)
    path = source.path(records, context)
    path.parent.mkdir()
    path.write_bytes(b"no parquet")
    with pytest.raises(UserError, match="delete it to sample anew"):
        source.prepare(context)


def test_secret_draws_follow_the_teachers_and_no_seed(
    make_context: MakeContext, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    """The mean of two models' softmax is met by the frequencies of 2,000 first tokens."""
    first = random_records(1)[0]
    records = [replace(first, record_id=f"r{number}") for number in range(2000)]
    teachers = (tiny(tokenizer, 2), tiny(tokenizer, 3))
    one_token = SamplingSettings(max_new_tokens=1, temperature=0.2)
    found = []
    for folder in ("first", "again"):
        context = make_context(records, teachers=teachers)
        source = TeacherResponses(one_token, 500, str(tmp_path / folder), secret_draws=True)
        source.prepare(context)
        found.append(texts(source, records, context))
        assert source.path(records, context) == source.path(records, replace(context, seed=9))
    assert found[0] != found[1]
    with torch.no_grad():
        inputs = torch.tensor([first.prompt_ids])
        logits = [one.model(inputs).logits[0, -1, : len(tokenizer)].double() for one in teachers]
    expected = 2000 * torch.stack(logits).div(0.2).softmax(-1).mean(0).numpy()
    counts = np.bincount([tokens[0] for tokens in found[0].values()], minlength=len(expected))
    common = expected >= 5
    observed = np.append(counts[common], counts[~common].sum())
    means = np.append(expected[common], expected[~common].sum())
    assert common.sum() >= 3
    assert stats.chisquare(observed, means).pvalue > 1e-6
    with pytest.raises(UserError, match=r"secret_draws draws every token from the whole"):
        TeacherResponses(SamplingSettings(top_k=5), secret_draws=True)
