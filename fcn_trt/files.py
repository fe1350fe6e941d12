"""Writing without half-written results, hashing, and closing."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from fcn_trt.errors import FcnTrtError, OutputError
from fcn_trt.foreign import open_regular
from fcn_trt.limits import MAX_BYTES

__all__ = [
    "Closing",
    "atomic_folder",
    "atomic_path",
    "combined_sha256",
    "require_folder_of",
    "sha256",
    "temporary_folder",
    "write_atomic",
]

RENAME_ATTEMPTS = 100

_log = logging.getLogger(__name__)

_Self = TypeVar("_Self", bound="Closing")


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, 64 lower-case hex digits.

    Raises:
        OSError: it cannot be read, is no regular file, or is larger than `MAX_BYTES`.
    """
    digest = hashlib.sha256()
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > MAX_BYTES.value:
            raise OSError(errno.EFBIG, MAX_BYTES.exceeded(size), str(path))
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def combined_sha256(parts: Iterable[str | bytes]) -> str:
    """SHA-256 of several things in their order, each with its length."""
    digest = hashlib.sha256()
    for part in parts:
        # Names of files need not be UTF-8.
        data = part.encode(errors="surrogatepass") if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


def require_folder_of(path: Path) -> None:
    """Refuse before long work what could not be written after it.

    Raises:
        OutputError: the folder that `path` is to stand in is missing.
    """
    if not path.parent.is_dir():
        with _as_output_error(path):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))


@contextmanager
def atomic_path(path: Path, *, durable: bool = True, rights: int = 0o666) -> Iterator[Path]:
    """A temporary path beside `path` that becomes `path` when the block ends without an error.

    A reader therefore sees the old file or the whole new one; a killed process leaves only a
    hidden file whose name ends in ``.part`` plus the suffix of `path`.

    Args:
        durable: Wait for the disk, so that a power cut leaves no empty file under this name. One of
            a sequence of images is not worth the milliseconds that this takes.
        rights: Of the file, without what the umask takes away.

    Raises:
        OutputError: the folder is missing or not writable, or the disk is full.
    """
    temporary = _hidden_beside(path, name=path.stem, suffix=f".part{path.suffix}")
    try:
        with _as_output_error(path):
            # Not mkstemp: here the umask gives the rights, as to any new file.
            rights &= ~_not_in(path.parent)
            os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, rights))
            yield temporary
            if durable:
                _sync(temporary)
            temporary.replace(path)
    finally:
        with suppress(OSError):  # it has become `path`, or there was no folder to make it in
            temporary.unlink()


def write_atomic(path: Path, data: bytes, *, durable: bool = True, rights: int = 0o666) -> None:
    """Write a whole file or nothing.

    Args:
        data: All of its bytes.
        durable: As in `atomic_path`.
        rights: As in `atomic_path`.

    Raises:
        OutputError: the folder is missing or not writable, or the disk is full.
    """
    with atomic_path(path, durable=durable, rights=rights) as temporary:
        temporary.write_bytes(data)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A temporary folder that becomes `path`, replacing what is there, when the block ends well.

    Its files have reached the disk by then.

    Raises:
        OutputError: the parent is missing or not writable, the disk is full, or `path` is a file.
    """
    if path.is_file():
        raise OutputError(f"{path} is a file; give the name of a folder")
    if path.is_symlink():
        path = path.resolve()  # the link goes on leading to where it led
    temporary = _hidden_beside(path, name=path.name, suffix=".part")
    try:
        with _as_output_error(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.mkdir(mode=0o777 & ~_not_in(path.parent))
            yield temporary
            for file in temporary.iterdir():
                _sync(file)
            _replace_folder(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder for intermediate files, gone when the block ends."""
    with tempfile.TemporaryDirectory(prefix="fcn_trt-") as folder:
        yield Path(folder)


def _replace_folder(temporary: Path, path: Path) -> None:
    """Give a folder its final name, whoever else does the same at this moment: the last one wins.

    A folder cannot be renamed onto a folder that is not empty, so what is there moves away first.
    """
    for _ in range(RENAME_ATTEMPTS):
        old = _hidden_beside(path, name=path.name, suffix=".old")
        with suppress(FileNotFoundError):  # nothing is there, or somebody has just moved it away
            path.replace(old)
        try:
            temporary.replace(path)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                with suppress(OSError):
                    old.replace(path)
                raise
        else:
            return
        finally:
            shutil.rmtree(old, ignore_errors=True)
    raise OSError(errno.EBUSY, "others keep writing it")


def _hidden_beside(path: Path, *, name: str, suffix: str) -> Path:
    """A path in the folder of `path` that nothing has yet."""
    return path.parent / f".{name}-{secrets.token_hex(8)}{suffix}"


def _not_in(folder: Path) -> int:
    """Rights to write that a folder does not give, so that none of its files need them either.

    Whoever may write in a folder can replace its files, and nobody else is to change them: under
    the umask 002 of many systems, files in a private cache would be their group's.
    """
    return (stat.S_IWGRP | stat.S_IWOTH) & ~folder.stat().st_mode


@contextmanager
def _as_output_error(path: Path) -> Iterator[None]:
    """Translate what the operating system says into one sentence about `path`."""
    try:
        yield
    except FcnTrtError:
        raise
    except OSError as error:
        reason = _reason_and_way_out(error, path)
        raise OutputError(f"{path} cannot be written: {reason}") from error


def _sync(path: Path) -> None:
    """Bring a file to the disk before it gets its name, so that a power cut leaves no empty one."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _reason_and_way_out(error: OSError, path: Path) -> str:
    reason = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
        free = f" ({shutil.disk_usage(path.parent).free / 1e6:.0f} MB free there)"
        return f"{reason}{free}; choose another place or make room"
    if isinstance(error, FileNotFoundError):
        return f"{reason}; make its folder, or choose another place"
    if isinstance(error, FileExistsError):
        reason = f"{error.filename} is a file"
    return f"{reason}; choose another place"


class Closing:
    """Closes on the way out; an error in that never hides one that is already on its way."""

    def close(self) -> None:
        """Release what is held; again is harmless."""

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.close()
        except FcnTrtError as failure:
            if error is None:
                raise
            _log.warning("while closing after another error: %s", failure)
