"""Records with planted codes, a model that learns them, and its audit."""

from collections.abc import Sequence

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from audits.context import AuditContext, Measurements, SharedWork
from audits.spans.audit import audit_spans
from audits.spans.options import SpanOptions
from datamodules.batches import RecordEncoder, collate
from datamodules.external_populations import ExternalPopulations
from datamodules.records import InstructionRecord
from datamodules.sensitive import SensitiveSpan
from datamodules.synthetic.draw import Draw
from datamodules.tokenizer import train_tokenizer
from kdmodules.models.causal_lm import CausalLM
from kdmodules.models.network import Network, build_network
from kdmodules.token_means import supervised_sums
from tests.audits.membership.signals.conftest import access_of

NETWORK = {"n_layer": 2, "n_head": 2, "n_embd": 64, "n_positions": 128}
REPETITIONS = (1, 4, 16)
_EACH = 8


def planted(index: int) -> InstructionRecord:
    """A question, and the code that answers it."""
    draw = Draw("planted", index)
    code = "".join(str(draw.integer(0, 9)) for _ in range(6))
    return InstructionRecord(
        id=f"planted-{index}",
        instruction=f"Which code has {draw.person()}?",
        context="",
        response=f"It is {code} now.",
        task="open_qa",
        origin=f"test:{index}",
        sensitive=(SensitiveSpan(code, "number"),),
    )


def learnt(
    records: Sequence[InstructionRecord], encoder: RecordEncoder, passes: int
) -> PreTrainedModel:
    """A small model after some passes over records, given once for each time that it meets them."""
    network = Network("gpt2", None, NETWORK, dropout=0.0)
    model = build_network(network, encoder.tokenizer, seed=3)
    lm = CausalLM(model.train(), len(encoder.tokenizer))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    encoded = encoder.encode_last(records)
    order = torch.Generator().manual_seed(0)
    for _ in range(passes):
        for places in torch.randperm(len(encoded), generator=order).split(16):
            batch = collate([encoded[int(place)] for place in places], encoder.pad_id)
            sums = supervised_sums(lm, batch)
            optimizer.zero_grad()
            (sums["loss"] / sums["tokens"]).backward()
            optimizer.step()
    return model.eval()


@pytest.fixture(scope="session")
def coded() -> dict[str, list[InstructionRecord]]:
    """Members that are met once, 4 and 16 times, as many non-members, and records for never."""
    sizes = {"external": 3 * _EACH, "held_out": 3 * _EACH, "never": 24}
    found, start = {}, 0
    for name, size in sizes.items():
        found[name] = [planted(index) for index in range(start, start + size)]
        start += size
    return found


@pytest.fixture(scope="session")
def coded_tokenizer(coded: dict[str, list[InstructionRecord]]) -> PreTrainedTokenizerFast:
    texts = [f"{one.instruction} {one.response}" for side in coded.values() for one in side]
    return train_tokenizer(texts, 300)


def met(side: Sequence[InstructionRecord]) -> list[InstructionRecord]:
    """A side as a model is trained on it: thirds of it once, 4 and 16 times."""
    return [one for place, one in enumerate(side) for _ in range(REPETITIONS[place // _EACH])]


@pytest.fixture(scope="session")
def found(
    coded: dict[str, list[InstructionRecord]], coded_tokenizer: PreTrainedTokenizerFast
) -> dict[str, Measurements]:
    """What is found of the model that met the members, and of one that met the non-members."""
    return {
        "model": audited(coded, coded_tokenizer, "external"),
        "counterfactual": audited(coded, coded_tokenizer, "held_out"),
    }


def audited(
    coded: dict[str, list[InstructionRecord]],
    tokenizer: PreTrainedTokenizerFast,
    side: str,
    passes: int = 7,
) -> Measurements:
    """Trains on a side and looks for spans of all."""
    data = ExternalPopulations()
    data.fill(coded["external"], coded["held_out"], ("a", "b", "c"), 0.95, coded["never"])
    access = access_of(build_network(Network("gpt2", None, NETWORK), tokenizer, 0), tokenizer)
    data.encoder = access.encoder
    model = learnt(met(coded[side]), access.encoder, passes)
    context = AuditContext(
        access_of(model, tokenizer, 32), data, {}.get, {}.get, data.by_role, SharedWork()
    )
    options = SpanOptions(samples=4, sampled_records=6, answer_tokens=24)
    with torch.no_grad():
        return audit_spans(context, options, None, None)
