"""Which of several models no other beats in both risk and utility."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from studies.claims.verdict import FEWEST_REPLICATES

_DRAWS = 2000


def undominated(risk: Sequence[float], utility: Sequence[float]) -> NDArray[np.bool_]:
    """Returns whom nobody beats in one of the two and equals or beats in the other, [n].

    Args:
        risk: [n], lower is better.
        utility: [n], higher is better.

    >>> undominated([0.9, 0.6, 0.7], [3.0, 1.0, 1.0]).tolist()
    [True, True, False]
    """
    r, u = np.asarray(risk, np.float64), np.asarray(utility, np.float64)
    no_worse = (r[:, None] <= r) & (u[:, None] >= u)
    better = (r[:, None] < r) | (u[:, None] > u)
    return np.asarray(~(no_worse & better).any(axis=0))


def pareto_shares(rows: pd.DataFrame) -> pd.Series:
    """Returns in which share of bootstrap draws each model is undominated, by label.

    Replicates are drawn with replacement, the same for all models, which are compared in their
    means over a draw. Below five replicates there is one draw: the replicates as they are.

    Args:
        rows: `label`, `replicate`, `risk` and `utility`, higher better; one row or more of each
            label and replicate, averaged. A label that has not both anywhere gets no share, and a
            replicate that some other label lacks is left out.
    """
    known = rows.dropna(subset=["risk", "utility"])
    every = pd.Series(np.nan, index=pd.Index(rows["label"].unique()))
    if known.empty:
        return every
    wide = known.pivot_table(["risk", "utility"], "replicate", "label", sort=False).dropna()
    risk, utility = wide["risk"].to_numpy(), wide["utility"].to_numpy()
    labels, n = wide["risk"].columns, len(wide)
    if n == 0:
        return every
    draws = np.arange(n)[None]
    if n >= FEWEST_REPLICATES:
        draws = np.random.default_rng(0).integers(n, size=(_DRAWS, n))
    found = [undominated(risk[draw].mean(axis=0), utility[draw].mean(axis=0)) for draw in draws]
    return pd.Series(np.mean(found, axis=0), index=labels).reindex(every.index)
