"""Records for the audit of a model that was trained elsewhere."""

from pathlib import Path

from common.errors import UserError
from datamodules.detected_pii import Detector, require_detector, with_detected
from datamodules.encoding import DEFAULT_ENCODING, EncodingOptions, Scored, SpecialTokens
from datamodules.external_populations import ExternalPopulations
from datamodules.record_module import RecordDataModule
from datamodules.record_names import RecordNames
from datamodules.records import InstructionRecord, read_records
from datamodules.split_options import require_threshold
from datamodules.tokenizer import load_tokenizer


class ExternalDataModule(ExternalPopulations, RecordDataModule):
    """The given members against the given non-members; nothing is trained.

    Records with an empty response are kept: an audit counts them as skipped.

    Args:
        members: file, `datasets` folder or hub name of records that the model was trained on.
        nonmembers: the same of records from the same distribution that it never saw; their loss is
            the development loss.
        tokenizer: folder or hub name; None takes the audited model's own.
        hub_split: split to take where a source has several.
        default_task: task of records that carry no category; None leaves them without one.
        columns: fields of a record that have other names in the files -> those names.
        streaming: take the rows of a hub data set as they come, without a copy on disk.
        max_rows: read the first so many rows of each source; None reads all.
        detect_pii: presidio marks what its patterns recognise in responses as sensitive; None marks
            nothing.
        pseudonymise: name records by a keyed hash, of the key in `manifest_folder` or in a file
            that ends in .key; false names them by the hash of what they say.
        eval_batch_size: most records in a development batch of one rank.
        max_prompt_tokens: most tokens of a prompt; longer ones lose context, then instruction.
        max_tokens: most tokens of prompt, response and end together.
        num_workers: processes that build batches beside the main one.
        near_duplicate_threshold: Jaccard similarity from which two texts are in one cluster.
        encoding: how the audited model's training turned records into tokens.
        template: how the model was trained to read a record: alpaca; chat, the tokenizer's own;
            none; or a Jinja file, rendered as chat templates are. None takes chat for messages and
            none for texts.
        score: which tokens are scored: assistant, all turns of the assistant; last, its last one;
            all, everything.
        special_tokens_in_text: whether users' words that spell a special token are that token
            (parse) or words (split); None parses them in chats alone.
        manifest_folder: private folder for `records.parquet` (own ids); None writes none.
    """

    def __init__(
        self,
        members: str,
        nonmembers: str,
        tokenizer: str | None = None,
        hub_split: str = "train",
        default_task: str | None = None,
        columns: dict[str, str] | None = None,
        streaming: bool = False,
        max_rows: int | None = None,
        detect_pii: Detector | None = None,
        pseudonymise: bool | str = False,
        eval_batch_size: int = 16,
        max_prompt_tokens: int = 256,
        max_tokens: int = 512,
        num_workers: int = 0,
        near_duplicate_threshold: float = 0.7,
        encoding: EncodingOptions = DEFAULT_ENCODING,
        template: str | None = None,
        score: Scored = "assistant",
        special_tokens_in_text: SpecialTokens | None = None,
        manifest_folder: str | None = None,
    ) -> None:
        RecordDataModule.__init__(
            self,
            eval_batch_size,
            max_prompt_tokens,
            max_tokens,
            num_workers,
            encoding,
            template,
            score,
            special_tokens_in_text,
        )
        require_threshold(near_duplicate_threshold)
        self._populations = {}
        self.sources = (members, nonmembers)
        self.tokenizer_source = tokenizer
        self.hub_split = hub_split
        self.default_task = default_task
        self.columns = columns
        self.streaming = streaming
        self.max_rows = max_rows
        require_detector(detect_pii)
        self.detect_pii = detect_pii
        self.pseudonymise = pseudonymise
        self.manifest_folder = None if manifest_folder is None else Path(manifest_folder)
        self.near_duplicate_threshold = near_duplicate_threshold

    def setup(self, stage: str) -> None:
        """Reads both sides and the tokenizer, once.

        Raises:
            UserError: an unreadable source, fewer than two records on a side that can be scored, or
                a record on both sides.
        """
        if self._populations:
            return
        names = RecordNames.of(self.pseudonymise, self.manifest_folder)
        members, nonmembers = (names.renamed(self._read(source)) for source in self.sources)
        self.fill(members, nonmembers, self.sources, self.near_duplicate_threshold)
        tokenizer = load_tokenizer(self.tokenizer_source or self._audited_model())
        self._prepare_encoder(tokenizer, [*members, *nonmembers])
        if self.manifest_folder is not None and self.is_first:
            names.write(self.manifest_folder)

    def _audited_model(self) -> str:
        source = getattr(self.attached_trainer.lightning_module, "source", None)
        if not isinstance(source, str):
            raise UserError("data.tokenizer is missing: name the tokenizer of the audited model")
        return source

    def _read(self, source: str) -> list[InstructionRecord]:
        records = read_records(
            source,
            hub_split=self.hub_split,
            allow_empty_response=True,
            default_task=self.default_task,
            columns=self.columns,
            streaming=self.streaming,
            max_rows=self.max_rows,
        )
        return with_detected(records, self.detect_pii)
