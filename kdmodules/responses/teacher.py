"""Responses that the teacher wrote once for all training prompts (sequence-level distillation)."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from common.atomic_file import replacing
from common.errors import UserError
from common.options import require_at_least
from common.parquet_file import CHECKED, read_parquet
from datamodules.batches import EncodedRecord, InstructionBatch
from datamodules.tokenizer import vocabulary_hash
from kdmodules.models.causal_lm import together
from kdmodules.models.weights_hash import weights_hash
from kdmodules.responses.rewriting import is_filler, records_of, replace_responses
from kdmodules.responses.source import ResponseContext, ResponseSource
from kdmodules.sampling.ensemble_sampling import ensemble_responses
from kdmodules.sampling.guarded_sampling import mean_of_models, paid_responses
from kdmodules.sampling.keyed_choice import RandomScope
from kdmodules.sampling.sampler import GeneratedResponse, SamplingSettings

_PURPOSE = "teacher responses"
_ENSEMBLE = "mean of probabilities per token"
_TYPES = {
    "record_id": pa.string(),
    "token_ids": pa.list_(pa.int32()),
    "ended": pa.bool_(),
    "cost": pa.float64(),
}
Response = TypeVar("Response", bound=GeneratedResponse)


class TeacherResponses(ResponseSource):
    """The teacher's own answer to every training prompt, sampled once before training (SeqKD).

    Source: Kim and Rush 2016, who decode by beam search; samples are the published experiment's.
    Several teachers answer as one, whose next-token probabilities are the mean of theirs.

    The answers are stored as one Parquet file whose name is the hash of all that they depend on
    (every teacher's weights and configuration, vocabulary and how much of it is valid, prompts,
    sampling, seed), so that a file is either right or not found. It may hold private text.

    Args:
        sampling: How the teacher decodes; by default at temperature 1, up to 256 tokens.
        sampling_batch_size: Most prompts that are decoded together.
        cache_folder: Where the file is kept; the run's private folder if not given. A folder that
            several runs share spares them the sampling.
        secret_draws: Draws tokens by numbers of the operating system that are kept nowhere, from
            the whole vocabulary, so that the text is no function of the teacher, and what it tells
            of the teacher's records is bounded by information (`audits.text_bound`).

    Raises:
        UserError: If ``sampling_batch_size`` is below 1, or secret draws would cut off tokens.
    """

    fixed_text = True
    prepares_with_teachers = True
    kept_as: type[GeneratedResponse] = GeneratedResponse

    def __init__(
        self,
        sampling: SamplingSettings | None = None,
        sampling_batch_size: int = 64,
        cache_folder: str | None = None,
        secret_draws: bool = False,
    ) -> None:
        require_at_least(1, sampling_batch_size=sampling_batch_size)
        self.sampling = sampling or SamplingSettings()
        self.secret_draws = secret_draws
        if secret_draws:
            self.require_whole_vocabulary("with model.responses.secret_draws")
        self.sampling_batch_size = sampling_batch_size
        self.cache_folder = cache_folder
        self._responses: dict[str, tuple[int, ...]] = {}

    def prepare(self, context: ResponseContext) -> None:
        """Reads the teacher's responses, or samples and stores them; the ranks share the work.

        Raises:
            UserError: If a prompt and its response may exceed the window, there is no teacher,
                several are to search with beams, or a stored file cannot be read.
        """
        context.require_room(self.sampling.max_new_tokens)
        context.require_teacher()
        records = list({record.record_id: record.last_turn for record in context.records}.values())
        path = self.path(records, context)
        found = read_responses(path, self.kept_as) if context.rank == 0 else None
        stored: Sequence[GeneratedResponse] | None = context.gather([found])[0]
        if stored is None:
            stored = self._written(records, context)
            if context.rank == 0:
                write_responses(stored, path, self.kept_as)
        self._take(records, stored, context)

    def path(self, records: Sequence[EncodedRecord], context: ResponseContext) -> Path:
        """Returns the file that holds the responses to these prompts, if it is there."""
        digest = hashlib.sha256()
        digest.update("".join(map(weights_hash, context.teachers)).encode())
        prompts = sorted((record.record_id, record.prompt_ids) for record in records)
        known = context.vocabulary
        ends = [known.eos_id, known.size, *known.other_ends]
        settings = [asdict(self.sampling), *self._drawn_by(context), *ends]
        digest.update(vocabulary_hash(context.encoder.tokenizer).encode())
        digest.update(json.dumps([settings, prompts], sort_keys=True).encode())
        folder = Path(self.cache_folder) if self.cache_folder else context.private_folder
        return folder / f"teacher-responses-{digest.hexdigest()[:32]}.parquet"

    def _drawn_by(self, context: ResponseContext) -> list[object]:
        """Returns what the responses depend on besides teachers, prompts and sampling settings."""
        drawn_by = "secret draws" if self.secret_draws else context.seed
        return [drawn_by, _PURPOSE, _ENSEMBLE]

    def require_whole_vocabulary(self, why: str) -> None:
        """Refuses to cut off tokens.

        Raises:
            UserError: Tokens would be cut off.
        """
        given = self.sampling
        if given.decoding != "sample" or given.top_p < 1 or given.top_k > 0:
            raise UserError(
                f"{type(self).__name__} {why} draws every token from the whole vocabulary: give "
                "model.responses.sampling decoding sample, top_p 1 and top_k 0"
            )

    def replace(self, batch: InstructionBatch, context: ResponseContext) -> InstructionBatch:
        """Returns the batch's prompts with the teacher's responses."""
        responses = {
            row: self._responses[record.record_id]
            for row, record in enumerate(records_of(batch))
            if not is_filler(record)
        }
        return replace_responses(batch, responses, context.encoder.pad_id)

    def _take(
        self,
        records: Sequence[EncodedRecord],
        stored: Sequence[GeneratedResponse],
        context: ResponseContext,
    ) -> None:
        """Keeps the responses to these prompts for the steps."""
        self._responses = {response.record_id: response.token_ids for response in stored}

    def _written(
        self, records: Sequence[EncodedRecord], context: ResponseContext
    ) -> Sequence[GeneratedResponse]:
        """Samples responses to the prompts, each rank to a share of them."""
        mine = records[context.rank :: context.world_size]
        return context.gather(list(self._sample(mine, context)))

    def _sample(
        self, records: Sequence[EncodedRecord], context: ResponseContext
    ) -> Sequence[GeneratedResponse]:
        models = [teacher.model for teacher in context.teachers]
        if self.secret_draws:
            return together(
                context.teachers,
                lambda: paid_responses(
                    models,
                    records,
                    partial(mean_of_models, temperature=self.sampling.temperature),
                    self.sampling,
                    context.vocabulary,
                    None,
                    batch_size=self.sampling_batch_size,
                    synced_gpus=context.synced,
                ),
            )
        return together(
            context.teachers,
            lambda: ensemble_responses(
                models,
                records,
                self.sampling,
                context.vocabulary,
                RandomScope(context.seed, _PURPOSE),
                batch_size=self.sampling_batch_size,
                synced_gpus=context.synced,
            ),
        )


def write_responses(
    responses: Sequence[GeneratedResponse],
    path: Path,
    kept_as: type[GeneratedResponse] = GeneratedResponse,
) -> None:
    """Writes responses as a Parquet file that is there whole or not at all."""
    rows = sorted((asdict(response) for response in responses), key=lambda row: row["record_id"])
    with replacing(path, private=True, shared=True) as file:
        table = pa.Table.from_pylist(rows, schema=_schema(kept_as))
        pq.write_table(table, file, **CHECKED)


def read_responses(path: Path, kept_as: type[Response]) -> list[Response] | None:
    """Reads what :func:`write_responses` wrote; None where there is no file.

    Raises:
        UserError: If the file cannot be read.
    """
    if not path.is_file():
        return None
    rows = read_parquet(path, "delete it to sample anew", _schema(kept_as)).to_pylist()
    return [kept_as(**{**row, "token_ids": tuple(row["token_ids"])}) for row in rows]


def _schema(kept_as: type[GeneratedResponse]) -> pa.Schema:
    return pa.schema([(field.name, _TYPES[field.name]) for field in fields(kept_as)])
