"""What records and subjects are called outside of private folders: never as their file calls them.

An own id may be a mail address. A record is therefore named by the hash of what it says, and a
subject by that of its name; under a key both are keyed hashes (HMAC-SHA256), so that nobody who
has a record's text, or guesses a person's name, can tell by hashing whether it is there. Records
that say the same have one name: to every audit they are one record.
"""

import hmac
import os
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from common.atomic_file import make_private, replacing
from common.errors import UserError
from common.parquet_file import CHECKED
from datamodules.records import InstructionRecord, content_id

RECORDS_NAME = "records.parquet"
KEY_NAME = "pseudonym.key"
_KEY_SUFFIX = Path(KEY_NAME).suffix
_KEY_BYTES = 32
_SCHEMA = pa.schema(dict.fromkeys(("record", "id", "origin", "subject", "subject_id"), pa.string()))


class RecordNames:
    """Names records anew, and keeps what they were called before.

    Args:
        key: Of pseudonyms; None names by the bare hash.
    """

    def __init__(self, key: bytes | None = None) -> None:
        self.key = key
        self._parts = [_SCHEMA.empty_table()]

    @classmethod
    def of(cls, pseudonymise: bool | str | Path, folder: Path | None) -> "RecordNames":
        """Names by an option.

        Args:
            pseudonymise: True takes the key of the private folder; a path is a key's own file.
                Where there is none, it is made.
            folder: The private folder; without one, True takes a key that no file holds yet.

        Raises:
            UserError: A path without the ending .key, or a file that holds no key.
        """
        if pseudonymise is False:
            return cls()
        if pseudonymise is True:
            return cls(_key(folder / KEY_NAME) if folder else secrets.token_bytes(_KEY_BYTES))
        if not str(pseudonymise).endswith(_KEY_SUFFIX):
            raise UserError(
                f"pseudonymise is {str(pseudonymise)!r}: give true, false, or the path of a key, "
                f"which ends in {_KEY_SUFFIX}"
            )
        return cls(_key(Path(pseudonymise).expanduser()))

    def renamed(self, records: Sequence[InstructionRecord]) -> list[InstructionRecord]:
        """Returns the records under their new names, in their order."""
        found = [
            replace(
                record,
                id=self._name(record.content),
                subject=None if record.subject is None else self._name(content_id(record.subject)),
            )
            for record in records
        ]
        columns = {
            "record": [record.id for record in found],
            "id": [None if one.id == one.content else one.id for one in records],
            "origin": [record.origin for record in records],
            "subject": [record.subject for record in found],
            "subject_id": [record.subject for record in records],
        }
        self._parts.append(pa.table(columns, schema=_SCHEMA))
        return found

    @property
    def table(self) -> pa.Table:
        """A row per record that was read: its name, its own id if it had one, where it stands in
        its file, and the same of its subject.
        """
        return pa.concat_tables(self._parts)

    def write(self, folder: Path) -> None:
        """Writes `records.parquet` and, where there is a key, `pseudonym.key`.

        Args:
            folder: A private folder; made, and closed to all but its owner.
        """
        make_private(folder)
        with replacing(folder / RECORDS_NAME, private=True) as file:
            pq.write_table(self.table, file, **CHECKED)
        if self.key is not None:
            with replacing(folder / KEY_NAME, private=True) as file:
                file.write(_text(self.key))

    def _name(self, content: str) -> str:
        if self.key is None:
            return content
        return hmac.digest(self.key, content.encode(), "sha256").hex()[: len(content)]


def _key(path: Path) -> bytes:
    """Returns the key in a file, which is made if it is not there.

    Processes that come at once take one key: a link is made by one of them.

    Raises:
        UserError: The file holds no key, or cannot be read or made.
    """
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        if not path.exists():
            with replacing(fresh, private=True) as file:
                file.write(_text(secrets.token_bytes(_KEY_BYTES)))
            with suppress(FileExistsError):
                os.link(fresh, path)
            fresh.unlink()
        key = bytes.fromhex(path.read_text(encoding="ascii"))
    except OSError as error:
        raise UserError(f"{path}: no key can be kept there: {error.strerror}") from error
    except ValueError:
        key = b""
    if len(key) != _KEY_BYTES:
        raise UserError(
            f"{path}: holds no key of {_KEY_BYTES} bytes; delete it to have another one made, "
            "under which records have other names"
        )
    return key


def _text(key: bytes) -> bytes:
    return f"{key.hex()}\n".encode()
