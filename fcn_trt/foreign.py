"""Files and text that others made: read once and within a limit, printed without what terminals do.

A file is opened if it is a regular one, so that no FIFO hangs and no device is read; its size is
looked at before its bytes are. What is read is used from memory, so that what was checked is what
is used, whoever writes the file meanwhile.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
import stat
import unicodedata
from pathlib import Path
from typing import Any, BinaryIO

from fcn_trt.limits import MAX_BYTES

__all__ = [
    "open_regular",
    "parse_json",
    "printable",
    "quoted",
    "read_limited",
    "require_regular",
    "shortened",
    "without_secrets",
]

_READ_ONLY = os.O_RDONLY | sum(
    getattr(os, name, 0) for name in ("O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY")
)
"""A file may become a pipe after it was looked at, which is then not waited for."""

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)

_LEAST = -(2**63)
_SHORT = 80

MAX_VALUES = 100_000
"""Of a JSON text: our files have a few thousand. What checks each against what it should be finds
as many errors, and takes 3 kB for one."""

_UNPRINTED = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
"""Categories of Unicode: control, format (bidi too), lone surrogates, private, unassigned, and
separators of lines and paragraphs."""

_LOGIN = re.compile(r"(\b[a-z][a-z0-9+.-]{0,20}://)([^\s'\"]{1,200})@", re.IGNORECASE)
"""What may stand before the host in a URL; passwords may hold any character."""

_SECRET = re.compile(
    r"([\w-]{0,40}(?:passw(?:or)?d|user-pw|token|secret|api-?key)=)\S+", re.IGNORECASE
)


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading, if it is a regular one.

    Raises:
        OSError: it cannot be opened, or is a folder, a pipe, a socket or a device; `strerror` says
            which.
    """
    require_regular(path)
    descriptor = os.open(path, _READ_ONLY)
    try:
        _require_regular(os.fstat(descriptor), path)
        return os.fdopen(descriptor, "rb")
    except OSError:
        os.close(descriptor)
        raise


def require_regular(path: Path) -> os.stat_result:
    """What the file system says of a file, if it is a regular one; links are followed.

    Raises:
        OSError: it is none, or is not there.
    """
    status = path.stat()
    _require_regular(status, path)
    return status


def read_limited(path: Path, limit_bytes: int | None = None) -> bytes:
    """All bytes of a regular file.

    Args:
        limit_bytes: How many it may have; None is `MAX_BYTES`, which a user can raise.

    Raises:
        OSError: it cannot be read, is no regular file, or has more bytes.
    """
    most = MAX_BYTES.value if limit_bytes is None else limit_bytes
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        # Not `most` at once, for which room would be made first.
        data = b"" if size > most else file.read(size + 1)
        if size < len(data):
            data += file.read(most + 1 - len(data))
    size = max(size, len(data))
    if size > most:
        too_many = f"at most {most} bytes are read, and it has {size}"
        reason = MAX_BYTES.exceeded(size) if limit_bytes is None else too_many
        raise OSError(errno.EFBIG, reason, str(path))
    return data


def parse_json(data: bytes | str, most_values: int = MAX_VALUES) -> Any:
    """What a JSON text says, whose numbers are those of other languages too.

    Args:
        most_values: How many it may have, as far as commas show.

    Raises:
        ValueError: it is none, has more values or a key twice, is nested too deeply, or has a
            number that is not finite, or whole and of more than 64 bits.
    """
    comma: Any = b"," if isinstance(data, bytes) else ","
    if (commas := data.count(comma)) > most_values:
        raise ValueError(f"at most {most_values} values are read, and it has {commas}")
    try:
        return json.loads(
            data,
            object_pairs_hook=_unique,
            parse_int=_int64,
            parse_float=_finite,
            parse_constant=_finite,
        )
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def quoted(value: object) -> str:
    """A value of any origin as it is written in a sentence, cut off where it is long."""
    return shortened(repr(value))


def shortened(text: str) -> str:
    """A text in a sentence, cut off where it is long."""
    return text if len(text) <= _SHORT else f"{text[: _SHORT - 3]}..."


def printable(text: str) -> str:
    r"""A text on one line, with `\x1b` and the like for what a terminal would act on.

    Args:
        text: Of any origin: a file's name, a class, a licence, what a library says.
    """
    return "".join(c if _is_printed(c) else _escaped(c) for c in text)


def without_secrets(text: str) -> str:
    """A text without the passwords of URLs and of GStreamer's elements."""
    return _SECRET.sub(r"\1***", _LOGIN.sub(_hidden, text))


def _hidden(url: re.Match[str]) -> str:
    before_path = url[2].partition("/")[0]
    is_login = ":" in before_path or before_path == url[2]  # else the @ belongs to the path
    return f"{url[1]}***@" if is_login else url[0]


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("it has a key twice")
    return found


def _int64(digits: str) -> int:
    if len(digits) > len(str(_LEAST)) or not _LEAST <= int(digits) < -_LEAST:
        raise ValueError(f"{quoted(digits)} is no whole number of 64 bits")
    return int(digits)


def _finite(text: str) -> float:
    if not math.isfinite(float(text)):
        raise ValueError(f"{quoted(text)} is no finite number")
    return float(text)


def _is_printed(character: str) -> bool:
    return (character.isascii() and character.isprintable()) or (
        not character.isascii() and unicodedata.category(character) not in _UNPRINTED
    )


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def _require_regular(status: os.stat_result, path: Path) -> None:
    for is_kind, kind in _KINDS:
        if is_kind(status.st_mode):
            raise OSError(errno.EINVAL, f"it is {kind} and no regular file", str(path))
