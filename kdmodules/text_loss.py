"""The language-modelling loss on plain text that some techniques add to a step."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedTokenizerBase

from common.errors import UserError
from common.options import require_at_least, require_share
from datamodules.batches import InstructionBatch
from datamodules.plain_documents import DocumentEnd, PlainDocuments
from datamodules.plain_text import WINDOW_BLOCKS, PlainTextBlocks, read_plain_text
from kdmodules.losses import ForwardKL, Reduction, TeacherRows
from kdmodules.models.causal_lm import CausalLM, model_device
from kdmodules.responses import ResponseContext
from kdmodules.token_means import naming_records, scored_tokens


@dataclass(frozen=True)
class PlainText:
    """A corpus of plain text, read as training comes to it; see `datamodules.plain_text`.

    Attributes:
        sources: UTF-8 text files, a hub name, or "builtin".
        block_tokens: Tokens of a block.
        max_blocks: The corpus is the text's first so many blocks, which then come again in another
            order; None takes all that there are.
        documents: What ends a document in a text file.
        hub_split: Split of a hub data set.
        text_field: Text column of a hub data set.
        window_blocks: Blocks that are held in memory and shuffled together.
    """

    sources: str | list[str]
    block_tokens: int = 512
    max_blocks: int | None = None
    documents: DocumentEnd = "blank_line"
    hub_split: str = "train"
    text_field: str = "text"
    window_blocks: int = WINDOW_BLOCKS

    def read(self, tokenizer: PreTrainedTokenizerBase, seed: int) -> PlainTextBlocks:
        """Opens the corpus; the seed decides the order of its blocks."""
        sources = [self.sources] if isinstance(self.sources, str) else self.sources
        return read_plain_text(
            PlainDocuments(sources, self.documents, self.hub_split, self.text_field, seed),
            tokenizer,
            block_tokens=self.block_tokens,
            max_blocks=self.max_blocks,
            window_blocks=self.window_blocks,
            seed=seed,
        )


def check_text_options(plain_text: PlainText | None, lm_coef: float, text_kd_ratio: float) -> None:
    """Refuses a loss on plain text that cannot be had.

    Raises:
        UserError: If ``lm_coef`` is negative, or positive without a corpus, or ``text_kd_ratio`` is
            out of range.
    """
    require_at_least(0, "model.", lm_coef=lm_coef)
    if lm_coef > 0 and plain_text is None:
        raise UserError(
            f"model.lm_coef is {lm_coef} but there is no plain text: give "
            "--model.plain_text.sources a text file or hub name, or set model.lm_coef to 0"
        )
    require_share("model.", text_kd_ratio=text_kd_ratio)


def no_teachers(batch: InstructionBatch) -> TeacherRows:
    """Returns no rows: plain text without a teacher."""
    return ()


@dataclass(frozen=True)
class TextStep:
    """The text of an optimiser step on this rank.

    The text's gradient must be divided by its own number of targets, which is constant, while the
    gradients of the step are divided by its scored tokens, whose number over all micro-batches is
    known at the last one only. So all text of a step is read then, with ``weight`` that turns the
    one division into the other, and each part is recomputed in the backward pass so that one part's
    activations are held at a time.

    Attributes:
        parts: Batches of blocks, as many on every rank; none before the last micro-batch.
        weight: What the step's sums are divided by (scored tokens, or sequences, of the global
            batch) over text targets of the global batch.
        kd_ratio: Weight of forward KL from the teachers beside the cross-entropy, in [0, 1].
        teacher_rows: The teachers on a batch; not asked where ``kd_ratio`` is 0.
    """

    parts: Sequence[InstructionBatch]
    weight: float
    kd_ratio: float = 0.0
    teacher_rows: Callable[[InstructionBatch], TeacherRows] = no_teachers

    def sums(self, lm: CausalLM) -> dict[str, Tensor]:
        """Returns weighted sums in nats, 0 without parts.

        Returns:
            ``loss``, ``(1 - kd_ratio) CE + kd_ratio KL(p||q)``, the only one with a gradient;
            ``text_cross_entropy``; and ``text_kd``, the KL, where ``kd_ratio`` is above 0.
        """
        total = torch.zeros(3, device=model_device(lm))
        for batch in self.parts:
            teachers = self.teacher_rows(batch) if self.kd_ratio > 0 else ()
            with naming_records(batch):
                if len(self.parts) == 1:
                    total = total + self._part(lm, batch, teachers)
                else:
                    # The teachers' rows are kept, so that no teacher runs again in the backward.
                    part = partial(self._part_in_step, lm.training)
                    total = total + checkpoint(part, lm, batch, teachers, use_reentrant=False)
        loss, cross_entropy, divergence = (total * self.weight).unbind()
        sums = {"loss": loss, "text_cross_entropy": cross_entropy}
        return sums | ({"text_kd": divergence} if self.kd_ratio > 0 else {})

    def _part_in_step(
        self, dropout: bool, lm: CausalLM, batch: InstructionBatch, teachers: TeacherRows
    ) -> Tensor:
        """Returns :meth:`_part` in the backward pass as in the forward, when the step is over."""
        with lm.in_step(dropout):
            return self._part(lm, batch, teachers)

    def _part(self, lm: CausalLM, batch: InstructionBatch, teachers: TeacherRows) -> Tensor:
        """Returns loss, cross-entropy and divergence of one part, [3]."""
        reduction = Reduction(kd_ratio=self.kd_ratio)
        sums = ForwardKL()(scored_tokens(lm, batch, teachers, reduction))
        return torch.stack((sums.total, sums.ce_sum, sums.kd_sum))


@dataclass
class TextSteps:
    """Hands out the plain text of every optimiser step with its last micro-batch.

    Attributes:
        blocks: The corpus.
        by_sequence: Whether the step's sums are divided by sequences, else by scored tokens.
        kd_ratio: Weight of forward KL from the teachers beside the cross-entropy, in [0, 1].
        teacher_rows: The teachers on a batch.
        averaged_over: What the step's micro-batches so far are averaged over, on this rank.
    """

    blocks: PlainTextBlocks
    by_sequence: bool
    kd_ratio: float
    teacher_rows: Callable[[InstructionBatch], TeacherRows]
    averaged_over: int = 0

    def due(
        self,
        batch: InstructionBatch,
        context: ResponseContext,
        sum_over_ranks: Callable[[Tensor], Tensor],
    ) -> TextStep:
        """Returns what is due with a micro-batch: all text of the step with its last, else none.

        Args:
            batch: The micro-batch as it is trained on.
            context: Of the micro-batch.
            sum_over_ranks: Adds a tensor over the ranks; called with the last micro-batch.
        """
        counted = batch.scored_rows() if self.by_sequence else batch.response_mask
        self.averaged_over += int(counted.sum())
        if (context.micro_batch + 1) % context.accumulate:
            return TextStep((), 0.0, self.kd_ratio)
        device = batch.input_ids.device
        on_this_rank = torch.tensor(self.averaged_over, dtype=torch.float64, device=device)
        self.averaged_over = 0
        averaged_over = float(sum_over_ranks(on_this_rank))
        blocks = self.blocks.blocks(context.step, context.global_batch)
        parts = dealt_text(blocks.to(device), context.rank, context.world_size, context.accumulate)
        weight = max(averaged_over, 1.0) / (blocks.numel() - len(blocks))
        return TextStep(parts, weight, self.kd_ratio, self.teacher_rows)


def dealt_text(
    blocks: Tensor, rank: int, world_size: int, accumulate: int
) -> list[InstructionBatch]:
    """Returns a rank's share of a step's blocks in parts, as records are dealt to micro-batches.

    All ranks have as many parts, since every pass over a sharded model is work for all of them; a
    rank that no block is left for passes over one of which nothing is scored. Sums over parts and
    ranks are those over all blocks, however they were dealt.

    Args:
        blocks: [n, block_tokens] of the whole step; any number.
        rank: This rank.
        world_size: Number of ranks.
        accumulate: Most parts: no part is larger than with all ranks' micro-batches.
    """
    parts = min(accumulate, -(-len(blocks) // world_size))
    dealt = []
    for part in range(parts):
        mine = blocks[part * world_size + rank :: parts * world_size]
        dealt.append(text_batch(mine) if len(mine) else text_batch(blocks[:1], scored=False))
    return dealt


def text_batch(blocks: Tensor, scored: bool = True) -> InstructionBatch:
    """Returns blocks of text, [b, n], as a batch that scores all tokens but each block's first.

    Args:
        blocks: Token ids.
        scored: False scores nothing.
    """
    targets = torch.full_like(blocks, scored, dtype=torch.bool)
    targets[:, 0] = False
    names = [f"text block {index}" for index in range(len(blocks))]
    tasks = ["" for _ in names]
    return InstructionBatch(blocks, torch.ones_like(blocks), targets, names, tasks)
