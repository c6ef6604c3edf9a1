"""Charts of estimates with their intervals, one band per run: attacks, and comparisons of runs."""

from collections.abc import Sequence
from dataclasses import dataclass

import altair as alt
import pandas as pd

from studies.report.charts import NEUTRAL, Spec, attack_colours, chart_spec, estimate_tooltips

__all__ = ["attack_chart", "difference_chart"]


def attack_chart(rows: pd.DataFrame, blind: pd.DataFrame) -> Spec:
    """AUROC with interval, one band per run, one mark per attack.

    Args:
        rows: The attacks' AUROCs.
        blind: Those of the blind baseline, drawn behind a run's attacks and not among them; may be
            empty.
    """
    frame = _Forest(rows, "label", "AUROC, private against held-out", 0.5, blind)
    return frame.spec()


def difference_chart(rows: pd.DataFrame, title: str, null: float) -> Spec:
    """A comparison with its interval, one band per pair of runs, one mark per attack."""
    return _Forest(rows, "pair", title, null, rows.iloc[:0]).spec()


@dataclass(frozen=True)
class _Forest:
    """Estimates by band and attack.

    Attributes:
        rows: The estimates.
        band: Column whose values are the bands.
        title: What the estimates are.
        null: Their value where nothing leaks.
        behind: Estimates that belong to a whole band.
    """

    rows: pd.DataFrame
    band: str
    title: str
    null: float
    behind: pd.DataFrame

    def spec(self) -> Spec:
        """Returns the chart: the null, what lies behind the bands, intervals, estimates."""
        attacks = list(dict.fromkeys(self.rows["attack"]))
        base = (
            alt.Chart(self.rows[self._columns])
            .encode(y=self._y(), tooltip=self._tooltips())
            .encode(
                yOffset=alt.YOffset("attack:N", sort=attacks),
                color=alt.Color(
                    "attack:N",
                    title=None,
                    scale=alt.Scale(domain=attacks, range=list(attack_colours(attacks).values())),
                    legend=None,
                ),
            )
        )
        bars = base.mark_rule(strokeWidth=2).encode(x=self._x("lower"), x2="upper:Q")
        points = base.mark_point(filled=True, size=62, opacity=1).encode(x=self._x("value"))
        line = (
            alt.Chart(pd.DataFrame({"null": [self.null]}))
            .mark_rule(strokeDash=[4, 4], color=NEUTRAL)
            .encode(x=self._x("null"))
        )
        layers = [line, *self._behind(), bars, points]
        height = self.rows[self.band].nunique() * (14 * len(attacks) + 14)
        return chart_spec(alt.layer(*layers), height=max(90, height))

    @property
    def _columns(self) -> list[str]:
        return [self.band, "attack", "value", "lower", "upper", "n_members", "n_nonmembers"]

    def _behind(self) -> Sequence[alt.Chart]:
        """An interval as high as its band, and a line for the value; nothing without rows."""
        if not len(self.behind):
            return []
        base = alt.Chart(self.behind[self._columns]).encode(tooltip=self._tooltips())
        area = base.mark_rect(color=NEUTRAL, opacity=0.16).encode(
            y=self._y(), x=self._x("lower"), x2="upper:Q"
        )
        value = base.mark_rule(color=NEUTRAL, strokeWidth=2).encode(
            y=self._y().bandPosition(0), y2=alt.Y2(self.band, bandPosition=1), x=self._x("value")
        )
        return [area, value]

    def _y(self) -> alt.Y:
        # A pair of runs takes two lines.
        labels = alt.Axis(
            grid=False, ticks=False, labelExpr="split(replace(datum.label, ' − ', '|− '), '|')"
        )
        order = list(dict.fromkeys(self.rows[self.band]))
        return alt.Y(f"{self.band}:N", sort=order, title=None, axis=labels)

    def _x(self, column: str) -> alt.X:
        every = pd.concat([self.rows, self.behind])
        low = min(self.null, every["lower"].min(), every["value"].min())
        high = max(self.null, every["upper"].max(), every["value"].max())
        margin = 0.04 * (high - low) or 0.05
        domain = [round(low - margin, 4), round(high + margin, 4)]
        return alt.X(
            f"{column}:Q",
            title=self.title,
            scale=alt.Scale(domain=domain, nice=False, zero=False),
            axis=alt.Axis(tickCount=7, format=".2~f"),
        )

    def _tooltips(self) -> list[alt.Tooltip]:
        return [
            alt.Tooltip(f"{self.band}:N", title="Run"),
            alt.Tooltip("attack:N", title="Attack"),
            *estimate_tooltips(),
        ]
