"""The attack that a study's claims, headline and rankings read: fixed by its file, before looking.

One attack's figure is no measure of everything that a model gives away: whatever rests on it names
it.
"""

import pandas as pd

from audits.results import params_json

Attack = tuple[str, str]
"""Name and parameters, as the tables hold them."""
REFERENCE: Attack = ("reference", params_json({"reference": "base"}))
LOSS: Attack = ("loss", params_json({}))


def primary_attack(results: pd.DataFrame) -> Attack:
    """Returns the reference attack against the base where the study runs it, else the loss.

    Which of the two a study runs is in its file: no result decides it.

    Args:
        results: The study's results: columns `name` and `params`.
    """
    against_base = (results["name"] == REFERENCE[0]) & (results["params"] == REFERENCE[1])
    return REFERENCE if against_base.any() else LOSS
