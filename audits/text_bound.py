"""What the text that a model samples tells of its coins: the bound by information, estimated.

Of worlds with coins of their own, each world's model answers public prompts at temperature 1, and
at every token its distribution is set against the mean of the models whose coins are other throws
than its own. What is claimed, with its proof, stands in docs/defences.md: an average over models
that were trained as these were, of text alone, and of no one record. It is void where a student
can repeat the draws of its text (a seed that is published), where what it starts from, its prompts
or its public records depend on the coins, and where it reads anything else of the model.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from audits.bounds.sampled_text import text_bound
from audits.context import AuditContext, Measurements
from audits.rows import ResultRow, bounds
from audits.scoring.divergence import divergences
from audits.scoring.model_access import ModelAccess
from audits.statistics.estimates import FloatArray
from common.errors import UserError
from common.guarantee import Certificate
from common.keys import key
from common.options import require_at_least
from datamodules.encoded import EncodedRecord
from datamodules.tokenizer import vocabulary_hash
from datamodules.worlds import SHADOW, TEACHER
from kdmodules.losses import ReverseKL
from kdmodules.models.causal_lm import CausalLM
from kdmodules.sampling.generation_batches import check_window
from kdmodules.sampling.keyed_choice import RandomScope
from kdmodules.sampling.sampler import GeneratedResponse, SamplingSettings, generate_responses

NAME = "text_bound"
SCOPE = (
    "one sampled response to each public prompt and nothing else, with draws that nobody can "
    "repeat; on average over models and coins"
)
_PURPOSE = "text bound"


@dataclass(frozen=True)
class TextOptions:
    """What is sampled, and of how many worlds.

    Attributes:
        worlds: Shadow worlds: references ``shadow0`` to ``shadow<worlds - 1>``.
        prompts: Public prompts that each world's model answers, others in each world; all, where
            there are no more.
        max_new_tokens: Longest response in tokens; what the student reads must not be longer.

    Raises:
        UserError: If a number is too small.
    """

    worlds: int = 16
    prompts: int = 32
    max_new_tokens: int = 256

    def __post_init__(self) -> None:
        """Checks the numbers."""
        require_at_least(1, worlds=self.worlds, prompts=self.prompts)
        require_at_least(1, max_new_tokens=self.max_new_tokens)

    @property
    def references(self) -> list[str]:
        """Names of the shadow worlds' models."""
        return [f"{SHADOW}{number}" for number in range(self.worlds)]

    @property
    def cost(self) -> str:
        """What is run and held in memory, in words."""
        models = self.worlds + 1
        texts = models * self.prompts
        return (
            f"{models} models, held together, write {texts} responses of up to "
            f"{self.max_new_tokens} tokens; each response is read by all of them but its model's "
            f"opposite, {texts * models} passes over a response at most"
        )


def check_text_bound(
    context: AuditContext, options: TextOptions, prompts: Sequence[EncodedRecord]
) -> None:
    """Refuses, before any pass, what has no such bound.

    Raises:
        UserError: If no coins dealt the records, there is no public prompt or no room for its
            response, or a world's model is missing, has another tokenizer, or the audited model's
            coins.
    """
    if not context.data.dealt_by_coins(context.data.member_population):
        raise UserError(
            "text_bound: no coins dealt the sides of these records, and nothing bounds what text "
            "tells of them: give --data.splits.protocol swap"
        )
    if not prompts:
        raise UserError("text_bound: there is no public record whose prompt could be answered")
    names = [one.record_id for one in prompts]
    lm = context.model.lm
    check_window(lm.model, [one.prompt_ids for one in prompts], names, options.max_new_tokens)
    own = vocabulary_hash(context.model.encoder.tokenizer)
    for name in options.references:
        if vocabulary_hash(context.reference_tokenizer(name)) != own:
            raise UserError(
                f"text_bound compares whole distributions, and the reference {name!r} has another "
                "tokenizer than the audited model: name one that shares it"
            )
    audited, *others = throws_of(context, options)
    if audited in others:
        raise UserError(
            f"text_bound: {options.references[others.index(audited)]!r} has the coins of the "
            "audited model, or the opposite ones: audit a model of data.splits.shadow null, or "
            "give fewer worlds"
        )


def throws_of(context: AuditContext, options: TextOptions) -> list[int]:
    """Numbers the throws of coins behind the models, the audited one's first.

    Two have one number where they have the same coins or opposite ones: either tells the other's.
    Canaries' coins are paired as the pool's are (`datamodules.coins`).
    """
    records = [one for name in _sides(context) for one in context.population(name)]
    coins = np.array([context.data.met(one, records) for one in (TEACHER, *options.references)])
    # As if the first record's coin had fallen alike in all worlds, so that opposite rows are equal.
    return np.unique(coins ^ coins[:, :1], axis=0, return_inverse=True)[1].ravel().tolist()


