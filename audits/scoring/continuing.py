"""Text that a model adds to given tokens, to each record as much as is asked for."""

from collections.abc import Mapping, Sequence

from audits.scoring.model_access import ModelAccess
from datamodules.batches import EncodedRecord
from kdmodules.models.causal_lm import CausalLM
from kdmodules.sampling.keyed_choice import RandomScope
from kdmodules.sampling.sampler import GeneratedResponse, SamplingSettings, generate_responses


def continuation_rounds(
    sizes: Mapping[int, tuple[int, int]], size: int, window: int
) -> list[list[int]]:
    """Groups records of similar continuations, which all grow by the longest one of their group.

    What a record is continued with does not depend on its group: draws are keyed by position.

    Args:
        sizes: (tokens that are given, tokens of the continuation) by place.
        size: Most records in a group.
        window: Most tokens that the model accepts.

    >>> continuation_rounds({0: (5, 2), 1: (5, 9), 2: (5, 8)}, size=2, window=20)
    [[1, 2], [0]]
    """
    rounds: list[list[int]] = []
    for place in sorted(sizes, key=lambda one: -sizes[one][1]):
        group = rounds[-1] if rounds else []
        if 0 < len(group) < size and sizes[place][0] + sizes[group[0]][1] <= window:
            group.append(place)
        else:
            rounds.append([place])
    return rounds


def continue_round(
    access: ModelAccess,
    starts: Sequence[EncodedRecord],
    lengths: Sequence[int],
    settings: SamplingSettings,
    scope: RandomScope,
) -> list[tuple[int, ...]]:
    """Continues the prompts of one group, dealt over all ranks.

    Args:
        access: The model.
        starts: What is continued; only prompts are read.
        lengths: Most tokens of each continuation, at most ``settings.max_new_tokens``.
        settings: How to decode.
        scope: What random numbers depend on besides the record id.

    Returns:
        The token ids of each continuation, up to and including eos where it is produced, cut to
        its own length; whole on every rank.
    """
    mine = access.ranks.share(starts)

    def compute(lm: CausalLM) -> tuple[GeneratedResponse, ...]:
        responses = generate_responses(
            lm.model,
            mine,
            settings,
            access.vocabulary,
            scope,
            access.batch_size,
            access.max_batch_tokens,
            synced_gpus=access.ranks.world_size > 1,
        )
        return tuple(responses)

    found = access.ranks.gather(list(access.lm(compute)))[: len(starts)]
    return [response.token_ids[:length] for response, length in zip(found, lengths, strict=True)]
