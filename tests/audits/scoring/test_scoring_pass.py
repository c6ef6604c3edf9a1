"""One pass scores every record once, whatever the batches; a broken output names its record."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from threading import Barrier
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from transformers import PreTrainedModel

from audits.scoring.model_access import ModelAccess
from audits.scoring.scoring_pass import score_records
from audits.scoring.token_statistics import TokenStatistics
from common.ranks import Ranks
from datamodules.batches import EncodedRecord
from kdmodules.models.causal_lm import CausalLM

PAD_ID = 0


@contextmanager
def silent(total: int) -> Iterator[Callable[[], None]]:
    yield lambda: None


@pytest.fixture
def records() -> list[EncodedRecord]:
    """23 records of 1 to 40 response tokens; every response ends in the id that pads."""
    rng = torch.Generator().manual_seed(3)
    lengths = [1, 40, *torch.randint(2, 30, (21,), generator=rng).tolist()]
    return [
        EncodedRecord(
            f"r{i}",
            "open_qa",
            tuple(torch.randint(1, 300, (5 + i,), generator=rng).tolist()),
            (*torch.randint(1, 300, (length - 1,), generator=rng).tolist(), PAD_ID),
            prompt_cut=False,
            response_cut=False,
        )
        for i, length in enumerate(lengths)
    ]


def access_to(model: PreTrainedModel, batch_size: int, max_tokens: int) -> ModelAccess:
    encoder = SimpleNamespace(pad_id=PAD_ID)
    return ModelAccess(
        CausalLM(model, 300), encoder, Ranks(), batch_size, max_tokens, 0, lambda *_: silent(0)
    )


def score(
    model: PreTrainedModel, records: list[EncodedRecord], batch_size: int = 8, max_tokens: int = 400
) -> TokenStatistics:
    with torch.no_grad():
        return score_records(access_to(model, batch_size, max_tokens), records, "").read()


def test_equals_the_plain_model_one_record_at_a_time(
    family_model: PreTrainedModel, records: list[EncodedRecord]
) -> None:
    found = score(family_model, records)
    assert found.record_ids == tuple(record.record_id for record in records)
    for place, record in enumerate(records):
        ids = torch.tensor([record.prompt_ids + record.response_ids])
        with torch.no_grad():
            logp = family_model(input_ids=ids).logits[0].double().log_softmax(-1)
        rows = logp[len(record.prompt_ids) - 1 : -1]
        own = slice(int(found.offsets[place]), int(found.offsets[place + 1]))
        expected = rows.gather(1, torch.tensor(record.response_ids)[:, None])[:, 0]
        mean = (rows.exp() * rows).sum(-1)
        variance = (rows.exp() * (rows - mean[:, None]).square()).sum(-1)
        assert found.token_ids is not None
        assert found.token_ids[own].tolist() == list(record.response_ids)
        torch.testing.assert_close(found.logp[own].double(), expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(found.mean[own].double(), mean, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(found.variance[own].double(), variance, atol=1e-5, rtol=1e-5)


def test_batch_size_and_order_change_no_score(
    family_model: PreTrainedModel, records: list[EncodedRecord]
) -> None:
    eight = score(family_model, records)
    one = score(family_model, records, batch_size=1)
    turned = score(family_model, records[::-1]).take(torch.arange(len(records)).flip(0))
    for other in (one, turned):
        assert torch.equal(other.offsets, eight.offsets)
        torch.testing.assert_close(other.logp, eight.logp, atol=1e-5, rtol=0)
        torch.testing.assert_close(other.mean, eight.mean, atol=1e-5, rtol=0)


class Paired(Ranks):
    """Two ranks in two threads, which exchange what they found as two processes do."""

    found: ClassVar[dict[int, list[Any]]] = {}
    meeting = Barrier(2, timeout=60)

    def gather(self, found: list[Any]) -> list[Any]:
        self.found[self.rank] = found
        self.meeting.wait()
        both = zip(self.found[0], self.found[1], strict=True)
        dealt = [one for pair in both for one in pair]
        self.meeting.wait()
        return dealt


def test_21_records_on_two_ranks_are_21_on_each(
    family_model: PreTrainedModel, records: list[EncodedRecord]
) -> None:
    # Two threads in one model would take each other's hidden states, in one run of twenty.
    models = [family_model, deepcopy(family_model)]

    def scored(rank: int) -> TokenStatistics:
        access = replace(access_to(models[rank], 1, 400), ranks=Paired(rank, 2))
        with torch.no_grad():
            return score_records(access, records[:21], "").read()

    alone = score(family_model, records[:21], batch_size=1)
    with ThreadPoolExecutor(2) as pool:
        for own in pool.map(scored, (0, 1)):
            assert own.record_ids == alone.record_ids
            assert torch.equal(own.offsets, alone.offsets)
            torch.testing.assert_close(own.logp, alone.logp, atol=1e-5, rtol=0)


def test_a_broken_output_names_its_record(
    family_model: PreTrainedModel, records: list[EncodedRecord]
) -> None:
    embedding = family_model.get_input_embeddings()
    unique = next(
        token
        for token in records[4].prompt_ids
        if sum(token in (*r.prompt_ids, *r.response_ids) for r in records) == 1
    )
    with torch.no_grad():
        embedding.weight[unique] = float("nan")
        if family_model.get_output_embeddings().weight is embedding.weight:
            # Tied heads meet the row in every record; the first one scored is named.
            expected = r"record r\d+ cannot be scored"
        else:
            expected = "record r4 cannot be scored"
        with pytest.raises(FloatingPointError, match=expected):
            score_records(access_to(family_model, 8, 400), records, "")
