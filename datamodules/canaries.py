"""Canaries: records with a secret drawn uniformly from a space of known size, planted on request.

Two disjoint series (Steinke 2023; Carlini 2019):

* `coin`: each canary once, in or out by its own fair coin. The excluded are the non-members;
  membership and one-run epsilon need nothing else. Shadow worlds have other coins (`coins`). In
  the counterfactual world the coins are turned over: its teacher gets the excluded half.
* `exposure`: all planted, repeated 1 to 16 times, for the rank of the secret among all secrets. A
  record repeated r times is a group (its bound would be r epsilon), hence never used for epsilon.
  None of them is in the counterfactual world.

The coin series may be texts of a file in place of secrets: such as a language model samples at a
high temperature from a prompt about data like the private ones, unlikely and yet of their kind
(Mitchell et al. 2026, "Advancing the State-of-the-Art in Empirical Privacy Auditing", arXiv
2606.10481).

Coins, secrets and wording are hashes of (seed, purpose, canary id), a shadow world's coins of its
number too: none depends on another canary, on the number of canaries, or on an order.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args

from common.atomic_file import replacing
from common.errors import UserError
from common.keys import key
from common.options import require_at_least
from datamodules.canary_secrets import SECRET_FORMATS, SecretFormat
from datamodules.coins import throw
from datamodules.records import InstructionRecord, read_records
from datamodules.synthetic.draw import Draw

Series = Literal["coin", "exposure"]
World = Literal["private", "counterfactual"]

_CANARY_TASK = "open_qa"
_TEXT = "text"
"""Format of a canary that is a text of a file and has no secret."""
_SECRETS = ("code", "phone", "email", "account")


@dataclass(frozen=True, slots=True)
class Canary:
    """One canary, planted or left out: a line of the manifest. It holds a secret.

    The wording is stored, so that an audit needs the manifest alone.

    Attributes:
        id: "canary-<series>-<number>"; also the id of its record.
        series: "coin" or "exposure".
        format: key of `SECRET_FORMATS`; "text" of a text of a file.
        secret_space: number of possible secrets; 1 of a text.
        secret_index: which of them.
        repetitions: how often it is planted where it is included.
        included: whether the private split holds it.
        instruction: the prompt; it never holds the secret.
        response_prefix: what the response says before the secret.
        response_suffix: what it says after the secret.
        context: what the prompt says beside the instruction.
    """

    id: str
    series: Series
    format: str
    secret_space: int
    secret_index: int = field(repr=False)
    repetitions: int
    included: bool
    instruction: str
    response_prefix: str
    response_suffix: str
    context: str = ""

    @property
    def secret(self) -> str:
        """The secret itself; of a text the whole response."""
        if self.format == _TEXT:
            return self.response_prefix
        return SECRET_FORMATS[self.format].secret(self.secret_index)

    def candidate_response(self, index: int) -> str:
        """Words the response as if the secret were number `index` of its format."""
        if self.format == _TEXT:
            return self.response_prefix
        secret = SECRET_FORMATS[self.format].secret(index)
        return f"{self.response_prefix}{secret}{self.response_suffix}"

    def record(self, copy: int = 1) -> InstructionRecord:
        """Makes the record; copies differ in `origin` only: audits score the id once."""
        return InstructionRecord(
            id=self.id,
            instruction=self.instruction,
            context=self.context,
            response=self.candidate_response(self.secret_index),
            task=_CANARY_TASK,
            origin=f"{self.id}#{copy}",
        )


@dataclass(frozen=True)
class CanaryPlan:
    """How many canaries of which kind.

    Attributes:
        coin: number of coin canaries m, both halves together; 500 or more where the data allow:
            with r all-right guesses epsilon cannot exceed 3.5 at r = 100, 5.8 at r = 1,000.
        exposure_per_level: number of exposure canaries at each level of repetition.
        repetitions: the levels.
        formats: formats in use, in turn: code, phone, email, account; words, an unlikely ending.
        texts: file of records (instruction and response) that are the coin canaries in place of
            secrets, as many as `coin`, in its order.

    Raises:
        UserError: for a negative number, a level below 1 or named twice, or an unknown format.
    """

    coin: int = 500
    exposure_per_level: int = 20
    repetitions: tuple[int, ...] = (1, 2, 4, 8, 16)
    formats: tuple[str, ...] = _SECRETS
    texts: str | None = None

    def __post_init__(self) -> None:
        """Checks the options."""
        require_at_least(0, "canaries.", coin=self.coin, exposure_per_level=self.exposure_per_level)
        levels = list(self.repetitions)
        if any(level < 1 for level in levels) or len(set(levels)) < len(levels):
            raise UserError(f"canaries.repetitions is {levels}: give different numbers from 1 on")
        unknown = [name for name in self.formats if name not in SECRET_FORMATS]
        if unknown or not self.formats:
            raise UserError(
                f"canaries.formats is {list(self.formats)}: choose from {', '.join(SECRET_FORMATS)}"
            )


def _draw_canary(
    secret_format: SecretFormat,
    seed: int,
    shadow: int | None,
    canary_id: str,
    series: Series,
    repetitions: int,
) -> Canary:
    draw = Draw(seed, "canary-wording", canary_id)
    names = {"person": draw.person(), "firm": draw.organisation(), "place": draw.place()}
    prefix, suffix = draw.one_of(secret_format.answers).split("{secret}")
    heads = throw(seed, "canary-coin", canary_id, shadow) == 1
    return Canary(
        id=canary_id,
        series=series,
        format=secret_format.name,
        secret_space=secret_format.size,
        secret_index=key(seed, "canary-secret", canary_id) % secret_format.size,
        repetitions=repetitions,
        included=heads if series == "coin" else True,
        instruction=draw.one_of(secret_format.questions).format_map(names),
        response_prefix=prefix.format_map(names),
        response_suffix=suffix.format_map(names),
    )


def _texts(plan: CanaryPlan) -> list[InstructionRecord]:
    """Reads the texts of the coin series.

    Raises:
        UserError: if there are too few, or one that cannot be a canary.
    """
    if plan.texts is None:
        return []
    records = read_records(plan.texts, max_rows=plan.coin)
    where = f"canaries.texts is {plan.texts}"
    if len(records) < plan.coin:
        raise UserError(
            f"{where}, which has {len(records)} texts, and canaries.coin is {plan.coin}: give more "
            "texts, or lower it"
        )
    seen: dict[str, str] = {}
    for record in records:
        if record.chat is not None or not (record.instruction and record.response):
            raise UserError(f"{where}: {record.origin} is no instruction with a response")
        if record.content in seen:
            raise UserError(
                f"{where}: {seen[record.content]} and {record.origin} are one text, which has one "
                "coin: leave one out"
            )
        seen[record.content] = record.origin
    return records


def draw_canaries(plan: CanaryPlan, seed: int, shadow: int | None = None) -> list[Canary]:
    """Draws all canaries of a plan, the excluded ones too: the manifest's content.

    Args:
        plan: how many of which kind.
        seed: the data's seed.
        shadow: number of a shadow world, whose coins are thrown anew; None for the first throw.

    Returns:
        The coin series, then the exposure series by level. A canary depends on the seed, the
        formats and its own series, level and number: more canaries never change the others. Worlds
        differ in `included` of the coin series alone.

    Raises:
        UserError: if the coin series' texts cannot be read, are too few, or one cannot be used.
    """

    given = _texts(plan)

    def draw(number: int, canary_id: str, series: Series, level: int) -> Canary:
        secret_format = SECRET_FORMATS[plan.formats[number % len(plan.formats)]]
        return _draw_canary(secret_format, seed, shadow, canary_id, series, level)

    coin = [draw(number, f"canary-coin-{number:05d}", "coin", 1) for number in range(plan.coin)]
    coin[: len(given)] = [
        replace(
            canary,
            format=_TEXT,
            secret_space=1,
            secret_index=0,
            instruction=text.instruction,
            response_prefix=text.response,
            response_suffix="",
            context=text.context,
        )
        for canary, text in zip(coin, given, strict=False)
    ]
    exposure = [
        draw(number, f"canary-exposure-{level:02d}-{number:04d}", "exposure", level)
        for level in plan.repetitions
        for number in range(plan.exposure_per_level)
    ]
    return coin + exposure


def planted_records(
    canaries: Iterable[Canary], world: World = "private"
) -> list[InstructionRecord]:
    """Lists what a teacher trains on besides its split, repetitions as repeated records.

    They are planted after duplicates were removed and sides assigned, and belong to no population
    of ordinary records. Copies share id and content; a score exists once per id.

    Args:
        canaries: both series.
        world: "private" for the teacher; "counterfactual" for the one trained on the held-out side,
            which gets the coin canaries that the teacher does not get, and no exposure canary.

    Returns:
        The records, copies next to each other.
    """
    if world not in get_args(World):
        raise ValueError(f"world is one of {get_args(World)}, not {world!r}")
    if world == "private":
        chosen = [canary for canary in canaries if canary.included]
    else:
        chosen = coin_canaries(canaries, included=False)
    return [c.record(copy) for c in chosen for copy in range(1, c.repetitions + 1)]


def coin_canaries(canaries: Iterable[Canary], *, included: bool) -> list[Canary]:
    """Picks the members (`canary_in`) or non-members (`canary_out`) of the coin series."""
    return [c for c in canaries if c.series == "coin" and c.included == included]


def write_manifest(canaries: Sequence[Canary], path: Path) -> None:
    """Writes the manifest as JSON lines, readable by its owner only; it holds every secret.

    The file appears whole or not at all.

    Args:
        canaries: what `draw_canaries` returned.
        path: a file in the run's `private/` folder, which is made (mode 0700) if it is missing.
    """
    with replacing(path, private=True) as file:
        for canary in canaries:
            file.write((json.dumps(asdict(canary), ensure_ascii=False) + "\n").encode())
