"""The goldfish loss: a share of a text's tokens is never a target, the same ones in every copy."""

from dataclasses import dataclass, replace

from common.keys import key
from common.options import require_at_least
from datamodules.batches import InstructionBatch
from kdmodules.token_hashes import uniform, window_hashes


@dataclass(frozen=True)
class Goldfish:
    """Leaves one of ``k`` target tokens out of the training loss (Hans et al. 2024).

    Which ones is decided by a keyed hash of the tokens before: a passage that stands in several
    records is masked alike in all of them, so that no copy teaches what another leaves out. A model
    that repeats a record has to guess at every such token.

    The published code takes the product of the token ids for their hash, which is 0 as soon as one
    of them is, and lets the window end with the target itself; here the window ends before it, as
    in the paper (arXiv 2406.10209, section 3), and every bit counts.

    Attributes:
        k: One of so many target tokens is left out; at least 2.
        context: Tokens before the target that decide; at least 1.
        key: Of the hash; teachers that are compared have the same.

    Raises:
        UserError: A number is too small.
    """

    k: int = 4
    context: int = 13
    key: int = 0

    def __post_init__(self) -> None:
        require_at_least(2, "model.goldfish.", k=self.k)
        require_at_least(1, "model.goldfish.", context=self.context)

    def without_dropped(self, batch: InstructionBatch) -> InstructionBatch:
        """Returns the batch with the tokens that are left out unscored, so read but never learnt.

        Args:
            batch: B records, padded on either side.
        """
        own_key = key(self.key, "goldfish")
        hashes = window_hashes(batch.input_ids, batch.attention_mask, self.context, own_key)
        kept = uniform(hashes) >= 1.0 / self.k
        return replace(batch, response_mask=batch.response_mask & kept)
