"""The data module of every training run: splits, tokens, batches, populations."""

from collections.abc import Sequence
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from common.errors import UserError
from common.options import require_at_least, require_at_most
from datamodules.canaries import CanaryPlan, coin_canaries
from datamodules.canaries import write_manifest as write_canary_manifest
from datamodules.detected_pii import Detector, require_detector, with_detected
from datamodules.encoding import DEFAULT_ENCODING, EncodingOptions, Scored, SpecialTokens
from datamodules.manifest import write_manifest
from datamodules.near_duplicates import without_near_duplicates
from datamodules.populations import distinct, require_disjoint
from datamodules.record_names import RecordNames
from datamodules.records import InstructionRecord, read_records
from datamodules.selection import Selection
from datamodules.split_options import SplitOptions, require_threshold
from datamodules.splits import OVERLAP_ROLE, SPLITS, Placement, members_of
from datamodules.synthetic import BUILTIN, generate_records
from datamodules.templates import chosen_template, whole_text
from datamodules.tokenizer import SMALLEST_VOCABULARY, load_tokenizer, train_tokenizer
from datamodules.training_module import TrainingDataModule
from datamodules.worlds import World, canaries_of

TRAINED = "trained"
CANARY_POPULATIONS = ("canary_in", "canary_out")
CANARY_MANIFEST_NAME = "canaries.jsonl"
_DEFAULT_SPLITS = SplitOptions()
_EVERYTHING = Selection()
_MOST_RECORDS = 10_000_000
"""Of the built-in corpus, which is made in memory."""


