"""The records of a zip archive as torch.save writes it: uncompressed pieces of the file.

Nothing is copied: a record is a view of the file's bytes, and no two share any.
"""

from __future__ import annotations

import io
import struct
import zipfile

from fcn_trt.model.inert_pickle import DamagedError

__all__ = ["archive_names", "archive_records"]

MAX_DIRECTORY_BYTES = 1 << 21
"""A hundred for the record of each tensor, of which zipfile makes a thousand in memory."""
_LOCAL_HEADER = struct.Struct("<4s22xHH")
_IS_ENCRYPTED = 1
_NO_ZIP = (
    *(zipfile.BadZipFile, OSError, ValueError, LookupError, RuntimeError, struct.error),
    *(ArithmeticError, MemoryError),
)
"""What zipfile raises on altered bytes."""


class _Directory(io.BytesIO):
    """An archive of which only the directory is read, in one piece."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > MAX_DIRECTORY_BYTES:
            raise OSError(f"the directory has over {MAX_DIRECTORY_BYTES} bytes")
        return super().read(size)


def archive_names(data: bytes) -> list[str]:
    """The names of all records, compressed ones too.

    Raises:
        DamagedError: it is no zip archive, or its directory is too large.
    """
    return [entry.filename for entry in _entries(data)]


def archive_records(data: bytes) -> dict[str, memoryview]:
    """The bytes of each record.

    Raises:
        DamagedError: as for `archive_names`; or a record is compressed, not all there, or shares
            bytes or its name with another.
    """
    records: dict[str, memoryview] = {}
    whole, end = memoryview(data), 0
    for entry in sorted(_entries(data), key=lambda entry: entry.header_offset):
        start = entry.header_offset
        header = whole[start : start + _LOCAL_HEADER.size] if start >= end else b""
        if len(header) < _LOCAL_HEADER.size:
            raise DamagedError("its zip archive has records that overlap or are cut off")
        magic, name_size, extra_size = _LOCAL_HEADER.unpack(header)
        is_stored = entry.compress_type == zipfile.ZIP_STORED and magic == b"PK\x03\x04"
        if (
            not is_stored
            or entry.compress_size != entry.file_size
            or entry.flag_bits & _IS_ENCRYPTED
        ):
            raise DamagedError("its zip archive has records that are compressed or encrypted")
        start += _LOCAL_HEADER.size + name_size + extra_size
        end = start + entry.file_size
        if end > len(data) or entry.filename in records:
            raise DamagedError("its zip archive has records that are cut off or are there twice")
        records[entry.filename] = whole[start:end]
    return records


def _entries(data: bytes) -> list[zipfile.ZipInfo]:
    try:
        with zipfile.ZipFile(_Directory(data)) as archive:
            return archive.infolist()
    except _NO_ZIP as error:
        raise DamagedError("its zip archive has no readable directory") from error
