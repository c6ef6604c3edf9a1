"""Token accuracy as published code computes it, for comparing figures only."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from transformers import GenerationConfig

from audits.context import AuditContext, Measurements
from audits.memorization.metrics import Summary
from audits.rows import ResultRow, bounds
from audits.scoring.model_access import ModelAccess
from audits.statistics.means import UtilityEstimate, gap
from common.errors import UserError
from datamodules.batches import EncodedRecord
from kdmodules.models.causal_lm import CausalLM
from kdmodules.sampling.generation_batches import (
    Vocabulary,
    check_window,
    cut_at_end,
    in_buckets,
    inference_state,
)

AS_RELEASED = "token_accuracy_as_released"


@dataclass(frozen=True)
class ReleasedDecoding:
    """How responses are decoded and compared.

    Prompts are padded on the left to one length, and what is banned or held back counts from there,
    padding included. Published runs go on to a total of 576 tokens; greedy choices do not depend on
    later ones, so only the compared tokens are written.

    Attributes:
        tokens: Cells of the table of each record: compared tokens.
        prompt_tokens: Length that prompts are padded to.
        no_repeat_ngram: No n-gram of this length comes twice in prompt and response; 0 bans none.
        min_new_tokens: The response does not end before; 0 lets it end at once.

    Raises:
        UserError: If a number is out of range.
    """

    tokens: int = 32
    prompt_tokens: int = 256
    no_repeat_ngram: int = 0
    min_new_tokens: int = 0

    def __post_init__(self) -> None:
        """Checks the ranges."""
        least = {"tokens": 1, "prompt_tokens": 1, "no_repeat_ngram": 0, "min_new_tokens": 0}
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise UserError(f"{name} is {getattr(self, name)}: give at least {bound}")


def released_accuracies(
    access: ModelAccess, encoded: Sequence[EncodedRecord], decoding: ReleasedDecoding
) -> list[float]:
    """Returns the share of matching cells of each record, whole on every rank.

    A record's row has as many cells as `decoding.tokens`. The true response and the model's are
    both filled up with the padding token where they have ended, so that silence meets silence and
    counts as a match; the mean over records is the mean over all cells.

    Args:
        access: The model, in evaluation mode.
        encoded: Records with a response.
        decoding: How to decode.

    Raises:
        UserError: If a prompt is longer than the length that prompts are padded to, or window and
            padded prompt leave no room.
    """
    for record in encoded:
        if len(record.prompt_ids) > decoding.prompt_tokens:
            raise UserError(
                f"record {record.record_id}: its prompt has {len(record.prompt_ids)} tokens, more "
                f"than prompt_tokens={decoding.prompt_tokens}"
            )
    mine = access.ranks.share(encoded)
    synced = access.ranks.world_size > 1

    def compute(lm: CausalLM) -> list[list[int]]:
        return in_buckets(
            lambda prompts, names: _write(lm, prompts, names, access, decoding, synced),
            mine,
            decoding.tokens,
            access.encoder.pad_id,
            lm.model.device,
            access.batch_size,
            access.max_batch_tokens,
            synced,
        )

    written = access.ranks.gather(access.lm(compute))[: len(encoded)]
    return [
        _share(record, text, access.vocabulary, decoding.tokens)
        for record, text in zip(encoded, written, strict=True)
    ]


def _write(
    lm: CausalLM,
    prompts: Sequence[Sequence[int]],
    names: Sequence[str],
    access: ModelAccess,
    decoding: ReleasedDecoding,
    synced: bool,
) -> list[list[int]]:
    model, width, pad_id = lm.model, decoding.prompt_tokens, access.encoder.pad_id
    padded = [[pad_id] * (width - len(prompt)) + [*prompt] for prompt in prompts]
    check_window(model, padded, names, decoding.tokens)
    ids = torch.tensor(padded, device=model.device)
    lengths = torch.tensor([len(prompt) for prompt in prompts], device=model.device)
    mask = torch.arange(width, device=model.device) >= width - lengths.unsqueeze(-1)
    beyond = list(range(lm.vocabulary_size, lm.model.get_output_embeddings().weight.shape[0]))
    config = GenerationConfig(
        max_new_tokens=decoding.tokens,
        min_new_tokens=decoding.min_new_tokens,
        no_repeat_ngram_size=decoding.no_repeat_ngram,
        do_sample=False,
        suppress_tokens=beyond or None,
        eos_token_id=access.vocabulary.ends,
        pad_token_id=pad_id,
    )
    with inference_state(model):
        found: Tensor = cast(Any, model).generate(
            input_ids=ids, attention_mask=mask.long(), generation_config=config, synced_gpus=synced
        )
    return found[:, width:].tolist()


def _share(
    record: EncodedRecord, written: Sequence[int], vocabulary: Vocabulary, cells: int
) -> float:
    own, ended = cut_at_end(written, vocabulary.ends)
    texts = (record.words, own[:-1] if ended else own)
    rows = [(list(text) + [vocabulary.pad_id] * cells)[:cells] for text in texts]
    return sum(a == b for a, b in zip(*rows, strict=True)) / cells


def audit_released(context: AuditContext, decoding: ReleasedDecoding) -> Measurements:
    """Returns a row per record, the mean of both populations and their signed gap.

    Args:
        context: The model and its records.
        decoding: How to decode.

    Raises:
        UserError: As `released_accuracies`.
    """
    found = Measurements()
    members = context.data.member_population
    params = asdict(decoding)
    means: list[tuple[UtilityEstimate | None, int]] = []
    for name in (members, context.data.opposed_to(members)):
        population = context.population(name)
        records = context.answered(name)
        values = released_accuracies(
            context.model, context.model.encoder.encode_last(records), decoding
        )
        every, clusters = np.arange(len(records)), context.data.clusters(records)
        mean = Summary(AS_RELEASED, np.array(values)).mean(every, clusters)
        means.append((mean, len(records)))
        found.memorization += [
            {
                "population": name,
                "name": AS_RELEASED,
                "params": params,
                "record": record.id,
                "task": record.task or None,
                "value": value,
            }
            for record, value in zip(records, values, strict=True)
        ]
        found.results.append(
            ResultRow(
                population=name,
                name=AS_RELEASED,
                params=params,
                metric=AS_RELEASED,
                n_members=len(records) if name == members else None,
                n_nonmembers=None if name == members else len(records),
                skipped=len(population) - len(records),
                **bounds(mean),
            )
        )
    (inside, n), (outside, m) = means
    both = None if inside is None or outside is None else gap(inside, outside)
    found.results.append(
        ResultRow(
            population=members,
            name=AS_RELEASED,
            params=params,
            metric=f"{AS_RELEASED}_gap",
            n_members=n,
            n_nonmembers=m,
            **bounds(both),
        )
    )
    return found
