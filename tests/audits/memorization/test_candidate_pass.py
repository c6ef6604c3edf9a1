"""Candidates scored behind a shared prefix equal candidates scored whole, in all three families."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from audits.memorization.candidate_pass import CandidateSet, candidate_log_likelihoods
from audits.memorization.exposure import exact_exposure
from common.ranks import Ranks
from datamodules.batches import EncodedRecord, RecordEncoder
from datamodules.canaries import CanaryPlan, draw_canaries
from datamodules.prompts import PromptTemplate
from kdmodules.models.causal_lm import CausalLM
from tests.kdmodules.conftest import one_family
from tests.processes import start_ranks

TEMPLATE = PromptTemplate("{instruction} {context}:", "{instruction}:")


@contextmanager
def silent(total: int) -> Iterator[Callable[[], None]]:
    yield lambda: None


@pytest.fixture(scope="module")
def candidates(tokenizer: PreTrainedTokenizerFast) -> list[list[EncodedRecord]]:
    """Of four canaries, one per format, the responses with 30 secrets."""
    encoder = RecordEncoder(tokenizer, TEMPLATE, max_prompt_tokens=90, max_tokens=128)
    canaries = draw_canaries(CanaryPlan(coin=4, exposure_per_level=0), seed=1)
    return [
        encoder.encode_all(
            [
                replace(canary.record(), response=canary.candidate_response(index))
                for index in range(0, canary.secret_space, canary.secret_space // 30 + 1)
            ]
        )
        for canary in canaries
    ]


def brute_force(model: PreTrainedModel, record: EncodedRecord) -> float:
    """The whole response's log-likelihood by the plain model, float64."""
    ids = torch.tensor([record.prompt_ids + record.response_ids])
    with torch.no_grad():
        logp = model(input_ids=ids).logits[0, :, :300].double().log_softmax(-1)
    start = len(record.prompt_ids)
    return sum(
        float(logp[start + place - 1, token]) for place, token in enumerate(record.response_ids)
    )


def scores(
    model: PreTrainedModel, sets: list[CandidateSet], batch_size: int, max_batch_tokens: int
) -> list[torch.Tensor]:
    lm = CausalLM(model, 300)
    with torch.no_grad():
        return candidate_log_likelihoods(lm, sets, Ranks(), batch_size, max_batch_tokens, silent)


def test_differences_and_ranks_equal_brute_force(
    family_model: PreTrainedModel, candidates: list[list[EncodedRecord]]
) -> None:
    found = scores(family_model, [CandidateSet.of(each) for each in candidates], 7, 1000)
    for each, own in zip(candidates, found, strict=True):
        whole = torch.tensor([brute_force(family_model, one) for one in each])
        torch.testing.assert_close(own - own[0], (whole - whole[0]).double(), atol=1e-4, rtol=0)
        rank = 1 + sum(float(other) > float(whole[3]) for other in whole)
        others = torch.cat([own[:3], own[4:]])
        exposure = exact_exposure(float(own[3]), others.numpy())
        assert 2**-exposure.bits * len(each) == pytest.approx(rank)


@one_family
def test_batches_change_nothing(
    family_model: PreTrainedModel, candidates: list[list[EncodedRecord]]
) -> None:
    sets = [CandidateSet.of(each) for each in candidates]
    few, many = scores(family_model, sets, 3, 200), scores(family_model, sets, 64, 100_000)
    for a, b in zip(few, many, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=0)


def encoded(*responses: tuple[int, ...], prompt: tuple[int, ...] = (5, 6)) -> list[EncodedRecord]:
    return [
        EncodedRecord("c", "open_qa", prompt, ids, prompt_cut=False, response_cut=False)
        for ids in responses
    ]


def test_candidates_part_at_their_first_difference_and_keep_a_token() -> None:
    parted = CandidateSet.of(encoded((1, 2, 3), (1, 2, 4, 9)))
    assert (parted.prefix, parted.tails) == ((5, 6, 1, 2), ((3,), (4, 9)))
    nested = CandidateSet.of(encoded((1, 2), (1, 2, 4)))
    assert (nested.prefix, nested.tails) == ((5, 6, 1), ((2,), (2, 4)))
    at_once = CandidateSet.of(encoded((1,), (2,)))
    assert (at_once.prefix, at_once.tails) == ((5, 6), ((1,), (2,)))


@one_family
def test_a_prefix_of_one_token_needs_no_cache(family_model: PreTrainedModel) -> None:
    alone = encoded((7, 8), (9, 10, 11), prompt=(5,))
    found = scores(family_model, [CandidateSet.of(alone)], 8, 1000)[0]
    assert found.tolist() == pytest.approx([brute_force(family_model, one) for one in alone])


def test_what_is_no_candidate_set_is_refused() -> None:
    with pytest.raises(ValueError, match="one prompt"):
        CandidateSet.of([*encoded((1,)), *encoded((2,), prompt=(4,))])
    with pytest.raises(ValueError, match="response token"):
        CandidateSet.of(encoded((1,), ()))


@one_family
def test_a_broken_model_names_the_canary(
    family_model: PreTrainedModel, candidates: list[list[EncodedRecord]]
) -> None:
    family_model.get_output_embeddings().weight.data.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="canary-coin-00000 cannot be scored"):
        scores(family_model, [CandidateSet.of(candidates[0])], 8, 1000)


def score_on_one_rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    model, sets = torch.load(f"{folder}/case.pt", weights_only=False)
    with torch.no_grad():
        found = candidate_log_likelihoods(
            CausalLM(model, 300), sets, Ranks(rank, 2), 7, 1000, silent
        )
    torch.save(found, f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_score_what_one_does(
    family_model: PreTrainedModel, candidates: list[list[EncodedRecord]], tmp_path: Path
) -> None:
    """Three of four sets, in batches of seven: an odd number of batches of unlike sizes."""
    sets = [CandidateSet.of(each) for each in candidates[:3]]
    alone = scores(family_model, sets, 7, 1000)
    torch.save((family_model, sets), tmp_path / "case.pt")
    start_ranks(score_on_one_rank, (str(tmp_path),))
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt")
        assert [len(own) for own in found] == [len(own) for own in alone]
        for own, expected in zip(found, alone, strict=True):
            assert torch.equal(own, expected)
            exposures = [
                exact_exposure(float(one[0]), one[1:].numpy()).bits for one in (own, expected)
            ]
            assert exposures[0] == exposures[1]
