"""The suffix that extraction is asked for, after the whole prompt and some of the response."""

from audits.memorization.greedy_continuation import Request
from audits.memorization.metrics.base import MemorizationMetric
from common.options import require_at_least
from datamodules.encoding import EncodedRecord


class SuffixMetric(MemorizationMetric):
    """A metric of the response tokens that follow a prefix of the response.

    The prompt is always given and never judged: it was not trained. eos belongs to the suffix
    where the suffix reaches the end of a response that was not cut.

    Args:
        prefix_tokens: Response tokens that are given after the prompt.
        suffix_tokens: Most tokens of the suffix.
        fewest_tokens: A record whose suffix has fewer is skipped.

    Raises:
        UserError: If a number is out of range.
    """

    def __init__(
        self, prefix_tokens: int = 0, suffix_tokens: int = 50, fewest_tokens: int = 10
    ) -> None:
        where = f"metric {self.name}: "
        require_at_least(0, where, prefix_tokens=prefix_tokens)
        require_at_least(1, where, fewest_tokens=fewest_tokens)
        require_at_least(fewest_tokens, where, suffix_tokens=suffix_tokens)
        self.prefix_tokens = prefix_tokens
        self.suffix_tokens = suffix_tokens
        self.fewest_tokens = fewest_tokens
        self.params = {
            "prefix_tokens": self.prefix_tokens,
            "suffix_tokens": self.suffix_tokens,
            "fewest_tokens": self.fewest_tokens,
        }
        edges = {self.fewest_tokens, self.suffix_tokens // 2, self.suffix_tokens}
        self.length_edges = tuple(sorted(edge for edge in edges if edge >= self.fewest_tokens))

    def judged_tokens(self, record: EncodedRecord) -> int:
        """Returns the tokens of the suffix."""
        rest = min(self.suffix_tokens, len(record.response_ids) - self.prefix_tokens)
        return rest if rest >= self.fewest_tokens else 0

    def read_tokens(self, record: EncodedRecord) -> int:
        """Returns the tokens up to the end of the suffix."""
        judged = self.judged_tokens(record)
        return self.prefix_tokens + judged if judged else 0

    def request(self, record: EncodedRecord) -> Request:
        """Returns prefix and suffix of a record with judged tokens."""
        return Request(self.prefix_tokens, self.judged_tokens(record))
