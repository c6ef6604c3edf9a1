"""Attacks on other texts at the edges: log-probabilities written by hand, and what is not there."""

from dataclasses import replace

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from audits.membership.attacks import DCPDD, ConRecall, Lowercase, Recall
from audits.membership.frequencies import TokenFrequencies
from audits.membership.measurements import Scored
from audits.membership.texts import Lowercased, Shots
from audits.membership.view import AuditView
from audits.scoring.token_statistics import TokenStatistics
from common.errors import UserError
from kdmodules.scoring import TokenScores
from tests.audits.membership.conftest import records as plain_records


def table(*logp: list[float]) -> TokenStatistics:
    """Records of given log-probabilities."""
    flat = torch.tensor([value for one in logp for value in one])
    nothing = torch.zeros_like(flat)
    scores = TokenScores(flat, nothing, nothing, nothing.long())
    names = [f"record-{i}" for i in range(len(logp))]
    return TokenStatistics.from_batch(names, torch.tensor([len(one) for one in logp]), scores)


def view_of(own: TokenStatistics, **others: TokenStatistics) -> AuditView:
    texts = {
        "lower": Lowercased(),
        "outside": Shots("held_out", 10),
        "inside": Shots("private", 10),
    }
    passes = {Scored(): own, **{Scored(text=texts[name]): one for name, one in others.items()}}
    return AuditView(plain_records((1,) * len(own)), passes)


def test_memorised_records_do_not_divide_by_zero() -> None:
    own = table([0.0, 0.0], [-1e-4], [-2.0])
    other = table([-1.0, -3.0], [-2.0], [-3.0])
    view = view_of(own, lower=other, outside=other, inside=table([-1.0, -1.0], [-1.0], [-1.0]))
    assert Lowercase().score(view).tolist() == pytest.approx([200.0, 200.0, 1.5])
    assert Recall().score(view).tolist() == pytest.approx([200.0, 200.0, 1.5])
    assert ConRecall().score(view).tolist() == pytest.approx([150.0, 150.0, 1.25])
    assert ConRecall(gamma=0).score(view).tolist() == Recall().score(view).tolist()


def test_records_clipped_throughout_tie() -> None:
    lengths = list(range(1, 40))
    own = table(*([-0.1] * n for n in lengths))
    own = replace(own, token_ids=torch.cat([torch.arange(n) for n in lengths]))
    view = AuditView(
        [replace(plain_records((1,))[0], id=name) for name in own.record_ids],
        {Scored(): own},
        frequencies={TokenFrequencies(): torch.full((40,), -5.0, dtype=torch.float64)},
    )
    assert set(DCPDD().score(view).tolist()) == {0.01}
    assert DCPDD().diagnostics(view) == {"clipped_share": 1.0}


def test_dc_pdd_without_token_ids_is_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    attack = DCPDD(max_blocks=1)
    with pytest.raises(UserError, match="hold no token ids"):
        attack.score(view_of(table([-1.0])))


def test_what_was_not_measured_is_named() -> None:
    view = view_of(replace(table([-1.0]), token_ids=torch.tensor([3])))
    with pytest.raises(UserError, match="'token frequencies of builtin' was not measured"):
        DCPDD().score(view)
    for attack, what in (
        (Recall(), "after 10 held_out shots"),
        (Lowercase(), "lowercase"),
    ):
        with pytest.raises(UserError, match=f"'audited: {what}' was not measured"):
            attack.score(view)
