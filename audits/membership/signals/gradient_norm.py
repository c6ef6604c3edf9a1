"""How large the gradient of a record's loss is: small where training has already worked on it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from audits.membership.signals.base import RecordSignal
from audits.membership.signals.weights import differentiable, named_weights
from audits.scoring.model_access import ModelAccess
from datamodules.batches import EncodedRecord, collate
from kdmodules.models.causal_lm import model_device
from kdmodules.token_means import naming_records, supervised_sums


@dataclass(frozen=True)
class GradientNorm(RecordSignal):
    """Mean over the model's tensors of the p-norm of the gradient of a record's mean NLL.

    Every tensor of the model counts, once where it is shared and frozen ones too: whoever holds the
    weights can differentiate by all of them. Records are taken one at a time, so that memory holds
    one gradient and no record's number depends on another's padding.

    Attributes:
        p: Order of the norm.
    """

    p: float = 2.0

    @property
    def label(self) -> str:
        """For instance "gradient norm, p 2"."""
        return f"gradient norm, p {self.p:g}"

    @property
    def passes(self) -> float:
        """One forward and one backward pass."""
        return 3.0

    def measure(self, access: ModelAccess, encoded: Sequence[EncodedRecord]) -> Tensor:
        """Returns the mean norms, [B, 1].

        Raises:
            UserError: If the weights are sharded or in half precision.
            FloatingPointError: Naming the record whose loss is not a number.
        """
        weights = tuple(named_weights(access.lm, self.label).values())
        mine = access.ranks.share(range(len(encoded)))
        found: list[float] = []
        with differentiable(access.lm, weights), access.progress(self.label, len(mine)) as advance:
            for place in mine:
                found.append(self._mean_norm(access, encoded[place], weights))
                advance()
        norms = access.ranks.gather(found)[: len(encoded)]
        return torch.tensor(norms, dtype=torch.float64).unsqueeze(1)

    def _mean_norm(
        self, access: ModelAccess, record: EncodedRecord, weights: Sequence[nn.Parameter]
    ) -> float:
        batch = collate([record], access.encoder.pad_id).to(model_device(access.lm))
        with naming_records(batch):
            sums = access.lm(partial(supervised_sums, batch=batch))
        # Not backward(): the gradients that a fit has accumulated stay as they are.
        gradients = torch.autograd.grad(
            sums["loss"] / sums["tokens"], weights, allow_unused=True, materialize_grads=True
        )
        norms = [torch.linalg.vector_norm(gradient, self.p) for gradient in gradients]
        return float(torch.stack(norms).double().mean())
