"""Log-likelihoods of many responses to one prompt, whose common beginning is read once a batch."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from os.path import commonprefix

import torch
from torch import Tensor
from transformers import DynamicCache

from common.ranks import Ranks
from datamodules.batches import EncodedRecord, length_buckets
from kdmodules.models.causal_lm import CausalLM, model_device
from kdmodules.scoring import UndefinedScoreError, token_statistics

Progress = Callable[[int], AbstractContextManager[Callable[[], None]]]


@dataclass(frozen=True, slots=True)
class CandidateSet:
    """Responses to one prompt, split where they part.

    Attributes:
        record_id: Id of the record that they are candidates for.
        prefix: Token ids that all of them begin with, the prompt among them.
        tails: What follows in each, one token or more.
    """

    record_id: str
    prefix: tuple[int, ...]
    tails: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, encoded: Sequence[EncodedRecord]) -> "CandidateSet":
        """Splits the candidates of one prompt.

        Raises:
            ValueError: Candidates with different prompts, or without a response token.
        """
        prompts = {record.prompt_ids for record in encoded}
        if len(prompts) != 1 or not all(record.response_ids for record in encoded):
            raise ValueError("candidates need one prompt, and a response token each")
        prompt = prompts.pop()
        shared = commonprefix([record.response_ids for record in encoded])
        # A tail has the token that parts it, or its last one where it is the whole of another.
        kept = min(len(shared), min(len(record.response_ids) for record in encoded) - 1)
        return cls(
            encoded[0].record_id,
            (*prompt, *shared[:kept]),
            tuple(record.response_ids[kept:] for record in encoded),
        )


def candidate_log_likelihoods(
    lm: CausalLM,
    sets: Sequence[CandidateSet],
    ranks: Ranks,
    batch_size: int,
    max_batch_tokens: int,
    progress: Progress,
) -> list[Tensor]:
    """Scores every candidate of every set.

    Each batch is one forward through the root: the common prefix as one row, whose keys and values
    are then repeated for the tails. What the candidates share is in no score: it is the same number
    for all of them.

    Args:
        lm: The model, in evaluation mode.
        sets: Candidates by prompt.
        ranks: This process among all.
        batch_size: Most candidates in a batch.
        max_batch_tokens: Most tokens in a batch, the repeated prefix and padding included.
        progress: Opens a bar of so many steps; called once.

    Returns:
        Of each set the sums of its tails' log-probabilities, [candidates] float64, nats, in the
        order of its tails, whole on every rank.

    Raises:
        FloatingPointError: Naming the record whose distribution is not a number.
    """
    jobs = [
        (index, bucket)
        for index, one in enumerate(sets)
        for bucket in length_buckets(
            [len(one.prefix) + len(tail) for tail in one.tails], batch_size, max_batch_tokens
        )
    ]
    mine = ranks.share(jobs)
    found: list[Tensor] = []
    with progress(len(mine)) as advance:
        for index, bucket in mine:
            one = sets[index]
            try:
                found.append(_batch_scores(lm, one.prefix, [one.tails[row] for row in bucket]))
            except UndefinedScoreError as error:
                raise FloatingPointError(f"{one.record_id} cannot be scored: {error}") from error
            advance()
    scores = [torch.zeros(len(one.tails), dtype=torch.float64) for one in sets]
    for (index, bucket), part in zip(jobs, ranks.gather(found)[: len(jobs)], strict=True):
        scores[index][bucket] = part
    return scores


def _batch_scores(lm: CausalLM, prefix: Sequence[int], tails: Sequence[Sequence[int]]) -> Tensor:
    """Returns the summed log-probability of each tail, [B] float64 on the CPU."""
    device = model_device(lm)
    lengths = torch.tensor([len(tail) for tail in tails])
    padded = torch.nn.utils.rnn.pad_sequence(
        [torch.tensor(tail) for tail in tails], batch_first=True
    )  # [B, T]
    scored = torch.arange(padded.shape[1]) < lengths[:, None]  # [B, T]
    first = padded.new_full((len(tails), 1), prefix[-1])
    inputs = torch.cat([first, padded[:, :-1]], dim=1)

    def compute(lm: CausalLM) -> dict[str, Tensor]:
        hidden = _tail_states(lm, torch.tensor([prefix[:-1]], device=device), inputs.to(device))
        rows = scored.to(device)
        return {"logp": token_statistics(hidden[rows], lm.head, padded.to(device)[rows]).logp}

    logp = lm(compute)["logp"].double().cpu()
    sums = torch.zeros(len(tails), dtype=torch.float64)
    return sums.index_add_(0, scored.nonzero()[:, 0], logp)


def _tail_states(lm: CausalLM, prefix: Tensor, inputs: Tensor) -> Tensor:
    """Returns the head's inputs at the tails' positions, [B, T, D].

    Padding is on the right, where a causal model never looks, so no mask is needed.

    Args:
        lm: The model.
        prefix: What comes before every row, [1, P]; may be empty.
        inputs: The rows, [B, T].
    """
    cache = DynamicCache(config=lm.model.config)
    length = prefix.shape[1]
    if length:
        lm.run({"input_ids": prefix}, cache)
        cache.batch_repeat_interleave(len(inputs))
    positions = torch.arange(length, length + inputs.shape[1], device=inputs.device)
    positions = positions.expand(len(inputs), -1)
    return lm.run({"input_ids": inputs, "position_ids": positions}, cache)
