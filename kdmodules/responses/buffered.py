"""Fresh student samples that go into a buffer, and draws from it to train on."""

from typing import Any

from common.options import require_share
from datamodules.batches import InstructionBatch
from kdmodules.responses.buffer import ReplayBuffer
from kdmodules.responses.mixed import keyed_coin
from kdmodules.responses.rewriting import is_filler, records_of, without_first_token
from kdmodules.responses.source import ResponseContext
from kdmodules.responses.student import StudentResponses
from kdmodules.sampling.sampler import SamplingSettings


class BufferedResponses(StudentResponses):
    """On-policy distillation as the published experiment's code runs it: one buffer too late.

    In a share of the steps the student samples responses to the batch's prompts, these are pushed
    into a first-in-first-out buffer, and the step trains on a draw from the buffer in their place:
    on text of a student that is up to ``capacity`` sequences old, to prompts of other batches. The
    other steps keep the data set's responses. A step's coin is that of
    :class:`~kdmodules.responses.MixedResponses`, so that runs with one and the other can be paired.

    Source: the branch for "mixed" runs in `finetune.py` of the DistiLLM repository (Ko et al.
    2024), which the published experiment took over for ImitKD and GKD. It keeps one buffer on each
    device and draws without replacement; here there is one for all ranks, drawn from with
    replacement, so that the number of ranks changes nothing. With accumulation a micro-batch draws
    from what it and those before it have pushed.

    That code also writes the labels of sampled text without shifting them (`distillm/sampler.py`):
    what counts of a response of R tokens are the distributions *at* its tokens, which predict
    tokens 2 to R and then the stop, but not the one before it, which predicts token 1. The stop is
    distilled although eos is taken out of the text, because a divergence needs no label. Of a
    response that was cut, the distribution after its last token counts there too; here it does not.

    Args:
        probability: Share of steps with student text, in [0, 1]: 1 for ImitKD, 0.5 for GKD.
        capacity: Sequences in the buffer.
        unshifted: Leave the first token of every drawn response unscored, as that code does.
        sampling: How the student decodes; by default at temperature 1, up to 256 tokens.
        sampling_batch_size: Most prompts that are decoded together.

    Raises:
        UserError: If an option is out of range.
    """

    def __init__(
        self,
        probability: float = 0.5,
        capacity: int = 1000,
        unshifted: bool = False,
        sampling: SamplingSettings | None = None,
        sampling_batch_size: int = 64,
    ) -> None:
        super().__init__(sampling, sampling_batch_size)
        require_share(probability=probability)
        self.probability = probability
        self.unshifted = unshifted
        self.buffer = ReplayBuffer(capacity)

    def replace(self, batch: InstructionBatch, context: ResponseContext) -> InstructionBatch:
        """Returns a draw from the buffer, or the given batch, as the step's coin fell."""
        parts = (context.seed, "student or data set", context.step)
        if not keyed_coin(self.probability, *parts):
            return batch
        fresh = super().replace(batch, context)
        own = [record for record in records_of(fresh) if not is_filler(record)]
        self.buffer.push(context.gather(own))
        drawn = self.buffer.draw(batch, context)
        return without_first_token(drawn) if self.unshifted else drawn

    def metrics(self) -> dict[str, float]:
        """Returns the number of sequences in the buffer."""
        return {"buffered": float(len(self.buffer))}

    def state_dict(self) -> dict[str, Any]:
        """Returns the buffer."""
        return {"buffer": self.buffer.state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what :meth:`state_dict` returned."""
        self.buffer.restore(state["buffer"])
