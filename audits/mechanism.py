"""Reads from results what of a technique's mechanism ran, and says it in words."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from audits.rows import Audit

AUDIT = Audit.mechanism
NAME = "responses"

Row = Mapping[str, object]
_KINDS = ("fresh", "replayed", "fixed")


@dataclass(frozen=True)
class Mechanism:
    """What a student's response source did.

    Attributes:
        figures: By name: shares of updates, a threshold, rounds.
        objective: Name of the objective's class.
    """

    figures: Mapping[str, float]
    objective: str

    @property
    def offline(self) -> bool:
        """Whether the scheme of fresh and replayed samples never drew either."""
        shares = [self.figures.get(f"share_{kind}") for kind in ("fresh", "replayed")]
        return shares == [0.0, 0.0]

    @property
    def offline_name(self) -> str:
        """What such a run is: its objective on the records' own responses."""
        return f"offline {_in_words(self.objective)}"


def mechanism_of(rows: Sequence[Row]) -> Mechanism | None:
    """Returns what stands in a run's results; None where nothing does.

    Args:
        rows: Of one run, of any audits and steps: the last step counts.
    """
    own = [row for row in rows if row["audit"] == AUDIT and row["name"] == NAME]
    if not own:
        return None
    last = max(int(str(row["step"])) for row in own)
    found = [row for row in own if int(str(row["step"])) == last]
    return Mechanism(
        {str(row["metric"]): float(str(row["value"])) for row in found},
        str(json.loads(str(found[0]["params"]))["objective"]),
    )


def shown_technique(name: str, runs: Sequence[Mechanism]) -> str:
    """Returns what a technique is called where its runs are shown.

    Args:
        name: What it is called in configurations.
        runs: What is known of its runs.

    Returns:
        The name, but where the mechanism that it stands for never ran: then what ran instead. Where
        it did not run in some of the runs, both.
    """
    offline = [run for run in runs if run.offline]
    if not offline:
        return name
    other = offline[0].offline_name
    if len(offline) == len(runs):
        return other
    return f"{name} ({other} in {len(offline)} of {len(runs)} runs)"


def note(runs: Sequence[Mechanism]) -> str:
    """Returns the figures in a few words, their means over runs; empty without any.

    >>> figures = {"share_fresh": 0.02, "share_replayed": 0.1, "share_fixed": 0.88}
    >>> note([Mechanism(figures, "SkewReverseKL")])
    '2% fresh, 10% replayed, 88% fixed'
    >>> note([Mechanism({"rounds": 4, "warmup_share": 0.16}, "PolicyGradient")])
    '4 rounds, 16% warm-up'
    >>> note([Mechanism({"answered": 15, "prompts": 60, "tokens": 812}, "ForwardKL")])
    '15 of 60 prompts answered with 812 tokens'
    """
    means = {
        name: fmean(run.figures[name] for run in runs)
        for name in (runs[0].figures if runs else ())
        if all(name in run.figures for run in runs)
    }
    parts = [
        f"{_percent(means[f'share_{kind}'])} {kind}" for kind in _KINDS if f"share_{kind}" in means
    ]
    if "rounds" in means:
        parts.append(f"{means['rounds']:.3g} round{'' if means['rounds'] == 1 else 's'}")
    if "answered" in means:
        answered, prompts, tokens = (means[name] for name in ("answered", "prompts", "tokens"))
        with_tokens = f"answered with {tokens:,.0f} tokens"
        parts.append(f"{answered:,.0f} of {prompts:,.0f} prompts {with_tokens}")
    if "warmup_share" in means:
        parts.append(f"{_percent(means['warmup_share'])} warm-up")
    return ", ".join(parts)


def _percent(share: float) -> str:
    return "<1%" if 0 < share < 0.01 else f"{share:.0%}"


def _in_words(class_name: str) -> str:
    """Splits a class's name; abbreviations keep their capitals.

    >>> _in_words("SkewReverseKL")
    'skew reverse KL'
    """
    words = re.findall(r"[A-Z][a-z]+|[A-Z]+(?![a-z])", class_name)
    return " ".join(word if word.isupper() else word.lower() for word in words)
