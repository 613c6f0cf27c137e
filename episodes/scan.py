"""Reading the records of an MCAP file from the front, whole or cut off, with every chunk's checksum verified."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from mcap.exceptions import McapError
from mcap.records import Attachment, Channel, Chunk, Footer, McapRecord, Message, Metadata, Schema
from mcap.stream_reader import CRCValidationError, StreamReader, breakup_chunk

from spec.errors import CadenzaError

# A record longer than this is damage, not data: chunks are 256 KiB plus at most one picture.
RECORD_LIMIT = 1 << 28

# What the reader meets at the cut of an unfinished or damaged file.
_DAMAGE = (McapError, CRCValidationError, struct.error, EOFError, ValueError, OverflowError, IndexError)

Content = Schema | Channel | Message | Attachment | Metadata


class Scan:
    """Walks a file once. ``whole`` tells afterwards whether the end was reached, else ``damage`` says why not."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.whole = False
        self.damage = ""

    def __iter__(self) -> Iterator[Content]:
        """Schemas, channels, messages, attachments and metadata in file order, up to the first damage.

        A chunk with a wrong checksum counts as damage as a whole: none of its messages is given.
        """
        try:
            for record in StreamReader(self._stream, emit_chunks=True, record_size_limit=RECORD_LIMIT).records:
                yield from _contents(record)
                self.whole = isinstance(record, Footer)
        except _DAMAGE as error:
            self.whole = False
            self.damage = " ".join(str(error).split()) or type(error).__name__


def _contents(record: McapRecord) -> list[Content]:
    if not isinstance(record, Chunk):
        return [record] if isinstance(record, Content) else []
    if record.uncompressed_crc == 0 and record.uncompressed_size:
        raise ValueError("a chunk without a checksum")  # taken apart unchecked it could keep the reader busy for ever
    return [item for item in breakup_chunk(record, validate_crc=True) if isinstance(item, Content)]


def open_episode(path: Path) -> BinaryIO:
    """Read a whole file into memory, checking that it is MCAP.

    Raises:
        CadenzaError: missing, unreadable, or something else.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CadenzaError(f"{path}: cannot read the episode: {error.strerror}") from None
    if not content.startswith(b"\x89MCAP0\r\n"):
        raise CadenzaError(f"{path}: not an MCAP file")
    return io.BytesIO(content)
