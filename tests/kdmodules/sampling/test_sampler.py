"""Decoding against a naive loop without cache or padding, on tiny random models of each family."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from scipy import stats
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    PreTrainedModel,
)

from common.errors import UserError
from datamodules.encoding import EncodedRecord
from kdmodules.sampling.generation_batches import Vocabulary, cut_at_end, inference_state, left_pad
from kdmodules.sampling.keyed_choice import RandomScope, keyed_choice, sampling_scores
from kdmodules.sampling.sampler import (
    GeneratedResponse,
    SamplingSettings,
    generate,
    generate_responses,
)

TOKENS = 61
EOS = 2
SCOPE = RandomScope(seed=3, purpose="test")


def gpt2() -> PreTrainedModel:
    config = GPT2Config(vocab_size=TOKENS, n_positions=64, n_embd=16, n_layer=2, n_head=2)
    return GPT2LMHeadModel(config)


def opt() -> PreTrainedModel:
    config = OPTConfig(
        vocab_size=TOKENS,
        hidden_size=16,
        word_embed_proj_dim=16,
        num_hidden_layers=2,
        ffn_dim=32,
        num_attention_heads=2,
        max_position_embeddings=64,
    )
    return OPTForCausalLM(config)


def llama() -> PreTrainedModel:
    config = LlamaConfig(
        vocab_size=TOKENS,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
    )
    return LlamaForCausalLM(config)


FAMILIES = [gpt2, opt, llama]


def build(family: Callable[[], PreTrainedModel], scale: float = 8.0) -> PreTrainedModel:
    """A seeded model whose head is scaled up, so that its distributions are far from uniform."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = family()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(scale)
    return model.eval()


def make_prompts(count: int, longest: int = 12) -> list[list[int]]:
    generator = np.random.default_rng(5)
    return [
        # Prompts hold eos and padding ids: neither may matter.
        [0, EOS, *generator.integers(0, TOKENS, size=generator.integers(1, longest)).tolist()]
        for _ in range(count)
    ]


def names(count: int) -> list[str]:
    return [f"record-{index}" for index in range(count)]


def encode(prompts: Sequence[Sequence[int]]) -> list[EncodedRecord]:
    return [
        EncodedRecord(name, "open_qa", tuple(prompt), (1, EOS), False, False)
        for name, prompt in zip(names(len(prompts)), prompts, strict=True)
    ]


def naive(
    model: PreTrainedModel,
    prompt: Sequence[int],
    record_id: str,
    settings: SamplingSettings,
    size: int = TOKENS,
) -> GeneratedResponse:
    """One record, no padding, no cache, the whole prefix again for every token."""
    ids, produced = list(prompt), []
    key = SCOPE.keys([record_id])
    for position in range(settings.max_new_tokens):
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[:, -1, :size].float()
        if settings.decoding == "greedy":
            token = int(logits.argmax())
        else:
            scores = sampling_scores(logits, settings.temperature, settings.top_p, settings.top_k)
            token = int(keyed_choice(scores, key, stream=position))
        ids.append(token)
        produced.append(token)
        if token == EOS:
            return GeneratedResponse(record_id, tuple(produced), True)
    return GeneratedResponse(record_id, tuple(produced), False)


@pytest.mark.parametrize("pad_id", [EOS, 0, 1])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "settings",
    [
        SamplingSettings(decoding="greedy", max_new_tokens=10),
        SamplingSettings(max_new_tokens=10),
        SamplingSettings(max_new_tokens=10, temperature=1.5, top_p=0.9, top_k=30),
    ],
    ids=["greedy", "sample", "truncated"],
)
def test_responses_equal_the_naive_loop(
    family: Callable[[], PreTrainedModel], settings: SamplingSettings, pad_id: int
) -> None:
    model = build(family, scale=2.0)
    prompts = make_prompts(12)
    vocabulary = Vocabulary(size=TOKENS, eos_id=EOS, pad_id=pad_id)
    found = generate_responses(model, encode(prompts), settings, vocabulary, SCOPE, batch_size=5)
    expected = [
        naive(model, prompt, name, settings)
        for prompt, name in zip(prompts, names(12), strict=True)
    ]
    assert found == expected


def test_sampled_responses_end_at_their_first_generated_eos() -> None:
    model = build(gpt2, scale=1.0)
    vocabulary = Vocabulary(size=TOKENS, eos_id=EOS, pad_id=EOS)
    settings = SamplingSettings(max_new_tokens=40)
    found = generate(model, make_prompts(80), names(80), settings, vocabulary, SCOPE)
    ended = [response for response in found if response.ended]
    whole = [response for response in found if not response.ended]
    assert len(ended) > 10
    assert len(whole) > 10
    assert all(r.token_ids.index(EOS) == len(r.token_ids) - 1 for r in ended)
    assert all(EOS not in r.token_ids and len(r.token_ids) == 40 for r in whole)


