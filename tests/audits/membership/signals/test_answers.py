"""Similarities of answers equal records that are answered and compared one at a time."""

import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from audits.membership.attacks import LabelOnly
from audits.membership.measurements import Scored
from audits.membership.signals import AnswerSimilarity, Divergence
from audits.membership.view import AuditView
from audits.scoring.model_access import ModelAccess
from audits.scoring.rouge import WordTokenizer
from audits.scoring.scoring_pass import score_records
from audits.statistics import auroc
from common.errors import UserError
from datamodules.batches import EncodedRecord
from datamodules.records import InstructionRecord
from kdmodules.sampling.keyed_choice import RandomScope
from kdmodules.sampling.sampler import SamplingSettings, generate
from tests.audits.membership.signals.conftest import Planted

Records = list[InstructionRecord]
SIGNAL = AnswerSimilarity(samples=2, temperature=1.0, top_k=0)


def common(true: Sequence[str], own: Sequence[str]) -> int:
    """Length of the longest common subsequence."""
    if not true or not own:
        return 0
    if true[-1] == own[-1]:
        return 1 + common(true[:-1], own[:-1])
    return max(common(true[:-1], own), common(true, own[:-1]))


def edits(true: Sequence[str], own: Sequence[str]) -> int:
    """Levenshtein's distance, as it is defined."""
    if not true or not own:
        return len(true) + len(own)
    kept = edits(true[:-1], own[:-1]) + (true[-1] != own[-1])
    return min(kept, 1 + edits(true[:-1], own), 1 + edits(true, own[:-1]))


def similarity(true: str, written: str) -> float:
    words = WordTokenizer()
    one, other = words.tokenize(true), words.tokenize(written)
    if not one:
        one, other = list("".join(true.split())), list("".join(written.split()))
    both = common(one, other)
    rouge = 2 * both / (len(one) + len(other))
    return (rouge + 1 - edits(one, other) / max(len(one), len(other))) / 2


@pytest.mark.parametrize(
    ("true", "written"),
    [("the cat sat", "the mat sat on"), ("?! ?", "? !"), ("a b", "a b"), ("the cat", "")],
)
def test_the_value_is_the_mean_of_rouge_l_and_edit_similarity(true: str, written: str) -> None:
    assert SIGNAL.value(true, written) == pytest.approx(similarity(true, written), abs=1e-12)


def naive(access: ModelAccess, records: Records) -> torch.Tensor:
    """One record and one answer at a time: greedy, then two samples."""
    tokenizer, eos_id = access.encoder.tokenizer, access.encoder.eos_id
    rows = []
    for one in access.encoder.encode_all(records):
        ids = [token for token in one.response_ids if token != eos_id]
        true = tokenizer.decode(ids).replace("\ufffd", "")
        row = []
        for draw in range(3):
            decoding = "sample" if draw else "greedy"
            settings = SamplingSettings(decoding=decoding, max_new_tokens=len(ids))
            scope = RandomScope(access.seed, "label_only", draw=draw)
            (answer,) = generate(
                *(access.lm.model, [one.prompt_ids], [one.record_id]),
                *(settings, access.vocabulary, scope),
            )
            kept = [token for token in answer.token_ids if token != eos_id]
            written = tokenizer.decode(kept).replace("\ufffd", "")
            row.append(SIGNAL.value(true, written) if true.strip() else math.nan)
        rows.append(row)
    return torch.tensor(rows, dtype=torch.float64)


def test_equals_one_record_at_a_time(
    tokenizer: PreTrainedTokenizerFast, records: Records, planted: Planted
) -> None:
    for access, some in ((planted.access, planted.members[:5]), (planted.untrained, records)):
        encoded = access.encoder.encode_all(some)
        found = SIGNAL.measure(access, encoded)
        torch.testing.assert_close(found, naive(access, some), rtol=0, atol=0)
        small = replace(access, batch_size=2)
        assert torch.equal(SIGNAL.measure(small, encoded[::-1]).flip(0), found)
    learnt = SIGNAL.measure(planted.access, encoded_of(planted))
    unlearnt = SIGNAL.measure(planted.untrained, encoded_of(planted))
    assert learnt[:, 0].mean() > 0.2 > 4 * unlearnt[:, 0].mean()


def encoded_of(planted: Planted) -> list[EncodedRecord]:
    """The members' tokens, the same for both models."""
    return planted.access.encoder.encode_all(planted.members)