def audit_text_bound(
    context: AuditContext, options: TextOptions, prompts: Sequence[EncodedRecord]
) -> Measurements:
    """Bounds what anybody can tell of the coins who reads text of models like the audited one.

    Args:
        context: The model and its records.
        options: What is sampled.
        prompts: Every public prompt that a student has answered, once each.

    Returns:
        Rows of nats per token and per unit, of the tokens that a student reads, of those from which
        the bound says nothing, and of the highest accuracy, null below five throws of coins.
    """
    models = [context.model.lm, *(context.load_reference(one).lm for one in options.references)]
    throws = throws_of(context, options)
    nats, tokens = world_nats(context.model, models, throws, options, prompts)
    units = [len(set(context.data.clusters(context.population(one)))) for one in _sides(context)]
    found = text_bound(_means(nats, throws), _means(tokens, throws), sum(units))
    row = ResultRow(
        name=NAME,
        metric="nats_per_token",
        population=context.data.member_population,
        params={
            **{"certificate": str(Certificate.average), "scope": SCOPE, "unit": "cluster"},
            **{**asdict(options), "throws": len(set(throws))},
        },
        value=found.nats_per_token,
        n_members=units[0],
        n_nonmembers=units[1],
    )
    rows = [
        row,
        replace(row, metric="nats_per_unit", **bounds(found.nats_per_unit)),
        replace(row, metric="tokens_read", value=float(_means(tokens, throws).mean())),
        replace(row, metric="query_budget", value=found.query_budget),
        replace(row, metric="accuracy_upper", value=found.accuracy_upper),
    ]
    return Measurements(results=rows, curves={f"{NAME}/nats_per_token": found.nats_per_token})


def world_nats(
    access: ModelAccess,
    models: Sequence[CausalLM],
    throws: Sequence[int],
    options: TextOptions,
    prompts: Sequence[EncodedRecord],
) -> tuple[FloatArray, FloatArray]:
    """Estimates what each world's model tells by its answers to all prompts.

    Each model answers prompts of its own, so that the luck of the prompts is in the spread over
    worlds. Texts are drawn by keys: nobody reads them, and the figures can be repeated.

    Args:
        access: How to work on the models; its own is not read.
        models: The model of each of W worlds, on one device, with one vocabulary.
        throws: Number of each world's throw; models of another throw are those that a model's
            distributions are set against.
        options: What is sampled.
        prompts: All P prompts.

    Returns:
        [W] nats and [W] tokens, of P answers.

    Raises:
        UserError: If all worlds have one throw.
        FloatingPointError: If a distribution is not a number.
    """
    nats, tokens = [], []
    for world, (model, throw) in enumerate(zip(models, throws, strict=True)):
        others = [one for one, of in zip(models, throws, strict=True) if of != throw]
        if not others:
            raise UserError("text_bound: give worlds of more than one throw of coins")
        order = sorted(prompts, key=lambda one: key(access.seed, _PURPOSE, world, one.record_id))
        own, label = replace(access, lm=model), f"text bound: world {world + 1} of {len(models)}"
        texts = _answers(own, order[: options.prompts], options, world)
        # KL(T || mean of the others), exact at every token of a text that T has drawn.
        sums = divergences(own, others, texts, label, ReverseKL())
        nats.append(sums.mean() * len(prompts))
        tokens.append(np.mean([one.n_scored for one in texts]) * len(prompts))
    return np.array(nats), np.array(tokens)


def _answers(
    access: ModelAccess, prompts: Sequence[EncodedRecord], options: TextOptions, world: int
) -> list[EncodedRecord]:
    """Returns the prompts with responses that a model has sampled, whole on every rank."""
    ranks, mine = access.ranks, access.ranks.share(prompts)

    def compute(lm: CausalLM) -> tuple[GeneratedResponse, ...]:
        written = generate_responses(
            lm.model,
            mine,
            SamplingSettings(max_new_tokens=options.max_new_tokens),
            access.vocabulary,
            RandomScope(access.seed, _PURPOSE, draw=world),
            access.batch_size,
            access.max_batch_tokens,
            synced_gpus=ranks.world_size > 1,
        )
        return tuple(written)

    found = ranks.gather(list(access.lm(compute)))
    return [
        replace(prompt, response_ids=one.token_ids, response_cut=not one.ended, scored=None)
        for prompt, one in zip(prompts, found, strict=False)
    ]


def _sides(context: AuditContext) -> tuple[str, str]:
    members = context.data.member_population
    return members, context.data.opposed_to(members)


def _means(values: FloatArray, throws: Sequence[int]) -> FloatArray:
    """Returns the mean over the worlds of each throw, which are not independent of each other."""
    of = np.asarray(throws)
    return np.array([values[of == throw].mean() for throw in np.unique(of)])
