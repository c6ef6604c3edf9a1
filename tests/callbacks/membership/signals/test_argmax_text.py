"""The compressed argmax text equals a loop over whole logits, whatever the batch."""

import zlib

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from callbacks.membership import AuditView, TokenStatistics
from callbacks.membership.attacks import ReleasedZlib
from callbacks.membership.measurements import Scored
from callbacks.membership.signals.argmax_text import CompressedArgmaxText
from datamodules.records import InstructionRecord
from kdmodules.scoring import TokenScores
from tests.callbacks.membership.signals.conftest import access_of


def test_equals_a_loop_over_whole_logits(
    family_model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    records: list[InstructionRecord],
) -> None:
    access = access_of(family_model, tokenizer)
    encoded = access.encoder.encode_all(records)
    found = CompressedArgmaxText().measure(access, records, encoded)
    expected = []
    for one in encoded:
        ids = torch.tensor([[*one.prompt_ids, *one.response_ids]])
        with torch.no_grad():
            logits = family_model(ids).logits[0, :, : len(tokenizer)]
        best = logits[len(one.prompt_ids) - 1 : -1].argmax(dim=-1).tolist()
        text = tokenizer.decode(best, skip_special_tokens=True)
        expected.append([float(len(zlib.compress(text.encode())))])
    assert found.tolist() == expected
    assert (
        CompressedArgmaxText().measure(access, records[::-1], encoded[::-1]).tolist()
        == (expected[::-1])
    )


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