def test_an_answer_to_a_response_of_one_token_is_one_token(planted: Planted) -> None:
    access = planted.access
    (whole,) = access.encoder.encode_all(planted.members[:1])
    end = whole.response_ids[-1]
    short, empty = (
        replace(whole, response_ids=ids) for ids in ((whole.response_ids[0], end), (end,))
    )
    found = SIGNAL.measure(access, [short, empty])
    assert found[1].isnan().all()
    # Learnt by heart: the greedy answer is the response, a sampled one it or nothing like it.
    assert found[0, 0] == 1.0
    assert ((found[0] >= 0) & (found[0] <= 1)).all()


def test_a_record_without_a_prompt_is_not_defined(planted: Planted) -> None:
    access = planted.untrained
    one, other = access.encoder.encode_all(planted.members[:2])
    found = SIGNAL.measure(access, [replace(one, prompt_ids=()), other])
    assert found.isnan().all(dim=1).tolist() == [True, False]


def answered(
    attack: LabelOnly, target: ModelAccess, reference: ModelAccess, of: Records
) -> torch.Tensor:
    """Scores of records, with what the attack reads measured for it."""
    encoded = target.encoder.encode_all(of)
    own = score_records(target, encoded, "")
    signals = {
        signal: signal.measure(target if signal.model == "audited" else reference, encoded)
        for signal in attack.requires
        if isinstance(signal, AnswerSimilarity)
    }
    view = AuditView(of, {Scored(): own}, signals)
    assert attack.defined(view).all()
    assert set(attack.diagnostics(view)) == {"reliability"}
    return attack.score(view)


def test_answers_give_members_away_beside_a_reference_and_none_beside_itself(
    planted: Planted,
) -> None:
    attack = LabelOnly(samples=1)
    sides = (planted.members, planted.nonmembers)
    found = auroc(*(answered(attack, planted.access, planted.untrained, of) for of in sides))
    assert found.lower > 0.6, found
    alone = LabelOnly(reference=None, samples=1)
    clean = auroc(*(answered(alone, planted.untrained, planted.untrained, of) for of in sides))
    assert clean.lower < 0.5 < clean.upper, clean
    same = answered(attack, planted.untrained, planted.untrained, planted.members)
    assert not same.any(), "a reference that is the model itself draws the same answers"


def test_names_and_costs() -> None:
    assert SIGNAL.label == "audited: greedy answer and 2 sampled, T 1"
    assert SIGNAL.passes == 3.0
    assert LabelOnly().params == {"reference": "base", "samples": 4, "temperature": 1.0}
    assert {one.model for one in LabelOnly().requires} == {"audited", "base"}
    assert LabelOnly(reference=None).params["reference"] == "none"
    with pytest.raises(UserError, match="samples is 0"):
        LabelOnly(samples=0)


def exact_divergence(
    audited: PreTrainedModel, reference: PreTrainedModel, ids: list[int], first: int, size: int
) -> float:
    """KL(reference || audited) over the tokens from one on, by whole softmaxes in float64."""
    logp = [
        model(torch.tensor([ids])).logits[0, first - 1 : -1, :size].double().log_softmax(-1)
        for model in (reference, audited)
    ]
    return float((logp[0].exp() * (logp[0] - logp[1])).sum())


def test_divergence_is_that_of_the_audited_model_from_the_reference(
    planted: Planted, records: Records
) -> None:
    audited, reference = planted.access, planted.untrained
    encoded = audited.encoder.encode_all(records)
    with torch.no_grad():
        found = Divergence("base").measure(replace(reference, audited=audited), encoded)
        expected = [
            exact_divergence(
                *(audited.lm.model, reference.lm.model),
                *([*one.prompt_ids, *one.response_ids], len(one.prompt_ids)),
                len(audited.encoder.tokenizer),
            )
            for one in encoded
        ]
    torch.testing.assert_close(found[:, 0], torch.tensor(expected).double(), rtol=1e-4, atol=1e-4)
    assert Divergence().passes == 2.0
    with pytest.raises(ValueError, match="beside it"):
        Divergence().measure(reference, encoded)


def test_divergence_from_a_reference_with_another_tokenizer_is_refused(
    planted: Planted, records: Records
) -> None:
    other = deepcopy(planted.untrained.encoder.tokenizer)
    other.add_tokens(["<another>"])
    encoder = planted.untrained.encoder.with_tokenizer(other)
    reference = replace(planted.untrained, encoder=encoder, audited=planted.access)
    with pytest.raises(UserError, match="'base' has another tokenizer"):
        Divergence().measure(reference, encoder.encode_all(records))
