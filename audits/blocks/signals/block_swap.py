"""Block swap: what becomes of the leak when one block is another model's.

Activation patching's question asked of weights (compare Vig et al. 2020, arXiv 2004.12265). The
donor should be the counterfactual student of the same initial weights and data order: between
models of different origin a swapped block does not fit, and the AUROC falls for that reason alone.
Whether one fits is asked of records that neither model was trained on: the non-members are the
members of a counterfactual's teacher, and a swap that takes them away from the donor would seem to
fit worst where there is most to find.
"""

import copy
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audits.blocks.cached_pass import CachedPass
from audits.blocks.profile import Figure, MeasuredSide, Params, Profile, Reading, profile_of
from audits.blocks.signals.base import BlockAccess, RerunSignal
from audits.membership.signals.weights import full_precision, named_weights
from audits.scoring.batches import over_batches
from audits.statistics import holm, paired_difference
from audits.statistics.estimates import Clusters
from common.errors import UserError
from datamodules.batches import EncodedRecord, InstructionBatch
from kdmodules.models.anatomy import transformer_blocks
from kdmodules.models.causal_lm import CausalLM

_DIRECTIONS = ("donor_into_model", "model_into_donor")


class BlockSwap(RerunSignal):
    """Mean log-probability of the response with one block taken from another model, and back.

    Unit: nats per token. ``donor_into_model`` is the audited model with the donor's block b,
    ``model_into_donor`` the donor with the audited model's. Beside every AUROC stands its change
    against the receiving model's own, ``auroc_change``; where the swap raises the NLL of records
    that no model met (``never``) by more than ``max_nll_rise`` over either parent, the models do
    not fit and neither is reported. ``nll_rise`` always is. A second donor of the same technique
    from another seed shows what a swap does where both leak.

    Args:
        donor: Name of the reference model that gives and receives blocks.
        max_nll_rise: Largest rise of the mean NLL on ``never`` that is reported, nats per token.

    Raises:
        UserError: If the largest rise is not positive.
    """

    name = "block_swap"
    needs_never = True

    def __init__(self, donor: str = "counterfactual", max_nll_rise: float = 0.05) -> None:
        if not max_nll_rise > 0:
            raise UserError(f"{self.name}: max_nll_rise is {max_nll_rise}: give more than 0")
        self.donor = donor
        self.max_nll_rise = float(max_nll_rise)
        self._rises: NDArray[np.float64] | None = None
        self.params = {"donor": self.donor, "max_nll_rise": self.max_nll_rise, "gate": "never"}

    def fitted(self, access: BlockAccess) -> "BlockSwap":
        """Returns the signal that knows how well each block fits: rises of the NLL on ``never``.

        Raises:
            UserError: If there are no such records, and as :meth:`measure`.
        """
        levels = self.measure(access, access.never()).mean(dim=0)  # [L, 4]
        gated = copy.copy(self)
        gated._rises = (levels[:, 2:].amax(dim=1, keepdim=True) - levels[:, :2]).numpy()  # [L, 2]
        return gated

    def measure(self, access: BlockAccess, encoded: Sequence[EncodedRecord]) -> Tensor:
        """Returns log-likelihoods, [R, L, 4]: swapped both ways, and the two models' own.

        Raises:
            UserError: If the donor is unknown or of another shape, or weights are sharded or in
                half precision.
            FloatingPointError: Naming the record whose distribution is not a number.
        """
        lm = access.model.lm
        other = access.load_reference(self.donor).lm
        self._require_fit(lm, other)

        def compute(lm: CausalLM, batch: InstructionBatch) -> Tensor:
            own, donated = CachedPass.of(lm, batch), CachedPass.of(other, batch)
            columns = [_swapped(own, other), _swapped(donated, lm)]
            for each in (own, donated):
                columns.append(each.read(each.stream)[:, None].expand_as(columns[0]))
            return torch.stack(columns, dim=2)

        with torch.no_grad(), full_precision(lm):
            return over_batches(access.model, encoded, f"blocks: {self.name}", compute)

    def oppose(self, members: MeasuredSide, nonmembers: MeasuredSide) -> list[Profile]:
        """Returns the profile of each direction, with the changes and the rises of the NLL.

        Raises:
            RuntimeError: If the signal was not fitted.
        """
        if self._rises is None:
            raise RuntimeError(f"{self.name} was not fitted")
        return [
            self._direction(place, name, members, nonmembers, self._rises[:, place])
            for place, name in enumerate(_DIRECTIONS)
        ]

    def _direction(
        self,
        place: int,
        name: str,
        members: MeasuredSide,
        nonmembers: MeasuredSide,
        rises: NDArray[np.float64],
    ) -> Profile:
        every = tuple(range(members.measured.shape[1]))
        params: Params = {"measure": name, **self.params}
        ours, theirs = (
            Reading(self.name, params, every, side.measured[:, :, place].numpy())
            for side in (members, nonmembers)
        )
        found = profile_of(ours, theirs, members, nonmembers)
        fits = rises <= self.max_nll_rise
        kept = [
            one if one.block is None or fits[one.block] else Figure(one.metric, one.block, None)
            for one in found.figures
            # A swap that does not fit would make blocks differ that do not.
            if one.block is not None or bool(fits.all())
        ]
        figures = [
            *kept,
            *_changes(place, members, nonmembers, fits),
            *(Figure("nll_rise", b, float(rise)) for b, rise in enumerate(rises)),
        ]
        return Profile(self.name, params, every, tuple(figures), ours.values, theirs.values)

    def _require_fit(self, lm: CausalLM, donor: CausalLM) -> None:
        for model in (lm, donor):
            named_weights(model, self.name)
        ours, theirs = _shape(lm), _shape(donor)
        if ours != theirs:
            raise UserError(
                f"{self.name}: reference {self.donor!r} is {theirs} and the audited model {ours}: "
                "name a model of the same family and size"
            )


def _shape(lm: CausalLM) -> str:
    config = lm.model.config
    depth = len(transformer_blocks(lm.model))
    return f"{config.model_type} of {depth} blocks of width {config.hidden_size}"


def _swapped(cached: CachedPass, donor: CausalLM) -> Tensor:
    """Returns the log-likelihoods of a model with each of another's blocks in turn, [B, L]."""
    blocks = transformer_blocks(donor.model)
    found = [cached.rerun(index, replaced={index: blocks[index]}) for index in range(len(blocks))]
    return torch.stack(found, dim=1)


def _changes(
    place: int, members: MeasuredSide, nonmembers: MeasuredSide, fits: NDArray[np.bool_]
) -> list[Figure]:
    """Returns AUROC after the swap minus before, of the receiving model, at every block."""
    ours, theirs = (
        (side.measured[:, :, place].numpy(), side.measured[:, 0, 2 + place].numpy())
        for side in (members, nonmembers)
    )
    clusters = Clusters(member_clusters=members.clusters, nonmember_clusters=nonmembers.clusters)
    found = [
        paired_difference(ours[0][:, block], theirs[0][:, block], ours[1], theirs[1], **clusters)
        if fits[block]
        else None
        for block in range(len(fits))
    ]
    p_values = holm([np.nan if one is None else one.p_value for one in found])
    return [
        Figure("auroc_change", block, None)
        if one is None
        else Figure("auroc_change", block, one.value, one.lower, one.upper, float(p))
        for block, (one, p) in enumerate(zip(found, p_values, strict=True))
    ]
