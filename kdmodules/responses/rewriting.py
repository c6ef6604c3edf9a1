"""From a batch to its prompts, and back to a batch with other responses."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from datamodules.batches import FILLER_ID, EncodedRecord, InstructionBatch, collate


def records_of(batch: InstructionBatch) -> list[EncodedRecord]:
    """Returns a batch's rows as records; the prompt is what precedes the scored tokens."""
    records = []
    for row, (record_id, task) in enumerate(zip(batch.record_ids, batch.tasks, strict=True)):
        there = batch.attention_mask[row].bool()
        ids, scored = batch.input_ids[row][there].tolist(), batch.response_mask[row][there].tolist()
        n_prompt = scored.index(True) if any(scored) else len(ids)
        prompt, response = tuple(ids[:n_prompt]), tuple(ids[n_prompt:])
        flags = None if all(scored[n_prompt:]) else tuple(scored[n_prompt:])
        records.append(EncodedRecord(record_id, task, prompt, response, scored=flags))
    return records


def is_filler(record: EncodedRecord) -> bool:
    """Whether a row only keeps a rank in step, and so never gets a response."""
    return record.record_id == FILLER_ID


def replace_responses(
    batch: InstructionBatch, responses: Mapping[int, Sequence[int]], pad_id: int
) -> InstructionBatch:
    """Returns the batch with other responses behind the same prompts, all of their tokens scored.

    A row with several scored turns gets another last one; the earlier ones become prompt.

    Args:
        batch: Rows of prompt and response; extras are dropped, for they belong to the old tokens.
        responses: Token ids by row: eos is among them where it was produced, and not where the
            response was cut. Other rows keep their own.
        pad_id: Written where there is no token; may be a real token's id.

    Raises:
        ValueError: If a filler is given a response.
    """
    rows = records_of(batch)
    for index, response in responses.items():
        if is_filler(rows[index]):
            raise ValueError(f"row {index} is a filler and takes no response")
        rows[index] = replace(rows[index].last_turn, response_ids=tuple(response))
    return collate(rows, pad_id).to(batch.input_ids.device)


def without_first_token(batch: InstructionBatch) -> InstructionBatch:
    """Returns the batch with the first scored token of each row unscored, so part of its prompt."""
    mask = batch.response_mask
    return replace(batch, response_mask=mask & (mask.cumsum(dim=1) > 1))
