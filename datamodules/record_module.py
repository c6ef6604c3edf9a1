"""What every data module here shares: tokenizer, encoder, development batches."""

import sys
from collections.abc import Sequence

from lightning.pytorch import LightningDataModule, Trainer
from transformers import PreTrainedTokenizerBase

from common.options import require_at_least, require_at_most
from datamodules.encoding import EncodingOptions, RecordEncoder, Scored, SpecialTokens
from datamodules.order import RecordLoader, evaluation_order
from datamodules.populations import Populations
from datamodules.records import InstructionRecord
from datamodules.templates import chosen_template
from datamodules.tokenizer import altered_text_warning

_MOST_WORKERS = 1024


class RecordDataModule(Populations, LightningDataModule):
    """Serves instruction records, their tokens and the populations that audits read.

    Args:
        eval_batch_size: most records in a development batch of one rank.
        max_prompt_tokens: most tokens of a prompt; longer ones lose context, then instruction.
        max_tokens: most tokens of prompt, response and end together.
        num_workers: processes that build batches beside the main one.
        encoding: where published codes turn records into other tokens.
        template: what a record looks like to a model, see `datamodules.templates.chosen_template`.
        score: which tokens are scored, see `datamodules.encoding.RecordEncoder`.
        special_tokens_in_text: what words that spell a special token are, see there.
    """

    def __init__(
        self,
        eval_batch_size: int,
        max_prompt_tokens: int,
        max_tokens: int,
        num_workers: int,
        encoding: EncodingOptions,
        template: str | None,
        score: Scored,
        special_tokens_in_text: SpecialTokens | None,
    ) -> None:
        super().__init__()
        require_at_least(
            1,
            eval_batch_size=eval_batch_size,
            max_prompt_tokens=max_prompt_tokens,
            max_tokens=max_tokens,
        )
        require_at_least(0, num_workers=num_workers)
        require_at_most(_MOST_WORKERS, num_workers=num_workers)
        self.eval_batch_size = eval_batch_size
        self.max_prompt_tokens = max_prompt_tokens
        self.max_tokens = max_tokens
        self.num_workers = num_workers
        self.encoding = encoding
        self.template = template
        self.score = score
        self.special_tokens_in_text = special_tokens_in_text

    def val_dataloader(self) -> RecordLoader:
        """Development records, longest first, each on one rank."""
        encoded = self.tokens("development", self.development_records())
        trainer = self.attached_trainer
        lengths = [len(record) for record in encoded]
        plan = evaluation_order(
            lengths, self.eval_batch_size, trainer.global_rank, trainer.world_size
        )
        return RecordLoader(
            encoded,
            plan=lambda epoch: plan,
            n_batches=len(plan),
            start=lambda: 0,
            pad_id=self.pad_id,
            num_workers=self.num_workers,
        )

    @property
    def attached_trainer(self) -> Trainer:
        """The trainer, without which there are no ranks to deal batches to."""
        if self.trainer is None:
            raise RuntimeError(
                "data loaders need a Trainer: pass the data module to fit or validate"
            )
        return self.trainer

    @property
    def is_first(self) -> bool:
        """Whether this process is the first of all, which alone writes and warns."""
        return self.trainer is None or self.trainer.is_global_zero

    def _prepare_encoder(
        self, tokenizer: PreTrainedTokenizerBase, records: Sequence[InstructionRecord]
    ) -> None:
        altered = altered_text_warning(tokenizer)
        if altered is not None and self.is_first:
            sys.stderr.write(f"warning: {altered}\n")
        self.encoder = RecordEncoder(
            tokenizer,
            chosen_template(self.template, records, tokenizer),
            self.max_prompt_tokens,
            self.max_tokens,
            self.encoding,
            self.score,
            self.special_tokens_in_text,
        )
