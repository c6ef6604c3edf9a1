"""Tuned lens: a logit lens that is calibrated block by block on development text.

Belrose et al., "Eliciting Latent Predictions from Transformers with the Tuned Lens", 2023 (arXiv
2303.08112). An early block's stream stands in other coordinates than the last one's, which the
final norm and the head were trained for; an affine translator per block takes it there. Text that
is audited must not shape what it is read by, so only development records do. A translator stands in
for all blocks behind its own and is fitted to what they say: a leak of later blocks is brought
forward, and an early reading is no sign that the leak sits early.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from audits.blocks.profile import Figure, MeasuredSide, Profile
from audits.blocks.readout import predicting_rows
from audits.blocks.recorder import BlockCall, watching
from audits.blocks.signals.base import BlockAccess, BlockStep
from audits.blocks.signals.logit_lens import LogitLens
from audits.blocks.translators import FittedTranslator, LensText, fit_translator
from audits.membership.signals.weights import differentiable, full_precision
from audits.scoring.model_access import ModelAccess
from common.errors import UserError
from common.keys import numpy_generator, torch_generator
from datamodules.batches import EncodedRecord, InstructionBatch, collate, length_buckets
from kdmodules.models.anatomy import transformer_blocks
from kdmodules.models.causal_lm import CausalLM, model_device

_HELD_OUT_SHARE = 5  # one record in so many


class TunedLens(LogitLens):
    """Mean log-probability of the response read behind a block through a translator, and its gain.

    Unit: nats per token. Beside the AUROC of every block stand ``kl_plain`` and ``kl_tuned``, the
    mean KL(model || lens) over held-out development text without and with the translator: what is
    left of it says how far the block's reading is from the model's own. The last block has no
    translator.

    Args:
        blocks: Indices of the blocks that are read, in ascending order; None reads all.
        max_tokens: Most response tokens of development text, of which one record in five chooses
            among iterates and the others are fitted to.
        epochs: Passes of the descent over them.

    Raises:
        UserError: If the indices are not ascending from 0 or more, or a number is out of range.
    """

    name = "tuned_lens"
    needs_development = True

    def __init__(
        self, blocks: list[int] | None = None, max_tokens: int = 16384, epochs: int = 4
    ) -> None:
        super().__init__(blocks)
        if max_tokens < 2 or epochs < 0:
            raise UserError(
                f"{self.name}: max_tokens is {max_tokens} and epochs is {epochs}: give 2 or more "
                "and 0 or more"
            )
        self.max_tokens = max_tokens
        self.epochs = epochs
        self._fits: Mapping[int, FittedTranslator] | None = None
        self.params = {"max_tokens": self.max_tokens, "epochs": self.epochs}

    def fitted(self, access: BlockAccess) -> "TunedLens":
        """Returns this lens with translators of the audited model, the same on every rank.

        Blocks are dealt to ranks. A rank holds its blocks' streams of the development text on the
        CPU, and one block's on the device at a time.

        Raises:
            UserError: If a block is asked for that the model does not have, or there is no
                development text.
            FloatingPointError: If a token's divergence is infinite or not a number.
        """
        model = access.model
        n_blocks = len(transformer_blocks(model.lm.model))
        last = n_blocks - 1
        wanted = [block for block in self.read_blocks(n_blocks) if block != last]
        fit, held_out = self._cut(access.development(), model.seed)
        mine = model.ranks.share(wanted)
        kept = list(dict.fromkeys([*mine, last]))
        with torch.inference_mode(False), torch.no_grad():
            texts = [development_streams(model, part, kept) for part in (fit, held_out)]
        found = []
        with model.progress(f"blocks: {self.name}", len(mine)) as advance:
            for block in mine:
                sides = [LensText(streams[block], streams[last]) for streams in texts]
                found.append(self._fit(model.lm, block, sides, model.seed))
                advance()
        every = model.ranks.gather(found)[: len(wanted)]
        device = model_device(model.lm)
        lens = copy.copy(self)
        lens._fits = {
            block: replace(one, translator=one.translator.to(device))
            for block, one in zip(wanted, every, strict=True)
        }
        return lens

    def oppose(self, members: MeasuredSide, nonmembers: MeasuredSide) -> list[Profile]:
        """Returns the profiles of the likelihood, with its calibration, and of its gain."""
        likelihood, *gain = super().oppose(members, nonmembers)
        calibration = [figure for block in likelihood.blocks for figure in self._calibration(block)]
        return [replace(likelihood, figures=(*likelihood.figures, *calibration)), *gain]

    def seen(self, step: BlockStep) -> Tensor:
        """Returns the rows behind the block, translated but at the last one."""
        own = self._fits_found().get(step.block)
        if own is None:
            return step.left
        with full_precision(step.lm):
            return own.translator(step.left)

    def _calibration(self, block: int) -> list[Figure]:
        own = self._fits_found().get(block)
        plain, tuned = (0.0, 0.0) if own is None else (own.kl_plain, own.kl_tuned)
        return [Figure("kl_plain", block, plain), Figure("kl_tuned", block, tuned)]

    def _fits_found(self) -> Mapping[int, FittedTranslator]:
        if self._fits is None:
            raise RuntimeError(f"{self.name} reads nothing before fitted() has made it a lens")
        return self._fits

    def _cut(
        self, encoded: Sequence[EncodedRecord], seed: int
    ) -> tuple[list[EncodedRecord], list[EncodedRecord]]:
        """Returns the records that translators are fitted to, and those that choose."""
        order = numpy_generator(seed, "tuned lens, records").permutation(len(encoded))
        chosen: list[EncodedRecord] = []
        tokens = 0
        for place in order.tolist():
            tokens += encoded[place].n_scored
            if len(chosen) >= 2 and tokens > self.max_tokens:
                break
            chosen.append(encoded[place])
        held_out = max(1, len(chosen) // _HELD_OUT_SHARE)
        return chosen[held_out:], chosen[:held_out]

    def _fit(
        self, lm: CausalLM, block: int, sides: Sequence[LensText], seed: int
    ) -> FittedTranslator:
        """Fits one block's translator from within the model's root, where its head is whole."""
        generator = torch_generator(seed, "tuned lens, order", block)
        device = model_device(lm)
        found: list[FittedTranslator] = []

        def compute(lm: CausalLM) -> list[Tensor]:
            fit, held_out = (side.to(device) for side in sides)
            # Not around the root: under a sharded strategy that would await a backward pass.
            with differentiable(lm):
                found.append(fit_translator(lm, fit, held_out, self.epochs, generator))
            return []

        with torch.no_grad():
            lm(compute)
        (one,) = found
        return replace(one, translator=one.translator.to("cpu"))


def development_streams(
    access: ModelAccess, encoded: Sequence[EncodedRecord], blocks: Sequence[int]
) -> dict[int, Tensor]:
    """Returns the residual stream behind some blocks at the rows that predict scored tokens.

    Every rank runs every batch, in step, and keeps the blocks that it asks for.

    Args:
        access: The model, in evaluation mode.
        encoded: Records with at least one response token, N in all.
        blocks: Indices of the blocks, each once.

    Returns:
        [N, D] by block in the model's type, on the CPU, in the records' order.
    """
    lengths = [len(record) for record in encoded]
    buckets = length_buckets(lengths, access.batch_size, access.max_batch_tokens)
    found: dict[int, dict[int, Tensor]] = {block: {} for block in blocks}
    with access.progress("blocks: development text", len(buckets)) as advance:
        for bucket in buckets:
            batch = collate([encoded[place] for place in bucket], access.encoder.pad_id)
            own = batch.to(model_device(access.lm))
            streams = access.lm(partial(_streams, batch=own, blocks=blocks))
            counts = batch.response_mask.sum(dim=1).tolist()
            for block, rows in zip(blocks, streams, strict=True):
                found[block] |= dict(zip(bucket, rows.cpu().split(counts), strict=True))
            advance()
    places = range(len(encoded))
    return {block: torch.cat([own[place] for place in places]) for block, own in found.items()}


def _streams(lm: CausalLM, batch: InstructionBatch, blocks: Sequence[int]) -> list[Tensor]:
    kept: dict[int, Tensor] = {}

    def keep(block: int, call: BlockCall, output: Tensor) -> None:
        if block in blocks:
            kept[block] = predicting_rows(output, batch)

    with watching(lm.model, keep):
        lm.states(batch.input_ids, batch.attention_mask)
    return [kept[block] for block in blocks]
