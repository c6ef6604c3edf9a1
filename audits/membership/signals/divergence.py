"""How far the audited model's distributions are from a reference's, given the true tokens."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from audits.membership.signals.base import RecordSignal
from audits.scoring.divergence import divergences
from audits.scoring.model_access import ModelAccess
from audits.scoring.references import BASE
from common.errors import UserError
from datamodules.batches import EncodedRecord
from datamodules.tokenizer import vocabulary_hash


@dataclass(frozen=True)
class Divergence(RecordSignal):
    """KL(reference || audited model), summed over the response tokens, nats, [B, 1].

    Both models run on each batch together, as neither's distributions are kept.

    Attributes:
        model: Name of the reference model.
    """

    model: str = BASE

    @property
    def label(self) -> str:
        """For instance "base: divergence of the audited model"."""
        return f"{self.model}: divergence of the audited model"

    @property
    def passes(self) -> float:
        """One of each model."""
        return 2.0

    def measure(self, access: ModelAccess, encoded: Sequence[EncodedRecord]) -> Tensor:
        """Returns the divergence of each record, [B, 1].

        Raises:
            UserError: If the two have different tokenizers.
            FloatingPointError: If a distribution is not a number.
        """
        audited = access.audited
        if audited is None:
            raise ValueError("a divergence is that of a reference with the audited model beside it")
        if len({vocabulary_hash(one.encoder.tokenizer) for one in (access, audited)}) > 1:
            raise UserError(
                f"an attack compares whole distributions, and the reference {self.model!r} has "
                "another tokenizer than the audited model: name one that shares it"
            )
        sums = divergences(audited, [access.lm], encoded, self.label)
        return torch.from_numpy(sums).unsqueeze(1)
