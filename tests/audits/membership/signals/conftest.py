"""Awkward records, a model that has memorised half of its records, and access to models."""

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from audits.scoring.model_access import ModelAccess
from common.ranks import Ranks
from datamodules.batches import EncodedRecord, RecordEncoder, collate
from datamodules.prompts import PromptTemplate
from datamodules.records import InstructionRecord
from kdmodules.models.causal_lm import CausalLM
from kdmodules.models.network import Network, build_network
from kdmodules.supervised_loss import supervised_sums

TEMPLATE = PromptTemplate("{instruction}\n{context}\n", "{instruction}\n")
RESPONSES = (
    "the cat 3 sat on the mat 21",
    "a",
    "naïve café 🙂🙃🙂",
    "the mat " * 25,
    "数字は 3.14 です。",
    "the\nmat",
    "?!",
    "on 14 the on 14 the cat",
)
WORDS = ("the", "cat", "sat", "on", "mat", *map(str, range(10, 40)))


@contextmanager
def silent(title: str, total: int) -> Iterator[Callable[[], None]]:
    """No bar."""
    yield lambda: None


def access_of(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, batch_size: int = 8
) -> ModelAccess:
    """Access to a model; padding is eos."""
    encoder = RecordEncoder(tokenizer, TEMPLATE, max_prompt_tokens=64, max_tokens=128)
    assert encoder.pad_id == encoder.eos_id
    lm = CausalLM(model.eval(), len(tokenizer))
    return ModelAccess(lm, encoder, Ranks(), batch_size, 2048, 0, silent)


def record(index: int, instruction: str, response: str) -> InstructionRecord:
    """A record of the open task."""
    return InstructionRecord(f"r{index}", instruction, "", response, "open_qa", f"test:{index}")


@pytest.fixture
def records() -> list[InstructionRecord]:
    """One-token, long, cut, punctuation-only, unspaced and emoji responses."""
    return [record(i, f"the cat {i}", response) for i, response in enumerate(RESPONSES)]


def mean_nll(model: PreTrainedModel, one: EncodedRecord, vocabulary: int) -> torch.Tensor:
    """Mean NLL of a record's response by the plain model, in the model's own dtype."""
    ids = torch.tensor([one.prompt_ids + one.response_ids])
    logp = model(input_ids=ids).logits[0, :, :vocabulary].log_softmax(-1)
    rows = logp[len(one.prompt_ids) - 1 : -1]
    return -rows.gather(1, torch.tensor(one.response_ids)[:, None]).mean()


@dataclass
class Tally:
    """How many encoded records are alive, and how many ever were at once."""

    alive: int = 0
    most: int = 0

    def add(self, one: EncodedRecord) -> None:
        """Counts a record until it is gone."""
        self.alive += 1
        self.most = max(self.most, self.alive)
        weakref.finalize(one, self._forget)

    def _forget(self) -> None:
        self.alive -= 1


@dataclass(frozen=True)
class CountedRecord(EncodedRecord):
    """An encoded record that is counted, as is every record that it is replaced by."""

    tally: Tally = field(kw_only=True)

    def __post_init__(self) -> None:
        self.tally.add(self)


class CountedRecords(Sequence[EncodedRecord]):
    """Encoded records, each made anew when it is read, as those of a file are."""

    def __init__(self, records: Sequence[EncodedRecord]) -> None:
        self._values = [
            {part.name: getattr(one, part.name) for part in fields(one)} for one in records
        ]
        self.tally = Tally()

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, place):
        return CountedRecord(**self._values[place], tally=self.tally)


@dataclass(frozen=True)
class Planted:
    """A leak that every attack must find, and the same model before the leak.

    Attributes:
        access: The model, over-trained on the members.
        untrained: The model that never saw a record.
        members: What it was trained on.
        nonmembers: Records of the same distribution.
    """

    access: ModelAccess
    untrained: ModelAccess
    members: list[InstructionRecord]
    nonmembers: list[InstructionRecord]


def _random_records(n: int) -> list[InstructionRecord]:
    generator = torch.Generator().manual_seed(5)

    def text(words: int) -> str:
        chosen = torch.randint(len(WORDS), (words,), generator=generator)
        return " ".join(WORDS[place] for place in chosen.tolist())

    return [record(i, text(4), text(10)) for i in range(n)]


@pytest.fixture(scope="session")
def planted(tokenizer: PreTrainedTokenizerFast) -> Planted:
    """32 members, learnt by heart, and 32 non-members."""
    sizes = {"n_layer": 2, "n_head": 2, "n_embd": 48, "n_positions": 128}
    network = Network("gpt2", None, sizes)
    untrained = access_of(build_network(network, tokenizer, seed=1), tokenizer, 32)
    access = access_of(build_network(network, tokenizer, seed=1), tokenizer, 32)
    every = _random_records(64)
    batch = collate(access.encoder.encode_all(every[:32]), access.encoder.pad_id)
    optimizer = torch.optim.AdamW(access.lm.parameters(), lr=4e-3)
    for _ in range(120):
        sums = supervised_sums(access.lm, batch)
        optimizer.zero_grad()
        (sums["loss"] / sums["tokens"]).backward()
        optimizer.step()
    optimizer.zero_grad()
    return Planted(access, untrained, every[:32], every[32:])
