"""Networks that the steps of a recipe leave behind, in the user's cache.

`KEY.onnx` is a network and `KEY.json` beside it says what it was made from and what its SHA-256 is;
KEY is the hash of all that it was made from. The record is written last, so that a network without
one is unfinished, and one that no longer has its SHA-256 is damaged: both are made again.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs
from pydantic import ConfigDict, TypeAdapter, ValidationError

from fcn_trt.errors import OutputError
from fcn_trt.files import sha256, write_atomic

__all__ = ["LIMIT_BYTES", "NetworkCache"]

LIMIT_BYTES = 4 << 30
"""Beyond this the networks go that were not used for longest. An ONNX file has 2 GiB at most, so
that the network that is read and the one that is written always stay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Record:
    """What stands in KEY.json; `sha256` is "" where there is no network."""

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)

    sha256: str
    inputs: dict[str, Any]


@dataclass(frozen=True, slots=True)
class NetworkCache:
    """A folder of networks.

    Attributes:
        folder: Where they are.
    """

    folder: Path

    @classmethod
    def of_user(cls) -> NetworkCache:
        """The one in the user's cache, whose folder need not be there to be read from."""
        return cls(platformdirs.user_cache_path("fcn_trt") / "networks")

    def make_folder(self) -> None:
        """Make the folder, before the long work whose results go there.

        Raises:
            OutputError: it cannot be made.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"{self.folder} cannot be made: {error.strerror}; set XDG_CACHE_HOME to a folder "
                "that can be written"
            ) from error

    def path(self, key: str) -> Path:
        """Where the network of a key is, or is to be written."""
        return self.folder / f"{key}.onnx"

    def find(self, key: str) -> Path | None:
        """The network of a key; None where there is none, or a damaged one."""
        path, record = self.path(key), self._record(key)
        try:
            if record is None or sha256(path) != record.sha256:
                return None
        except OSError:
            return None
        with suppress(OSError):  # a cache that can only be read is still read
            for file in (path, self._record_path(key)):
                file.touch()
        return path

    def inputs(self, key: str) -> dict[str, Any] | None:
        """What the result of a key was made from, by name; None where that is not known."""
        record = self._record(key)
        return None if record is None else record.inputs

    def keep(self, key: str, inputs: dict[str, Any]) -> None:
        """Record what a result was made from, and the network that was written for it, if any.

        Raises:
            OutputError: the record cannot be written.
        """
        path = self.path(key)
        content = {"sha256": sha256(path) if path.is_file() else "", "inputs": inputs}
        write_atomic(self._record_path(key), json.dumps(content, indent=1).encode())
        self._forget_oldest()

    def _record_path(self, key: str) -> Path:
        return self.folder / f"{key}.json"

    def _record(self, key: str) -> _Record | None:
        try:
            return TypeAdapter(_Record).validate_json(self._record_path(key).read_bytes())
        except (OSError, ValidationError):
            return None

    def _forget_oldest(self) -> None:
        """Delete what goes beyond the limit, what killed processes left behind included."""
        total = 0
        for _, size, path in sorted(self._files(), reverse=True):
            total += size
            if total > LIMIT_BYTES:
                with suppress(OSError):  # another process was faster
                    path.unlink()

    def _files(self) -> list[tuple[float, int, Path]]:
        """When each file was used, its bytes, and where it is."""
        found = []
        for path in self.folder.iterdir():
            with suppress(OSError):
                status = path.stat()
                found.append((status.st_mtime, status.st_size, path))
        return found
