"""Which records of a source a run takes, before anything is split."""

from collections.abc import Sequence
from dataclasses import dataclass

from common.errors import UserError
from common.options import require_at_least
from datamodules.records import InstructionRecord


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Records by length and form; all of them unless something is said.

    Attributes:
        fewest_words: of a response, words being what white space separates.
        most_words: of a response; None takes any.
        context: false leaves out records that are asked about a passage.
    """

    fewest_words: int = 0
    most_words: int | None = None
    context: bool = True

    def of(self, records: Sequence[InstructionRecord]) -> list[InstructionRecord]:
        """Returns the records that are taken, in their order.

        Raises:
            UserError: none is left, or the bounds contradict each other.
        """
        require_at_least(0, "select.", fewest_words=self.fewest_words)
        most = self.most_words
        if most is not None and most < max(1, self.fewest_words):
            raise UserError(
                f"select.most_words is {most} and select.fewest_words {self.fewest_words}: give a "
                "range that holds a word or more"
            )
        taken = [record for record in records if self._takes(record)]
        if records and not taken:
            raise UserError(
                f"select leaves none of {len(records)} records: widen fewest_words and most_words, "
                "or take records with a context"
            )
        return taken

    def _takes(self, record: InstructionRecord) -> bool:
        words = len(record.response.split())
        if words < self.fewest_words or (self.most_words is not None and words > self.most_words):
            return False
        return self.context or not record.context