def test_a_sampled_padding_id_is_a_token_like_any_other() -> None:
    model = build(gpt2, scale=1.0)
    vocabulary = Vocabulary(size=TOKENS, eos_id=EOS, pad_id=7)
    settings = SamplingSettings(max_new_tokens=40)
    found = generate(model, make_prompts(40), names(40), settings, vocabulary, SCOPE)
    same = Vocabulary(size=TOKENS, eos_id=EOS, pad_id=EOS)
    assert any(7 in response.token_ids[:-1] for response in found)
    assert found == generate(model, make_prompts(40), names(40), settings, same, SCOPE)


# Every family decodes padded batches in the naive loop's comparison above.
@pytest.mark.parametrize(
    "family", [opt, *(pytest.param(one, marks=pytest.mark.slow) for one in (gpt2, llama))]
)
def test_a_record_samples_the_same_text_in_any_batch(family: Callable[[], PreTrainedModel]) -> None:
    model = build(family, scale=1.0)
    encoded = encode(make_prompts(96))
    settings = SamplingSettings(max_new_tokens=20)
    vocabulary = Vocabulary(size=TOKENS, eos_id=EOS, pad_id=EOS)
    reference = generate_responses(model, encoded, settings, vocabulary, SCOPE, batch_size=1)
    order = np.random.default_rng(0).permutation(96).tolist()
    shuffled = [encoded[index] for index in order]
    for batch_size in (7, 32):
        found = generate_responses(model, shuffled, settings, vocabulary, SCOPE, batch_size)
        assert [response.record_id for response in found] == [e.record_id for e in shuffled]
        same = [one == reference[index] for one, index in zip(found, order, strict=True)]
        assert np.mean(same) >= 0.99


def test_another_epoch_draw_purpose_or_seed_gives_other_text() -> None:
    model = build(gpt2, scale=1.0)
    settings = SamplingSettings(max_new_tokens=20)
    vocabulary = Vocabulary(size=TOKENS, eos_id=EOS, pad_id=EOS)
    scopes = [
        SCOPE,
        RandomScope(3, "test", step=1),
        RandomScope(3, "test", draw=1),
        RandomScope(3, "other"),
        RandomScope(4, "test"),
    ]
    prompt = [make_prompts(1)[0]]
    texts = {generate(model, prompt, ["x"], settings, vocabulary, s)[0].token_ids for s in scopes}
    assert len(texts) == len(scopes)


def test_first_tokens_follow_the_models_distribution() -> None:
    model = build(gpt2, scale=4.0)
    prompt = make_prompts(1)[0]
    vocabulary = Vocabulary(size=TOKENS, eos_id=EOS, pad_id=EOS)
    settings = SamplingSettings(max_new_tokens=1, temperature=1.5)
    found = generate(model, [prompt] * 8_000, names(8_000), settings, vocabulary, SCOPE)
    counts = np.bincount([response.token_ids[0] for response in found], minlength=TOKENS)
    with torch.no_grad():
        logits = model(torch.tensor([prompt])).logits[0, -1].double()
    expected = (logits / 1.5).softmax(0).numpy() * 8_000
    large = expected >= 5
    observed = np.append(counts[large], counts[~large].sum())
    wanted = np.append(expected[large], expected[~large].sum())
    keep = wanted > 0
    assert large.sum() > 10
    assert stats.chisquare(observed[keep], wanted[keep]).pvalue > 1e-3


@pytest.mark.parametrize("decoding", ["sample", "greedy", "beam"])
def test_padded_vocabulary_rows_are_never_chosen(decoding: str) -> None:
    model = build(gpt2, scale=1.0)
    with torch.no_grad():
        model.transformer.wte.weight[50:] *= 200  # padded rows now dominate the logits
    vocabulary = Vocabulary(size=50, eos_id=EOS, pad_id=EOS)
    settings = SamplingSettings(decoding=decoding, max_new_tokens=12)
    prompts = [[token % 50 for token in prompt] for prompt in make_prompts(16)]
    found = generate(model, prompts, names(16), settings, vocabulary, SCOPE)
    assert max(max(response.token_ids) for response in found) < 50
    if decoding != "beam":
        assert found == [
            naive(model, prompt, name, settings, size=50)
            for prompt, name in zip(prompts, names(16), strict=True)
        ]


def test_a_wide_beam_finds_the_likeliest_response() -> None:
    model = build(gpt2, scale=6.0)
    prompts = make_prompts(6)
    vocabulary = Vocabulary(size=12, eos_id=TOKENS - 1, pad_id=TOKENS - 1)  # eos never comes
    settings = SamplingSettings(decoding="beam", max_new_tokens=2, beams=12)
    found = generate(model, prompts, names(6), settings, vocabulary, SCOPE)
    for prompt, response in zip(prompts, found, strict=True):
        extended = torch.tensor([[*prompt, token] for token in range(12)])
        with torch.no_grad():
            logp = model(extended).logits[:, :, :12].double().log_softmax(-1)
        joint = logp[0, len(prompt) - 1].unsqueeze(1) + logp[:, -1]
        assert response.token_ids == divmod(int(joint.argmax()), 12)


