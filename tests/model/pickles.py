"""Files made by hand: pickles, and archives that torch.save would not write."""

from __future__ import annotations

import io
import struct
import zipfile

__all__ = ["archive", "called", "named", "text"]

BEGIN = b"\x80\x02"


def named(name: str) -> bytes:
    """The instruction that looks a name up."""
    module, _, function = name.rpartition(".")
    return f"c{module}\n{function}\n".encode()


def text(value: str) -> bytes:
    """The instruction that makes a text."""
    data = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(data)) + data


def called(name: str, *arguments: bytes) -> bytes:
    """The instructions that call a name."""
    return named(name) + b"(" + b"".join(arguments) + b"tR"


def archive(
    instructions: bytes,
    *,
    data: dict[str, bytes] | None = None,
    order: bytes = b"little",
    compression: int = zipfile.ZIP_STORED,
) -> bytes:
    """A file as torch.save packs it, with a pickle of any kind."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as packed:
        packed.writestr("a/data.pkl", BEGIN + instructions + b".")
        packed.writestr("a/byteorder", order)
        for key, numbers in (data or {}).items():
            packed.writestr(f"a/data/{key}", numbers)
    return file.getvalue()
