"""The page on defences: what must hold of a row fails where it does not."""

import pandas as pd

from benchmarks.frontier import checks, kinds_of


def table(lower: float = 0.55, ceiling: float = 0.9, plain: float = 0.8) -> pd.DataFrame:
    shared = {"replicate": 7, "perplexity": 20.0, "rouge_l_f1": 0.2, "teacher_kl": None, "tpr": 0.1}
    shared |= {
        "accuracy_upper": None,
        "gap": 0.0,
        "epsilon_lower": 0.0,
        "mu_lower": 0.0,
        "technique": None,
    }
    dp = {"kind": "Teacher · dp-8", "role": "teacher", "defence": "dp-8", "learnt": "yes"}
    dp |= {"guarantee": "epsilon 8", "holds": True, "auroc_upper": ceiling, "tpr_upper": 0.3}
    dp |= {"unit_lower": lower, "value": lower + 0.02, "lower": lower, "upper": lower + 0.04}
    none = {"kind": "Teacher", "role": "teacher", "defence": "none", "learnt": "yes"}
    none |= {"guarantee": None, "holds": False, "auroc_upper": None, "tpr_upper": None}
    none |= {"unit_lower": None, "value": plain + 0.02, "lower": plain, "upper": plain + 0.04}
    return pd.DataFrame([shared | dp, shared | none])


def test_a_row_above_its_ceiling_and_an_attack_that_finds_nothing_fail() -> None:
    assert [held for _, held in checks(kinds_of(table()))] == [True, True]
    assert list(kinds_of(table())["reading"]) == ["guaranteed", "no bound"]
    above = kinds_of(table(lower=0.92))
    assert [held for _, held in checks(above)] == [False, True]
    assert above["reading"].iloc[0].startswith("above its ceiling")
    assert [held for _, held in checks(kinds_of(table(plain=0.48)))] == [True, False]