def test_the_model_is_left_as_it_was() -> None:
    model = build(gpt2, scale=1.0).train()
    model.transformer.h[0].eval()
    model.generation_config.update(
        no_repeat_ngram_size=1, min_new_tokens=9, repetition_penalty=9.0, do_sample=True, top_k=1
    )
    before = model.generation_config
    modes = [part.training for part in model.modules()]
    vocabulary = Vocabulary(size=TOKENS, eos_id=EOS, pad_id=EOS)
    settings = SamplingSettings(decoding="greedy", max_new_tokens=10)
    state = torch.get_rng_state()
    found = generate(model, make_prompts(4), names(4), settings, vocabulary, SCOPE)
    generate(
        model, make_prompts(4), names(4), SamplingSettings(max_new_tokens=4), vocabulary, SCOPE
    )
    assert torch.get_rng_state().equal(state)
    assert model.generation_config is before
    assert [part.training for part in model.modules()] == modes
    model.eval()
    rows = zip(make_prompts(4), names(4), strict=True)
    assert found == [naive(model, prompt, name, settings) for prompt, name in rows]


def test_the_model_is_restored_after_an_error() -> None:
    model = build(gpt2).train()
    before = model.generation_config

    def fail_inside() -> None:
        with inference_state(model):
            assert not model.training
            assert not torch.is_grad_enabled()
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail_inside()
    assert model.training
    assert model.generation_config is before


def test_bfloat16_changes_the_models_arithmetic_only_when_asked() -> None:
    model = build(gpt2)
    prompt = torch.tensor([make_prompts(1)[0]])
    dtypes = []
    for flag in (True, False):
        with inference_state(model, bfloat16=flag):
            dtypes.append(model(prompt).logits.dtype)
    assert dtypes == [torch.bfloat16, torch.float32]
    vocabulary = Vocabulary(size=TOKENS, eos_id=EOS, pad_id=EOS)
    settings = SamplingSettings(max_new_tokens=5, bfloat16=True)
    assert generate(model, make_prompts(2), names(2), settings, vocabulary, SCOPE)[0].token_ids


@pytest.mark.parametrize("decoding", ["sample", "greedy", "beam"])
def test_a_diverged_model_is_named_with_its_record(decoding: str) -> None:
    model = build(gpt2)
    with torch.no_grad():
        model.transformer.wpe.weight[4] = torch.nan  # only the longer prompt gets there
    vocabulary = Vocabulary(size=TOKENS, eos_id=EOS, pad_id=EOS)
    settings = SamplingSettings(decoding=decoding, max_new_tokens=1)
    prompts = [[5, 6], [5, 6, 7, 8, 9]]
    with pytest.raises(UserError, match="record-1: .* not finite .1 of 2"):
        generate(model, prompts, names(2), settings, vocabulary, SCOPE)


def test_bad_input_is_refused() -> None:
    model = build(gpt2)
    vocabulary = Vocabulary(size=TOKENS, eos_id=EOS, pad_id=EOS)
    settings = SamplingSettings(max_new_tokens=60)
    with pytest.raises(UserError, match="record-0: a prompt of 5 tokens.*window of 64"):
        generate(model, [[1] * 5], names(1), settings, vocabulary, SCOPE)
    generate(model, [[1] * 4], names(1), settings, vocabulary, SCOPE)
    with pytest.raises(ValueError, match="at least one token"):
        generate(model, [[1], []], names(2), settings, vocabulary, SCOPE)
    with pytest.raises(ValueError, match="argument 2 is longer"):
        generate(model, [[1]], names(2), settings, vocabulary, SCOPE)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"decoding": "nucleus"}, "decoding"),
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"temperature": 0.0}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_k": -1}, "top_k"),
        ({"beams": 0}, "beams"),
    ],
)
def test_settings_out_of_range_are_refused(options: dict[str, object], named: str) -> None:
    with pytest.raises(UserError, match=named):
        SamplingSettings(**options)


def test_no_records_give_no_responses() -> None:
    vocabulary = Vocabulary(size=TOKENS, eos_id=EOS, pad_id=EOS)
    assert generate_responses(build(gpt2), [], SamplingSettings(), vocabulary, SCOPE) == []


def test_left_padding_comes_from_lengths() -> None:
    ids, mask = left_pad([[5], [9, 9, 4]], pad_id=9, device=torch.device("cpu"))
    assert ids.tolist() == [[9, 9, 5], [9, 9, 4]]
    assert mask.tolist() == [[0, 0, 1], [1, 1, 1]]


def test_a_response_without_eos_is_whole() -> None:
    assert cut_at_end([4, 5], ends=[2]) == ((4, 5), False)
    assert cut_at_end([2, 5], ends=[2]) == ((2,), True)
