"""The compressed argmax text equals a loop over whole logits, whatever the batch."""

import weakref
import zlib

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from audits.membership.attacks import ReleasedZlib
from audits.membership.measurements import Scored
from audits.membership.signals.argmax_text import CompressedArgmaxText
from audits.membership.view import AuditView
from audits.scoring.greedy_pass import ForcedResponse, force_batch
from audits.scoring.token_statistics import TokenStatistics
from datamodules.batches import InstructionBatch
from datamodules.records import InstructionRecord
from kdmodules.models.causal_lm import CausalLM
from kdmodules.scoring import TokenScores
from tests.audits.membership.signals.conftest import CountedRecords, access_of


def test_equals_a_loop_over_whole_logits(
    family_model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    records: list[InstructionRecord],
) -> None:
    access = access_of(family_model, tokenizer)
    encoded = access.encoder.encode_all(records)
    found = CompressedArgmaxText().measure(access, encoded)
    expected = []
    for one in encoded:
        ids = torch.tensor([[*one.prompt_ids, *one.response_ids]])
        with torch.no_grad():
            logits = family_model(ids).logits[0, :, : len(tokenizer)]
        best = logits[len(one.prompt_ids) - 1 : -1].argmax(dim=-1).tolist()
        text = tokenizer.decode(best, skip_special_tokens=True)
        expected.append([float(len(zlib.compress(text.encode())))])
    assert found.tolist() == expected
    assert CompressedArgmaxText().measure(access, encoded[::-1]).tolist() == (expected[::-1])


def test_a_batch_of_records_is_in_memory_at_once(
    monkeypatch: pytest.MonkeyPatch,
    family_model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    records: list[InstructionRecord],
) -> None:
    access = access_of(family_model, tokenizer, batch_size=2)
    encoded = CountedRecords(access.encoder.encode_all(records))
    forced: list[weakref.ref[ForcedResponse]] = []
    alive: list[int] = []

    def counted(lm: CausalLM, batch: InstructionBatch) -> list[ForcedResponse]:
        alive.append(sum(one() is not None for one in forced))
        found = force_batch(lm, batch)
        forced.extend(map(weakref.ref, found))
        return found

    monkeypatch.setattr("audits.membership.signals.argmax_text.force_batch", counted)
    found = CompressedArgmaxText().measure(access, encoded)
    assert alive == [0] * (len(records) // 2)
    assert encoded.tally.most <= 3
    whole = CompressedArgmaxText().measure(access_of(family_model, tokenizer), encoded)
    assert torch.equal(found, whole)


def test_the_attack_divides_the_loss_by_the_bytes(records: list[InstructionRecord]) -> None:
    n = len(records)
    scores = TokenScores(
        -torch.arange(1.0, n + 1), torch.zeros(n), torch.ones(n), torch.zeros(n).long()
    )
    ids = [record.id for record in records]
    own = TokenStatistics.from_batch(ids, torch.ones(n).long(), scores)
    sizes = torch.arange(10.0, 10 + n, dtype=torch.float64).unsqueeze(1)
    view = AuditView(records, {Scored(): own}, {CompressedArgmaxText(): sizes})
    expected = [-(i + 1) / (10 + i) for i in range(n)]
    torch.testing.assert_close(ReleasedZlib().score(view), torch.tensor(expected).double())
