"""Translators equal a plain float64 computation, and are kept only where they help."""

import pytest
import torch
from sklearn.linear_model import Ridge
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from audits.blocks.signals.tuned_lens import development_streams
from audits.blocks.translators import LensText, Translator, fit_translator, lens_divergence
from common.keys import torch_generator
from datamodules.records import InstructionRecord
from kdmodules.losses import NonFiniteLossError
from kdmodules.models.anatomy import final_norm, head_inputs
from kdmodules.models.causal_lm import CausalLM
from tests.audits.blocks.conftest import access_of, record, tiny

Tokenizer = PreTrainedTokenizerFast
Records = list[InstructionRecord]
WORDS = "the cat sat on a mat and 21 dogs saw it from far".split()


def random_records(n: int, seed: int = 0, first: int = 0) -> Records:
    """Records whose responses are ten random words."""
    draw = torch.Generator().manual_seed(seed)
    return [
        record(first + i, WORDS[i % 7], " ".join(WORDS[place] for place in places))
        for i, places in enumerate(torch.randint(len(WORDS), (n, 10), generator=draw).tolist())
    ]


def plain_divergence(lm: CausalLM, stream: Tensor, last: Tensor) -> Tensor:
    """Mean KL(model || lens), token by token, by the model's own norm and head."""
    head = lm.model.get_output_embeddings()
    found = []
    for one, own in zip(stream, last, strict=True):
        rows = (head(head_inputs(lm.model, row)) for row in (one, own))
        q, p = (row[: lm.vocabulary_size].log_softmax(-1) for row in rows)
        found.append((p.exp() * (p - q)).sum())
    return torch.stack(found).mean()


def random_translator(width: int, dtype: torch.dtype, size: float = 0.3) -> Translator:
    draw = torch.Generator().manual_seed(4)
    matrix, bias, centre = (
        size * torch.randn(*shape, generator=draw, dtype=torch.float64).to(dtype)
        for shape in ((width, width), (width,), (width,))
    )
    return Translator(matrix / width**0.5, bias, centre)


@torch.no_grad()
def text_of(lm: CausalLM, tokenizer: Tokenizer, records: Records) -> LensText:
    access = access_of(lm.model, tokenizer)
    streams = development_streams(access, access.encoder.encode_all(records), [0, 1])
    return LensText(streams[0], streams[1])


def test_divergence_and_gradient_equal_a_loop_over_tokens(
    any_model: PreTrainedModel, tokenizer: Tokenizer
) -> None:
    lm = access_of(any_model.double(), tokenizer).lm
    text = text_of(lm, tokenizer, random_records(2))
    width = text.stream.shape[1]
    found, expected = [], []
    for divergence, values in (
        (lambda seen: lens_divergence(lm, seen, head_inputs(lm.model, text.last).detach()), found),
        (lambda seen: plain_divergence(lm, seen, text.last), expected),
    ):
        translator = random_translator(width, torch.float64)
        leaves = [translator.matrix.requires_grad_(), translator.bias.requires_grad_()]
        loss = divergence(translator(text.stream))
        values += [loss, *torch.autograd.grad(loss, leaves)]
    assert expected[0] > 1e-4
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)


def test_streams_are_those_of_every_record_by_itself(
    any_model: PreTrainedModel, tokenizer: Tokenizer, few_records: Records
) -> None:
    access = access_of(any_model, tokenizer, batch_size=3)
    encoded = access.encoder.encode_all(few_records)
    found = development_streams(access, encoded, [1])
    single = [development_streams(access, [one], [1])[1] for one in encoded]
    assert set(found) == {1}
    assert len(found[1]) == sum(len(one.response_ids) for one in encoded)
    torch.testing.assert_close(found[1], torch.cat(single), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_without_descent_the_best_regression_is_kept(tokenizer: Tokenizer) -> None:
    lm = access_of(tiny("gpt2", tokenizer).double(), tokenizer).lm
    fit = text_of(lm, tokenizer, random_records(8))
    held_out = text_of(lm, tokenizer, random_records(2, seed=1))
    found = fit_translator(lm, fit, held_out, 0, torch_generator(0))
    inputs, before = fit.stream - fit.stream.mean(dim=0), fit.stream.std(dim=0, correction=0)
    behind = fit.last.std(dim=0, correction=0)
    maps = []
    for ridge in (0.001, 0.01, 0.1, 1.0):
        model = Ridge(alpha=ridge * len(inputs), tol=1e-12)
        model.fit(inputs / before, (fit.last - fit.stream) / behind)
        matrix = behind[:, None] * torch.tensor(model.coef_) / before
        moved = (held_out.stream - fit.stream.mean(dim=0)) @ matrix.T
        seen = held_out.stream + moved + behind * torch.tensor(model.intercept_)
        maps.append((float(plain_divergence(lm, seen, held_out.last)), matrix))
    divergence, matrix = min(maps, key=lambda one: one[0])
    assert found.kl_tuned == pytest.approx(divergence)
    torch.testing.assert_close(found.translator.matrix, matrix)
    plain = float(plain_divergence(lm, held_out.stream, held_out.last))
    assert found.kl_plain == pytest.approx(plain)
    assert divergence < plain


def test_descent_lowers_the_divergence_further(tokenizer: Tokenizer) -> None:
    model = tiny("gpt2", tokenizer)
    with torch.no_grad():
        final_norm(model).weight *= 30  # predictions as sharp as a trained model's
    lm = access_of(model, tokenizer).lm
    text = text_of(lm, tokenizer, random_records(40))
    none, some = (fit_translator(lm, text, text, n, torch_generator(0)) for n in (0, 4))
    assert some.kl_plain == none.kl_plain > 1
    assert some.kl_tuned < 0.9 * none.kl_tuned
    seen = some.translator(text.stream)
    expected = plain_divergence(lm, seen, text.last).item()
    assert some.kl_tuned == pytest.approx(expected, rel=1e-4)
    assert not some.translator.matrix.requires_grad


def test_the_plain_lens_is_a_start_and_stays_where_nothing_is_better(tokenizer: Tokenizer) -> None:
    lm = access_of(tiny("opt", tokenizer), tokenizer).lm
    text = text_of(lm, tokenizer, random_records(4))
    same = LensText(text.last, text.last)
    found = fit_translator(lm, same, same, 1, torch_generator(0))
    assert found.kl_plain == found.kl_tuned == 0.0
    assert torch.equal(found.translator(text.stream), text.stream)
    # Five positions and a width of 16: what is fitted to them says nothing of another text.
    few = LensText(text.stream[:5], text.last[:5].flip(0))
    held_out = text_of(lm, tokenizer, random_records(2, seed=1))
    kept = fit_translator(lm, few, held_out, 2, torch_generator(0))
    assert kept.kl_tuned <= kept.kl_plain


def test_a_translator_keeps_the_streams_type() -> None:
    stream = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    translator = random_translator(4, torch.float32)
    found = translator(stream.bfloat16())
    assert found.dtype == torch.bfloat16
    expected = stream.bfloat16().float()
    expected = expected + (expected - translator.centre) @ translator.matrix.T + translator.bias
    torch.testing.assert_close(found, expected.bfloat16())


def test_a_stream_that_is_no_number_is_refused(tokenizer: Tokenizer) -> None:
    lm = access_of(tiny("llama", tokenizer), tokenizer).lm
    text = text_of(lm, tokenizer, random_records(2))
    broken = LensText(text.stream, text.last * torch.nan)
    with pytest.raises(NonFiniteLossError, match="not a number"):
        fit_translator(lm, text, broken, 0, torch_generator(0))
