"""How sensitive spans are looked for."""

from dataclasses import dataclass

from common.options import require_at_least
from kdmodules.sampling.sampler import SamplingSettings


@dataclass(frozen=True)
class SpanOptions:
    """How spans are looked for.

    Attributes:
        samples: Answers that are sampled of each record, and of each generic prompt.
        sampled_records: Records of each population that are sampled, the first that have a span to
            extract; 0 samples nothing, and exact probabilities alone are told.
        answer_tokens: Most tokens of an answer.
        temperature: Divides the logits.
        top_k: Sampling keeps this many of the likeliest tokens; 0 keeps all.
        top_p: Sampling keeps the likeliest tokens up to this mass; 1 keeps all.

    Raises:
        UserError: If an option is out of range.
    """

    samples: int = 10
    sampled_records: int = 50
    answer_tokens: int = 64
    temperature: float = 1.0
    top_k: int = 40
    top_p: float = 1.0

    def __post_init__(self) -> None:
        """Checks the numbers."""
        require_at_least(1, samples=self.samples, answer_tokens=self.answer_tokens)
        require_at_least(0, sampled_records=self.sampled_records)
        _ = self.scheme

    @property
    def scheme(self) -> SamplingSettings:
        """The way of sampling."""
        return SamplingSettings(
            max_new_tokens=self.answer_tokens,
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
        )
