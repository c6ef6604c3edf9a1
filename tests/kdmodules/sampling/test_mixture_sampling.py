"""Rollouts of the teacher-mixed student against a naive loop, their weights, and two ranks."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

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
from kdmodules.sampling.generation_batches import Vocabulary
from kdmodules.sampling.joint_decoding import log_mixture
from kdmodules.sampling.keyed_choice import RandomScope, keyed_choice
from kdmodules.sampling.mixture_sampling import (
    MixtureResponse,
    MixtureSettings,
    mixture_responses,
    sample_mixture,
)
from kdmodules.sampling.sampler import SamplingSettings, generate, generate_responses
from tests.processes import start_ranks

TOKENS = 41
EOS = 2
SCOPE = RandomScope(seed=3, purpose="minillm")
VOCABULARY = Vocabulary(size=TOKENS, eos_id=EOS, pad_id=EOS)


def build(family: str, seed: int, rows: int = TOKENS) -> PreTrainedModel:
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    if family == "gpt2":
        model = GPT2LMHeadModel(
            GPT2Config(vocab_size=rows, n_positions=64, n_embd=16, n_layer=2, n_head=2)
        )
    elif family == "opt":
        model = OPTForCausalLM(
            OPTConfig(
                vocab_size=rows,
                hidden_size=16,
                word_embed_proj_dim=16,
                num_hidden_layers=2,
                ffn_dim=32,
                num_attention_heads=2,
                max_position_embeddings=64,
            )
        )
    else:
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=rows,
                hidden_size=16,
                intermediate_size=32,
                num_hidden_layers=2,
                num_attention_heads=2,
                max_position_embeddings=64,
            )
        )
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(4.0)
    return model.eval()


def make_encoded(count: int) -> list[EncodedRecord]:
    generator = np.random.default_rng(5)
    prompts = [
        tuple(generator.integers(0, TOKENS, size=generator.integers(1, 12)).tolist())
        for _ in range(count)
    ]
    return [
        EncodedRecord(f"record-{index}", "open_qa", prompt, (1, EOS), False, False)
        for index, prompt in enumerate(prompts)
    ]


def last_logits(model: PreTrainedModel, ids: Sequence[int]) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[:, -1, :TOKENS]


def check_against_naive(
    student: PreTrainedModel,
    teachers: Sequence[PreTrainedModel],
    record: EncodedRecord,
    settings: MixtureSettings,
    found: MixtureResponse,
) -> None:
    """Repeat one rollout without cache or padding, its probabilities in float64."""
    ids = list(record.prompt_ids)
    share, key = settings.teacher_share, SCOPE.keys([record.record_id])
    for position, token in enumerate(found.token_ids):
        q_logits = last_logits(student, ids).double()
        p_logits = torch.stack([last_logits(teacher, ids).double() for teacher in teachers])
        q, p = ((logits / settings.temperature).softmax(-1) for logits in (q_logits, p_logits))
        mixture = ((1 - share) * q + share * p.mean(0)).log()
        assert int(keyed_choice(mixture, key, stream=position)) == token
        expected = (
            q_logits.log_softmax(-1)[0, token],
            p_logits.softmax(-1).mean(0).log()[0, token],
            mixture[0, token],
        )
        stored = (found.student_logp, found.teacher_logp, found.mixture_logp)
        for one, other in zip(stored, expected, strict=True):
            assert float(one[position]) == pytest.approx(float(other), abs=2e-5)
        ids.append(token)
    assert EOS not in found.token_ids[:-1]
    assert found.ended == (found.token_ids[-1] == EOS)
    assert found.ended or len(found.token_ids) == settings.max_new_tokens
    assert len(found.student_logp) == len(found.token_ids)


@pytest.mark.parametrize(
    ("student", "teachers"),
    [
        ("gpt2", ["gpt2"]),
        ("opt", ["opt"]),
        ("llama", ["llama"]),
        ("opt", ["gpt2"]),
        ("gpt2", ["gpt2", "gpt2"]),
        ("llama", ["opt", "gpt2", "llama"]),
    ],
)
@pytest.mark.parametrize("temperature", [1.0, 1.7])
def test_rollouts_equal_the_naive_loop(
    student: str, teachers: list[str], temperature: float
) -> None:
    # The teachers' vocabulary has padded rows, which get no probability.
    models = (
        build(student, seed=0),
        [build(family, seed=1 + i, rows=TOKENS + 7) for i, family in enumerate(teachers)],
    )
    settings = MixtureSettings(teacher_share=0.3, max_new_tokens=12, temperature=temperature)
    encoded = make_encoded(10)
    found = mixture_responses(*models, encoded, settings, VOCABULARY, SCOPE, batch_size=4)
    for record, response in zip(encoded, found, strict=True):
        assert response.record_id == record.record_id
        check_against_naive(*models, record, settings, response)
    assert any(response.ended for response in found)
    assert any(not response.ended for response in found)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_pure_mixture_is_plain_sampling(share: float) -> None:
    student, teacher = build("gpt2", seed=0), build("gpt2", seed=1)
    encoded = make_encoded(40)
    settings = MixtureSettings(teacher_share=share, max_new_tokens=12)
    found = mixture_responses(student, [teacher], encoded, settings, VOCABULARY, SCOPE)
    plain = generate_responses(
        teacher if share else student,
        encoded,
        SamplingSettings(max_new_tokens=12),
        VOCABULARY,
        SCOPE,
    )
    same = [a.token_ids == b.token_ids for a, b in zip(found, plain, strict=True)]
    assert np.mean(same) >= 0.99
    own = [r.teacher_logp if share else r.student_logp for r in found]
    for response, logp in zip(found, own, strict=True):
        assert torch.allclose(response.mixture_logp, logp, atol=1e-5)


@pytest.mark.parametrize("n_teachers", [1, 3])
def test_tokens_follow_the_mixture_and_weights_average_to_one(n_teachers: int) -> None:
    student = build("gpt2", seed=0)
    teachers = [build("gpt2", seed=1 + number) for number in range(n_teachers)]
    count, prompt = 8_000, [5, 9, 11]
    names = [f"record-{index}" for index in range(count)]
    settings = MixtureSettings(teacher_share=0.4, max_new_tokens=1)
    found = sample_mixture(student, teachers, [prompt] * count, names, settings, VOCABULARY, SCOPE)
    q = last_logits(student, prompt)[0].double().softmax(0).numpy()
    p = np.mean(
        [last_logits(teacher, prompt)[0].double().softmax(0).numpy() for teacher in teachers],
        axis=0,
    )
    expected = (0.6 * q + 0.4 * p) * count
    observed = np.bincount([response.token_ids[0] for response in found], minlength=TOKENS)
    assert expected.min() >= 5
    assert stats.chisquare(observed, expected).pvalue > 1e-3
    weights = np.exp([float(r.student_logp[0] - r.mixture_logp[0]) for r in found])
    assert weights.max() <= 1 / 0.6 + 1e-5
    assert abs(weights.mean() - 1) < 4 * weights.std() / math.sqrt(count)
    assert weights.std() > 0.1


def test_a_mixture_of_impossible_tokens_stays_a_distribution() -> None:
    student = torch.tensor([[0.0, -torch.inf, -torch.inf, 1e4]])
    teacher = torch.tensor([[-torch.inf, 0.0, -torch.inf, -1e4]])
    mixture = log_mixture([student, teacher], [0.8, 0.2], temperature=1.0)
    assert mixture.exp().tolist()[0] == pytest.approx([0.0, 0.2, 0.0, 0.8])
    # A model without a share says nothing, not even what is impossible.
    alone = log_mixture([student, teacher], [0.0, 1.0], temperature=1.0)
    assert alone.exp().tolist()[0] == pytest.approx([0.0, 1.0, 0.0, 0.0])


def test_models_are_left_as_they_were_and_bad_input_is_refused() -> None:
    student, teacher = build("gpt2", seed=0).train(), build("gpt2", seed=1)
    settings = MixtureSettings(max_new_tokens=60)
    arguments = (settings, VOCABULARY, SCOPE)
    sample_mixture(student, [teacher], [[1]], ["a"], *arguments)
    assert student.training
    assert not teacher.training
    with pytest.raises(UserError, match="record a: a prompt of 5 tokens"):
        sample_mixture(student, [teacher], [[1] * 5], ["a"], *arguments)
    with pytest.raises(ValueError, match="argument 2 is longer"):
        sample_mixture(student, [teacher], [[1]], ["a", "b"], *arguments)
    with torch.no_grad():
        teacher.transformer.wpe.weight[3] = torch.nan
    short = MixtureSettings(max_new_tokens=1)
    with pytest.raises(UserError, match=r"record b: .* not finite .1 of 2"):
        sample_mixture(student, [teacher], [[1], [1] * 4], ["a", "b"], short, VOCABULARY, SCOPE)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"teacher_share": 1.5}, "teacher_share"),
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"temperature": -1.0}, "temperature"),
    ],
)
def test_settings_out_of_range_are_refused(options: dict[str, float], named: str) -> None:
    with pytest.raises(UserError, match=named):
        MixtureSettings(**options)


def sample_on_one_rank(rank: int, folder: str) -> None:
    """Rank 0 holds five records, rank 1 one or none; every model call waits for both ranks."""
    store = torch.distributed.FileStore(f"{folder}/store", 2)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    student, teacher = build("gpt2", seed=0), build("gpt2", seed=1)
    for model in (student, teacher):
        # A sharded model gathers its weights in each forward: ranks that fall out of step hang.
        model.register_forward_pre_hook(lambda *_: torch.distributed.all_reduce(torch.zeros(1)))
    encoded = make_encoded(6)
    texts = {}
    for name, own in [("some", encoded[:5] if rank == 0 else encoded[5:]), ("none", encoded[:5])]:
        mine = [] if name == "none" and rank == 1 else own
        plain = generate_responses(
            student,
            mine,
            SamplingSettings(max_new_tokens=6),
            VOCABULARY,
            SCOPE,
            batch_size=2,
            synced_gpus=True,
        )
        settings = MixtureSettings(max_new_tokens=6)
        mixed = mixture_responses(
            student, [teacher], mine, settings, VOCABULARY, SCOPE, batch_size=2, synced_gpus=True
        )
        texts[name] = [[response.token_ids for response in found] for found in (plain, mixed)]
    Path(folder, f"{rank}.json").write_text(json.dumps(texts))
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_ranks_with_unequal_records_stay_in_step(tmp_path: Path) -> None:
    start_ranks(sample_on_one_rank, (str(tmp_path),))
    ranks = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    student, teacher = build("gpt2", seed=0), build("gpt2", seed=1)
    encoded = make_encoded(6)
    prompts, names = [e.prompt_ids for e in encoded], [e.record_id for e in encoded]
    plain = generate(student, prompts, names, SamplingSettings(max_new_tokens=6), VOCABULARY, SCOPE)
    mixed = sample_mixture(
        student, [teacher], prompts, names, MixtureSettings(max_new_tokens=6), VOCABULARY, SCOPE
    )
    for kind, whole in enumerate((plain, mixed)):
        texts = [list(response.token_ids) for response in whole]
        assert ranks[0]["some"][kind] + ranks[1]["some"][kind] == texts
        assert ranks[0]["none"][kind] == texts[:5]
        assert ranks[1]["none"][kind] == []
