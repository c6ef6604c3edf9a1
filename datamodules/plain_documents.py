"""Documents of plain text, one after another: of files, hub data sets and the built-in corpus."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Literal

from common.errors import UserError, first_line
from common.options import given_path
from datamodules.record_files import decoded_lines
from datamodules.synthetic import BUILTIN, generate_documents

DocumentEnd = Literal["blank_line", "line", "file"]


@dataclass(frozen=True)
class PlainDocuments:
    """Where documents come from; nothing is read before `read`, and then never all at once.

    Attributes:
        sources: UTF-8 text files, hub names, or "builtin" for endless passages like those of the
            built-in corpus, one after another.
        ends: what ends a document in a text file: an empty line, every line, the file's end.
        hub_split: split of a hub data set.
        text_field: text column of a hub data set.
        seed: of the built-in passages.
    """

    sources: Sequence[str]
    ends: DocumentEnd = "blank_line"
    hub_split: str = "train"
    text_field: str = "text"
    seed: int = 0

    @property
    def endless(self) -> bool:
        """Whether `read` never comes to an end."""
        return BUILTIN in self.sources

    def read(self) -> Iterator[str]:
        """Yields the documents, the same ones in the same order whenever it is called.

        Raises:
            UserError: a missing or wrongly encoded file, an unknown data set or column.
        """
        for name in self.sources:
            if name == BUILTIN:
                yield from generate_documents(self.seed)
            elif Path(name).suffix or given_path(name).exists():
                yield from self._of_file(name)
            else:
                yield from self._of_hub(name)

    def _of_file(self, name: str) -> Iterator[str]:
        ends: dict[DocumentEnd, Callable[[str], bool]] = {
            "blank_line": lambda line: not line.strip(),
            "line": lambda line: True,
            "file": lambda line: False,
        }
        ended = ends[self.ends]
        document: list[str] = []
        try:
            with given_path(name).open("rb") as file:
                for line in chain(decoded_lines(file, name), [""]):
                    document.append(line)
                    if ended(line) or line == "":
                        text = "".join(document).strip()
                        document.clear()
                        if text:
                            yield text
        except OSError as error:
            raise UserError(f"{name}: cannot be read: {error.strerror}") from error

    def _of_hub(self, name: str) -> Iterator[str]:
        import datasets

        try:
            rows = datasets.load_dataset(name, split=self.hub_split, streaming=True)
        except Exception as error:  # the hub client has no common base class for its faults
            reason = first_line(error)
            raise UserError(
                f"{name}: neither a file here nor a data set of the hub: {reason}"
            ) from error
        for row in rows:
            if self.text_field not in row:
                raise UserError(f"{name}: no column {self.text_field!r}; it has {', '.join(row)}")
            yield row[self.text_field]
