"""The answer on one model says what its rows say, by an attack that no result chooses."""

import json
from collections.abc import Iterator

from audits.answer import model_answer
from audits.answer.console import console_lines
from audits.answer.sentence import audits_of, single_answer, untested

_COUNTS = {"n_members": 200, "n_nonmembers": 200, "shifted": False}


def _row(audit: str, name: str, metric: str, *ends: float | None, **more: object) -> dict:
    value, lower, upper = (*ends, None, None, None)[:3]
    return {
        **{"audit": audit, "name": name, "metric": metric, "population": "private"},
        **{"value": value, "lower": lower, "upper": upper, "params": "{}", **_COUNTS, **more},
    }


def _rows() -> Iterator[dict]:
    base = '{"reference": "base"}'
    yield _row("membership", "loss", "auroc", 0.9, 0.85, 0.93)
    yield _row("membership", "reference", "auroc", 0.52, 0.46, 0.58, params=base)
    yield _row("membership", "reference", "tpr_at_fpr_0.1", 0.12, 0.08, 0.19, params=base)
    yield _row("membership", "reference", "tpr_at_fpr_0.01", params=base, n_nonmembers=40)
    yield _row("membership", "any_attack", "max_t", 9.0, p_value=0.001, params='{"largest":"loss"}')
    yield _row("membership", "reference", "auroc", 0.7, 0.6, 0.8, task="summarization", params=base)
    against = '{"against": "held_out"}'
    yield _row(
        "memorization", "token_accuracy", "token_accuracy_gap", 0.2, 0.1, 0.3, params=against
    )
    yield _row("records", "encoding", "prompts_cut", 3.0)
    yield _row("records", "encoding", "responses_cut", 4.0)
    yield _row("utility", "perplexity", "perplexity", 12.0, 11.0, 13.0, population="never")


def test_the_headline_is_the_reference_attack_though_another_finds_more() -> None:
    answer = model_answer(list(_rows()), label="Student", run="s", role="student")
    assert answer.membership is not None
    assert answer.membership.verdict is not None
    assert answer.membership.figure.text == "0.520 [0.460, 0.580]"
    assert answer.membership.title == "Reference (reference base)"
    assert answer.membership.verdict.word == "nothing shown"
    assert [found.text for found in answer.found] == [
        "12 of 100 [8, 19]",
        "not measurable with 40 non-members",
    ]
    assert answer.cautions == (
        "some attack tells members from non-members (p = 0.001 over all attacks together, most by "
        "Loss), though the headline attack shows no leak",
    )


def test_single_records_are_told_of_where_worlds_judged_them() -> None:
    bare = list(_rows())
    of_pool = {"population": "pool", "n_members": 480}
    rows = [
        *bare,
        _row("membership", "single_records", "named", 14.0, **of_pool),
        _row("membership", "single_records", "named", 3.0, task="summarization", **of_pool),
        _row("membership", "single_records", "share_found", 0.04, 0.02, 0.09, **of_pool),
        _row("membership", "single_records", "tail", 0.1, population="never"),
    ]
    answer = model_answer(rows, label="Student", run="s", role="student")
    assert answer.single_records is not None
    told = " ".join(console_lines(single_answer(answer, audits_of(rows)), {}))
    assert "14 of 480 named; share found 0.040 [0.020, 0.090]" in told
    assert not [one for one in untested(audits_of(rows)) if one.startswith("single records: ")]
    assert model_answer(bare, label="Student", run="s", role="student").single_records is None
    assert [one for one in untested(audits_of(bare)) if one.startswith("single records: ")]


def test_memorization_utility_and_counts() -> None:
    answer = model_answer(list(_rows()), label="Student", run="s", role="student")
    assert answer.memorization is not None
    assert answer.memorization.verdict is not None
    assert (answer.memorization.figure.value, answer.memorization.verdict.word) == (0.2, "leaks")
    assert answer.utility is not None
    assert answer.utility.figure.value == 12.0
    assert (answer.cut, answer.shipped) == (7, True)


def test_a_run_without_audits_says_nothing() -> None:
    answer = model_answer([], label="Control", run="c", role="control")
    assert (answer.membership, answer.memorization, answer.found) == (None, None, ())
    assert not answer.shipped


def _of_every_access() -> Iterator[dict]:
    """AUROCs that rise along the lines, so that picking by result would pick others."""
    attacks = [
        ("loss", {}, 0.6),
        ("zlib", {}, 0.95),
        ("top_k_loss", {"k": 20}, 0.58),
        ("top_k_loss", {"k": 5}, 0.57),
        ("min_k_plus_plus", {"k": 0.2}, 0.61),
        ("min_k_plus_plus", {"k": 0.5}, 0.99),
        ("as_released_min_k_plus_plus", {"k": 0.2}, 0.99),
        ("reference", {"reference": "counterfactual"}, 0.99),
        ("reference", {"reference": "base"}, 0.62),
        ("grad_norm", {"p": 2}, 0.99),
        ("mope", {"sigma": 0.005}, 0.63),
        ("lira", {"references": "a,b", "mode": "offline"}, 0.99),
        ("rmia", {"references": "a,b"}, 0.64),
        ("samia", {"samples": 10}, 0.55),
    ]
    for name, params, auroc in attacks:
        ends, told = (auroc, auroc - 0.02, auroc + 0.005), json.dumps(params)
        yield _row("membership", name, "auroc", *ends, params=told)
        yield _row("membership", name, "tpr_at_fpr_0.1", 0.2, 0.15, 0.3, params=told)
        if "counterfactual" in told:
            yield _row("membership", name, "reads_the_coins", 1.0, params=told)
        yield _row("membership", name, "auroc", *ends, params=told, population="canary_in")


def test_each_access_is_told_by_an_attack_that_no_result_has_chosen() -> None:
    answer = model_answer(list(_of_every_access()), label="Student", run="s", role="student")
    assert [
        (one.access, one.membership.title, one.membership.figure.value) for one in answer.by_access
    ] == [
        ("text only", "SaMIA (samples 10)", 0.55),
        ("top-5 log-probabilities", "Top-k loss (k 5)", 0.57),
        ("top-20 log-probabilities", "Top-k loss (k 20)", 0.58),
        ("log-probabilities of given text", "Reference (reference base)", 0.62),
        ("log-probabilities of given text, and shadow models", "RMIA (references a,b)", 0.64),
        ("whole next-token distributions", "Min-K%++ (k 0.2)", 0.61),
        ("weights", "MoPe (sigma 0.005)", 0.63),
    ]
    assert [found.text for found in answer.by_access[0].found] == ["20 of 100 [15, 30]"]
    verdict = answer.by_access[0].membership.verdict
    assert verdict is not None
    assert verdict.word == "leaks"


def test_lira_tells_of_shadow_models_where_there_are_sixteen() -> None:
    many = json.dumps({"references": ",".join(map(str, range(16))), "mode": "offline"})
    rows = [
        _row("membership", "rmia", "auroc", 0.7, 0.6, 0.8, params='{"references": "a"}'),
        _row("membership", "lira", "auroc", 0.6, 0.5, 0.7, params=many),
    ]
    told = model_answer(rows, label="Student", run="s", role="student").by_access
    assert [one.membership.name for one in told] == ["lira"]