class InstructionDataModule(TrainingDataModule):
    """Splits a source of instruction records and serves them to training and audits.

    Everything expensive happens once in `setup` and is the same on every rank: reading,
    near-duplicate clusters, splits, tokenizer.

    Args:
        source: "builtin", or a .jsonl, .json, .csv or .parquet file, a `datasets` folder, or a hub
            name.
        n_records: size of the built-in corpus.
        builtin_seed: seed of the built-in corpus.
        hub_split: split to take where a source has several.
        default_task: task of records that carry no category; None leaves them without one.
        columns: fields of a record that have other names in the source -> those names.
        streaming: take the rows of a hub data set as they come, without a copy on disk.
        max_rows: read the first so many rows of the source; None reads all.
        select: which of the records that were read are taken: by length, with a context or not.
        detect_pii: presidio marks what its patterns recognise in responses as sensitive; None marks
            nothing.
        pseudonymise: name records by a keyed hash, of the key in `manifest_folder` or in a file
            that ends in .key; false names them by the hash of what they say.
        tokenizer: "trained", for a byte-level BPE trained on the public split alone, or folder or
            hub name.
        vocabulary: tokens of a trained tokenizer.
        splits: protocol, shares, seed and caps of the splits.
        canaries: canaries to plant beside the private split, keyed by splits.seed; None plants
            none.
        private_part: train on this 0-based part of the private split (splits.private_parts); None
            takes all.
        batch_size: records per optimiser step over all ranks and accumulation steps.
        published_devices: multiplies batch_size, which is then that of each published device.
        eval_batch_size: most records in a development batch of one rank.
        max_prompt_tokens: most tokens of a prompt; longer ones lose context, then instruction.
        max_tokens: most tokens of prompt, response and end together.
        encoding: where published codes turn records into other tokens.
        template: how models are trained to read a record: alpaca; chat, the tokenizer's own;
            none; or a Jinja file, rendered as chat templates are. None takes chat for messages and
            none for texts.
        score: which tokens are scored: assistant, all turns of the assistant; last, its last one;
            all, everything.
        special_tokens_in_text: whether users' words that spell a special token are that token
            (parse) or words (split); None parses them in chats alone.
        deduplicate: Jaccard similarity from which private and held-out records count as repeated
            and are trained on once, whatever the audits count as members; None trains on all.
        seed: of the order of batches.
        group_by_length: fill batches with records of similar length, for speed.
        num_workers: processes that build batches beside the main one.
        manifest_folder: private folder for `manifest.parquet` (no text in it), `records.parquet`
            (own ids) and, with canaries, `canaries.jsonl` (the secrets); None writes none.
    """

    member_population = "private"
    opposed = {CANARY_POPULATIONS[0]: CANARY_POPULATIONS[1]}

    def __init__(
        self,
        source: str = BUILTIN,
        n_records: int = 2000,
        builtin_seed: int = 0,
        hub_split: str = "train",
        default_task: str | None = None,
        columns: dict[str, str] | None = None,
        streaming: bool = False,
        max_rows: int | None = None,
        select: Selection = _EVERYTHING,
        detect_pii: Detector | None = None,
        pseudonymise: bool | str = False,
        tokenizer: str = TRAINED,
        vocabulary: int = 2048,
        splits: SplitOptions = _DEFAULT_SPLITS,
        canaries: CanaryPlan | None = None,
        private_part: int | None = None,
        batch_size: int = 16,
        published_devices: int = 1,
        eval_batch_size: int = 16,
        max_prompt_tokens: int = 256,
        max_tokens: int = 512,
        encoding: EncodingOptions = DEFAULT_ENCODING,
        template: str | None = None,
        score: Scored = "assistant",
        special_tokens_in_text: SpecialTokens | None = None,
        deduplicate: float | None = None,
        seed: int = 0,
        group_by_length: bool = False,
        num_workers: int = 0,
        manifest_folder: str | None = None,
    ) -> None:
        super().__init__(
            eval_batch_size,
            max_prompt_tokens,
            max_tokens,
            num_workers,
            encoding,
            template,
            score,
            special_tokens_in_text,
        )
        require_at_least(
            1, batch_size=batch_size, published_devices=published_devices, n_records=n_records
        )
        require_at_most(_MOST_RECORDS, n_records=n_records)
        for option, given in (("source", source), ("tokenizer", tokenizer)):
            if not given:
                raise UserError(f"{option} is empty: leave it out, or name one")
        if private_part is not None and not 0 <= private_part < splits.private_parts:
            raise UserError(
                f"private_part must be in 0..{splits.private_parts - 1} (splits.private_parts is "
                f"{splits.private_parts}), found {private_part}"
            )
        self.source = source
        self.n_records = n_records
        self.builtin_seed = builtin_seed
        self.hub_split = hub_split
        self.default_task = default_task
        self.columns = columns
        self.streaming = streaming
        self.max_rows = max_rows
        self.select = select
        require_detector(detect_pii)
        self.detect_pii = detect_pii
        self.pseudonymise = pseudonymise
        self.tokenizer_source = tokenizer
        self.vocabulary = vocabulary
        self.splits = splits
        self.private_part = private_part
        self.batch_size = batch_size * published_devices
        if deduplicate is not None:
            require_threshold(deduplicate, "deduplicate")
        self.deduplicate = deduplicate
        self._deduplicated: dict[str, list[InstructionRecord]] = {}
        self.seed = seed
        self.group_by_length = group_by_length
        self.manifest_folder = None if manifest_folder is None else Path(manifest_folder)
        self.canary_plan = canaries
        self.canaries = canaries_of(splits, canaries)
        self._world: World | None = None

    def setup(self, stage: str) -> None:
        """Reads, clusters and splits the records and prepares the tokenizer, once.

        Raises:
            UserError: an unreadable source, a split with too few records, a window too small for
                the template.
        """
        if self._world is not None:
            return
        names = RecordNames.of(self.pseudonymise, self.manifest_folder)
        read = self.select.of(with_detected(self._read(), self.detect_pii))
        self._world = World.of(names.renamed(read), self.splits, self.canary_plan)
        self._cluster_of = {p.content: p.cluster for p in self._world.placements}
        for name in CANARY_POPULATIONS:
            self._cluster_of |= {record.content: record.id for record in self.population(name)}
        require_disjoint(self.population("private"), self.population("held_out"))
        records = [placement.record for placement in self._world.placements]
        self._prepare_encoder(self._tokenizer(records), records)
        if self.is_first:
            self._write_manifests(names)

    @property
    def world(self) -> World:
        """Splits and canaries under the coins of this run; there from `setup` on."""
        if self._world is None:
            raise RuntimeError("the data module has no records before setup()")
        return self._world

    def placements(self, split: str) -> list[Placement]:
        """Records of a split with cluster, coin and role."""
        return members_of(self.world.placements, split, self.splits.protocol)

    def split(self, name: str) -> list[InstructionRecord]:
        """All records of a split, duplicates included, in the order of the source.

        Args:
            name: private, held_out, public, never or development.
        """
        return [placement.record for placement in self.placements(name)]

    def population(self, name: str) -> list[InstructionRecord]:
        """Records that audits read, each content once; of private and held_out not those of uses
        that are reserved.

        Args:
            name: private, held_out, public, never, development; canary_in and canary_out, which are
                the coin canaries that the private split holds and those that it does not.
        """
        if name in CANARY_POPULATIONS:
            return [c.record() for c in coin_canaries(self.canaries, included=name == "canary_in")]
        if name not in SPLITS:
            known = ", ".join((*SPLITS, *CANARY_POPULATIONS))
            raise UserError(f"unknown population {name!r}; there are {known}")
        kept_aside = self.reserved | {OVERLAP_ROLE}
        return distinct([p.record for p in self.placements(name) if p.role not in kept_aside])

    def dealt_by_coins(self, population: str) -> bool:
        """True of coin canaries, and of private under the swap protocol."""
        pool = population == "private" and self.splits.protocol == "swap"
        return pool or population in self.opposed

    def fair_coins(self, population: str) -> bool:
        """True where coins dealt the sides and all of the private split trains."""
        return self.private_part is None and self.dealt_by_coins(population)

    def coin_unit(self, population: str) -> str:
        """A canary, or a cluster of the pool: private against held_out tells of clusters."""
        return "record" if population in self.opposed else "cluster"

    def by_role(self, split: str, role: str) -> list[InstructionRecord]:
        """Records of one side of the pool that a use may read, each content once.

        Args:
            split: private or held_out.
            role: shots, population or calibration.

        Raises:
            RuntimeError: a use that was not reserved, whose records are audited.
        """
        if role not in self.reserved:
            raise RuntimeError(f"records of the use {role!r} are audited: reserve it first")
        return distinct([p.record for p in self.placements(split) if p.role == role])

    def met(self, reference: str, records: Sequence[InstructionRecord]) -> list[bool]:
        """Whether the teacher behind a reference model trained on each record (`World.met`)."""
        met = self.world.met(reference, records)
        return super().met(reference, records) if met is None else met

    def placebo(self, reference: str, records: Sequence[InstructionRecord]) -> list[bool]:
        """How the coins of a shadow world fall for records of `never` (`World.placebo`)."""
        return self.world.placebo(reference, records)

    def training_records(self, split: str) -> list[InstructionRecord]:
        """What a module that trains on a split is served (`World.training_records`)."""
        part = self.private_part if split == "private" else None
        if self.deduplicate is None or split == "public":
            return self.world.training_records(split, part)
        if split not in self._deduplicated:
            records = self.world.training_records(split, part)
            self._deduplicated[split] = without_near_duplicates(records, self.deduplicate)
        return self._deduplicated[split]

    def development_records(self) -> list[InstructionRecord]:
        """The development split."""
        return self.split("development")

    def counts(self) -> dict[str, int]:
        """Returns the number of records of every split that has some, duplicates included."""
        sizes = {name: len(self.split(name)) for name in SPLITS}
        return {name: size for name, size in sizes.items() if size}

    def _read(self) -> list[InstructionRecord]:
        if self.source == BUILTIN:
            return generate_records(self.n_records, self.builtin_seed)
        return read_records(
            self.source,
            hub_split=self.hub_split,
            default_task=self.default_task,
            columns=self.columns,
            streaming=self.streaming,
            max_rows=self.max_rows,
        )

    def _write_manifests(self, names: RecordNames) -> None:
        if self.manifest_folder is None:
            return
        names.write(self.manifest_folder)
        write_manifest(self.world.placements, self.manifest_folder)
        if self.canaries:
            write_canary_manifest(self.canaries, self.manifest_folder / CANARY_MANIFEST_NAME)

    def _tokenizer(self, records: Sequence[InstructionRecord]) -> PreTrainedTokenizerBase:
        if self.tokenizer_source != TRAINED:
            return load_tokenizer(self.tokenizer_source)
        # With their template, which would otherwise be spelt out in small pieces in every prompt.
        template = chosen_template(self.template, records, train_tokenizer([], SMALLEST_VOCABULARY))
        texts = [whole_text(template, record) for record in self.split("public")]
        return train_tokenizer(texts, self.vocabulary)
