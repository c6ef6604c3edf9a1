"""What is read off one pass and a few continuations is what token-by-token generation writes."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import distributed as dist
from transformers import (
    MambaConfig,
    MambaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from audits.memorization.audit import default_metrics
from audits.memorization.greedy_continuation import GreedyContinuation, Request, real_tokens
from audits.memorization.greedy_decoding import continue_greedily
from audits.memorization.judging import judge
from audits.memorization.metrics import ExactMatch, ExtractionStrength, TokenAccuracy
from common.errors import UserError
from common.ranks import Ranks
from datamodules.encoding import EncodedRecord
from kdmodules.models.network import Network, build_network
from tests.audits.membership.signals.conftest import ModelAccess, access_of
from tests.audits.memorization.slow_reference import (
    greedy_texts,
    half_learnt_records,
    with_frequent_end,
)
from tests.kdmodules.conftest import TINY
from tests.kdmodules.tiny_decoders import tiny_decoder
from tests.processes import start_ranks

PREFIXES = (0, 10)


def requests(record: EncodedRecord) -> list[Request]:
    """Up to 32 tokens after each prefix."""
    length = len(record.response_ids)
    return [Request(k, min(32, length - k)) for k in PREFIXES if length > k]


def tiny_access(
    family: str, tokenizer: PreTrainedTokenizerFast, batch_size: int = 64
) -> ModelAccess:
    model = build_network(Network(family, None, TINY[family]), tokenizer, seed=1)
    return with_frequent_end(access_of(model.double(), tokenizer, batch_size))


def check_all(access: ModelAccess, records: Sequence[EncodedRecord]) -> list[GreedyContinuation]:
    """Every request of every record equals generation; returns the continued."""
    with torch.no_grad():
        continued = continue_greedily(access, records, requests)
    asked = [(one, request) for one in continued for request in requests(one.record)]
    starts = [
        [*one.record.prompt_ids, *one.record.response_ids[: request.prefix_tokens]]
        for one, request in asked
    ]
    expected = greedy_texts(access, starts, [request.tokens for _, request in asked])
    for (one, request), text in zip(asked, expected, strict=True):
        assert list(one.greedy(request)) == text, (one.record.record_id, request)
        first, last = request.prefix_tokens, request.prefix_tokens + request.tokens
        exact = list(one.record.response_ids[first:last]) == text
        assert exact == (one.first_mismatch(first) >= last)
    return continued


@pytest.mark.slow
def test_shortcuts_equal_generation_on_1000_records(tokenizer: PreTrainedTokenizerFast) -> None:
    access = tiny_access("gpt2", tokenizer)
    records = half_learnt_records(access, 1000, 30, seed=0)
    continued = check_all(access, records)
    # The shortcut is worth a test only where records agree for a while, some wholly.
    agreed = [one.first_mismatch() / len(one.record.response_ids) for one in continued]
    assert sum(0 < share < 1 for share in agreed) > 200
    assert sum(share == 1 for share in agreed) > 50
    assert sum(not one.record.response_cut for one in continued) > 200


@pytest.mark.parametrize("family", sorted(TINY))
def test_families_and_batches(family: str, tokenizer: PreTrainedTokenizerFast) -> None:
    access = tiny_access(family, tokenizer, batch_size=5)
    check_all(access, half_learnt_records(access, 24, 40, seed=1))


@pytest.mark.parametrize("kind", ["mistral", "gemma2", "phi"])
def test_windows_and_soft_caps(kind: str, tokenizer: PreTrainedTokenizerFast) -> None:
    """Text branches off behind more tokens than a block looks back through."""
    model = tiny_decoder(kind, len(tokenizer))
    access = with_frequent_end(access_of(model, tokenizer, batch_size=5))
    check_all(access, half_learnt_records(access, 12, 20, seed=1))


def test_a_model_that_is_run_as_a_whole(tokenizer: PreTrainedTokenizerFast) -> None:
    model = tiny_decoder("qwen3", len(tokenizer))
    model.lm_head.register_forward_hook(lambda _m, _a, logits: 2 * logits.sin())
    access = access_of(model, tokenizer, batch_size=5)
    assert not access.lm.in_parts
    check_all(access, half_learnt_records(access, 12, 20, seed=1))


def test_a_running_state_is_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    config = MambaConfig(vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1)
    access = access_of(MambaForCausalLM(config), tokenizer)
    record = EncodedRecord("a", "", (1, 2), (3, 4), False, False)
    with pytest.raises(UserError, match="MambaForCausalLM keeps a running state"):
        continue_greedily(access, [record], requests)


def test_equal_logits_choose_the_lowest_id_as_generation_does(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    access = tiny_access("gpt2", tokenizer)
    with torch.no_grad():
        embedding = access.lm.model.get_input_embeddings().weight
        embedding[150:] = embedding[:150].clone()
    records = half_learnt_records(access, 40, 30, seed=2)
    continued = check_all(access, records)
    assert max(max(one.forced.best_ids) for one in continued) < 150


def test_text_that_was_not_requested_is_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    access = tiny_access("gpt2", tokenizer)
    record = EncodedRecord("r", "open_qa", (5, 6), tuple(range(40, 60)), False, True)
    with torch.no_grad():
        (greedy,) = continue_greedily(access, [record], lambda one: [])
    with pytest.raises(LookupError, match="record r"):
        greedy.greedy(Request(0, 20))


def test_a_broken_output_names_its_record(tokenizer: PreTrainedTokenizerFast) -> None:
    access = tiny_access("llama", tokenizer)
    records = [
        EncodedRecord(f"r{row}", "open_qa", (5 + row, 6), (40, 41), False, True) for row in range(3)
    ]
    with torch.no_grad():
        access.lm.model.get_input_embeddings().weight[7] = float("nan")
        with pytest.raises(FloatingPointError, match="record r2"):
            continue_greedily(access, records, requests)


def only_end(access: ModelAccess) -> ModelAccess:
    """Makes a model write eos whatever it reads."""
    model: PreTrainedModel = access.lm.model
    with torch.no_grad():
        weight = model.get_output_embeddings().weight
        weight.zero_()
        weight[access.encoder.eos_id] = 1.0
        norm = model.transformer.ln_f
        norm.weight.zero_()
        norm.bias.fill_(1.0)
    return access


def test_a_model_that_only_ends_has_accuracy_0(tokenizer: PreTrainedTokenizerFast) -> None:
    """Padding is eos here, and so is every token that the model writes."""
    access = only_end(tiny_access("gpt2", tokenizer))
    assert access.encoder.eos_id != 7
    records = [
        EncodedRecord(f"r{n}", "open_qa", (5, 6), (7,) * n + (access.encoder.eos_id,), False, False)
        for n in (1, 2, 31, 32, 40)
    ]
    with torch.no_grad():
        continued = continue_greedily(access, records, requests)
    for metric in (TokenAccuracy(), ExtractionStrength(), ExactMatch()):
        judged = judge(metric, "private", continued, ["a", "b", "c", "d", "e"])
        assert judged.values.tolist() == [0.0] * len(judged.values)


def test_a_model_that_reproduces_everything_has_1(tokenizer: PreTrainedTokenizerFast) -> None:
    access = tiny_access("opt", tokenizer)
    draw = torch.Generator().manual_seed(3)
    prompts = torch.randint(300, (12, 6), generator=draw).tolist()
    texts = greedy_texts(access, prompts, [4 * row + 1 for row in range(12)])
    eos_id = access.encoder.eos_id
    records = [
        EncodedRecord(f"r{row}", "open_qa", tuple(start), tuple(text), False, text[-1] != eos_id)
        for row, (start, text) in enumerate(zip(prompts, texts, strict=True))
    ]
    with torch.no_grad():
        continued = continue_greedily(access, records, requests)
    assert not any(one.written for one in continued), "nothing had to be generated"
    clusters = [record.record_id for record in records]
    for metric in default_metrics():
        if metric.scheme is None:
            judged = judge(metric, "private", continued, clusters)
            assert set(judged.values) <= {1.0}, metric.name
    accuracy = judge(TokenAccuracy(), "private", continued, clusters)
    lengths = [min(32, real_tokens(record)) for record in records]
    assert accuracy.lengths.tolist() == [length for length in lengths if length]


def continue_on_one_rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    access, records = torch.load(f"{folder}/case.pt", weights_only=False)
    own = ModelAccess(
        access.lm, access.encoder, Ranks(rank, 2), 4, 2048, access.seed, access.progress
    )
    with torch.no_grad():
        continued = continue_greedily(own, records, requests)
    torch.save([(one.forced, one.written) for one in continued], f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def test_two_ranks_continue_as_one_does(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    access = tiny_access("gpt2", tokenizer)
    records = half_learnt_records(access, 21, 30, seed=4)
    with torch.no_grad():
        alone = [(one.forced, one.written) for one in continue_greedily(access, records, requests)]
    torch.save((access, records), tmp_path / "case.pt")
    start_ranks(continue_on_one_rank, (str(tmp_path),))
    for rank in range(2):
        assert torch.load(tmp_path / f"{rank}.pt", weights_only=False) == alone
