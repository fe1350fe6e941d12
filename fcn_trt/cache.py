"""The user's cache: folders that are his alone, and files that are reused if they are as kept.

Who can write a cache decides what other runs compute. So every folder is made for its owner only,
whatever the umask, and one that another user owns or can write is refused, as are such files in it:
root does not trust what a user has put there, nor a user what root has. Without any cache runs only
take longer, but that is left to homes that cannot be written: who meets a cache of somebody else's
making should know.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import platformdirs

from fcn_trt.errors import CacheError, OutputError
from fcn_trt.files import sha256, write_atomic
from fcn_trt.foreign import parse_json, read_limited

__all__ = [
    "cache_folder",
    "cache_path",
    "kept_folder",
    "make_private",
    "others_part",
    "read_kept",
    "write_kept",
]

RECORD_NAME = "sha256.json"
MAX_RECORD_BYTES = 1 << 20
"""Of the list of a folder's files, which has one line for each."""

_DIGEST_BYTES = hashlib.sha256().digest_size
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH

_log = logging.getLogger(__name__)


def cache_path(*parts: str) -> Path:
    """Where a folder of this package is in the user's cache, made or not.

    Raises:
        CacheError: it, what it is in or what is in it belongs to others, or others can write it.
    """
    folder = _checked_levels(*parts)
    with suppress(FileNotFoundError, NotADirectoryError):
        for entry in folder.iterdir():
            _require_own(entry)
    return folder


def cache_folder(*parts: str) -> Path:
    """The same, made if it is missing.

    Raises:
        CacheError: as `cache_path` says.
        OutputError: it cannot be made.
    """
    make_private(_checked_levels(*parts))
    return cache_path(*parts)


def make_private(folder: Path) -> None:
    """Make a folder and what it is in, so far as they are missing, for their owner alone.

    Raises:
        OutputError: it cannot be made.
    """
    try:
        for level in reversed((folder, *folder.parents)):
            if not level.is_dir():
                level.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        is_file = isinstance(error, FileExistsError)
        reason = f"{error.filename} is no folder" if is_file else error.strerror
        raise OutputError(
            f"{folder} cannot be made: {reason}; set XDG_CACHE_HOME to a folder that can be written"
        ) from error


@contextmanager
def kept_folder(*parts: str) -> Iterator[Path]:
    """A folder that a library fills in the block, and reads what it left there earlier.

    What the library did not leave there itself is deleted before: the hashes of its files are
    written down behind each block that ends well.

    Raises:
        CacheError: the folder, or what it is in, belongs to others, or others can write it.
        OutputError: it cannot be made, or something in it cannot be deleted.
    """
    make_private(_checked_levels(*parts))
    folder = _checked_levels(*parts)
    record = folder / RECORD_NAME
    known = _recorded(record)
    try:
        for entry in folder.iterdir():
            if not (known if entry == record else _is_known(entry, known)):
                _delete(entry)
    except OSError as error:
        raise OutputError(f"{error.filename} cannot be deleted: {error.strerror}") from error
    before = _listed(folder)
    yield folder
    try:
        if _listed(folder) != before:
            hashes = {name: sha256(folder / name) for name in sorted(_listed(folder))}
            write_atomic(record, json.dumps(hashes, indent=1).encode())
    except OSError as error:  # another process may delete what it does not know
        _log.warning("%s is not used again: %s", folder, error)


def write_kept(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write a file of the cache with its hash, for `read_kept`.

    Args:
        durable: As for `write_atomic`.

    Raises:
        OutputError: it cannot be written.
    """
    write_atomic(path, hashlib.sha256(data).digest() + data, durable=durable)


def read_kept(path: Path) -> bytes:
    """What `write_kept` wrote; nothing where there is no such file, or another."""
    try:
        data = read_limited(path)
    except FileNotFoundError:
        return b""
    except OSError as error:
        _log.warning("%s is not used: %s", path, error.strerror)
        return b""
    content = data[_DIGEST_BYTES:]
    if hashlib.sha256(content).digest() != data[:_DIGEST_BYTES]:
        _log.warning("%s is not used: it was altered, or is of an earlier version", path)
        return b""
    return content


def _base() -> Path:
    return platformdirs.user_cache_path("fcn_trt")


def _checked_levels(*parts: str) -> Path:
    """A folder of which every level that is there is the user's own."""
    folder = _base()
    with suppress(FileNotFoundError, NotADirectoryError):
        _require_safe_parent(folder.parent)
    for part in ("", *parts):
        folder /= part
        _require_own(folder)
    return folder


def _require_safe_parent(folder: Path) -> None:
    """Refuse a cache that others could put another folder in the place of."""
    if not hasattr(os, "geteuid"):  # Windows keeps each user's cache to himself
        return
    status = folder.stat()
    if status.st_uid not in (0, os.geteuid()):
        raise _refusal(folder, f"belongs to user {status.st_uid} and not {os.geteuid()}")
    if status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX:
        raise _refusal(folder, "can be written by every user")


def _require_own(path: Path) -> None:
    """Refuse what others own or can write, if it is there; of a link, also what it leads to."""
    with suppress(FileNotFoundError, NotADirectoryError):
        if (reason := others_part(path)) is not None:
            raise _refusal(path, reason)


def others_part(path: Path) -> str | None:
    """What lets other users decide what is in a file or folder; None if nothing does.

    Raises:
        OSError: it is not there.
    """
    if not hasattr(os, "geteuid"):  # Windows keeps each user's folders to himself
        return None
    for status in (path.lstat(), path.stat()):
        if status.st_uid != os.geteuid():
            return f"belongs to user {status.st_uid} and not {os.geteuid()}"
        if status.st_mode & _OTHERS_WRITE and not stat.S_ISLNK(status.st_mode):
            return "can be written by others"
    return None


def _refusal(path: Path, reason: str) -> CacheError:
    return CacheError(
        f"{path} {reason}, so what lies in the cache may be of others' making; delete it, "
        f"`chmod -R go-w` it if all in it is yours, or set XDG_CACHE_HOME to a folder of your own"
    )


def _recorded(record: Path) -> dict[str, str]:
    """The hashes that were written down; none where others may have written them."""
    try:
        _require_own(record)
        found = parse_json(read_limited(record, MAX_RECORD_BYTES))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _is_known(entry: Path, known: dict[str, str]) -> bool:
    try:
        return stat.S_ISREG(entry.lstat().st_mode) and known.get(entry.name) == sha256(entry)
    except OSError:
        return False


def _delete(entry: Path) -> None:
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry)
    else:
        entry.unlink(missing_ok=True)


def _listed(folder: Path) -> dict[str, tuple[int, int]]:
    """Bytes and time of each file that the library has there."""
    found = {}
    for entry in folder.iterdir():
        with suppress(FileNotFoundError):
            status = entry.lstat()
            if entry.name != RECORD_NAME and stat.S_ISREG(status.st_mode):
                found[entry.name] = (status.st_size, status.st_mtime_ns)
    return found
