"""An ONNX file of ours, as one step hands it to the next: read once, hashed once."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fcn_trt.errors import OnnxError
from fcn_trt.files import sha256
from fcn_trt.foreign import printable
from fcn_trt.spec import Spec, parse_spec

if TYPE_CHECKING:
    from fcn_trt.network.reference import Reference

__all__ = ["Network", "content_sha256"]

_EXTERNAL = re.compile(rb"\x0a\x08location\x12([\x80-\xff]?[\x00-\x7f])", re.DOTALL)
"""StringStringEntryProto of key "location", and the length of its value (onnx.proto3,
TensorProto.external_data): the file that holds a tensor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """An ONNX file that carries a spec.

    Attributes:
        path: Where it is.
        spec: What it is.
        sha256: Hash of its bytes, 64 hex digits.
    """

    path: Path
    spec: Spec
    sha256: str

    @classmethod
    def read(cls, path: Path) -> Network:
        """Read a file's spec and hash; no onnx is needed for it.

        Raises:
            OnnxError: it cannot be read, is no ONNX model, carries no valid spec, or keeps tensors
                in other files, which would not travel with it.
        """
        data = _read(path)
        if (name := next(_external_files(data), None)) is not None:
            raise OnnxError(
                f"{path} keeps tensors in another file, {name!r}; import it with `fcn-trt export "
                f"{path} --size HxW --out M.onnx`"
            )
        return cls(path=path, spec=parse_spec(data, path), sha256=hashlib.sha256(data).hexdigest())

    def read_bytes(self) -> bytes:
        """The file's bytes; a builder reads them once, so that what is compiled is what travels.

        Raises:
            OnnxError: it cannot be read.
        """
        return _read(self.path)

    def reference(self) -> Reference | None:
        """What its source labels some frames as; None where it carries none.

        Raises:
            OnnxError: it cannot be read, or is damaged.
        """
        from fcn_trt.network.reference import read_reference  # here, as most read no pictures

        return read_reference(self.read_bytes(), str(self))

    def __str__(self) -> str:
        """Its path, for messages."""
        return str(self.path)


def content_sha256(path: Path) -> str:
    """Hashes of any ONNX file and of the files beside it that hold its large tensors.

    Returns:
        Its name, which an imported network carries, and the hashes.

    Raises:
        OnnxError: one of the files cannot be read, or leads out of the folder.
    """
    data = _read(path)
    names = sorted(set(_external_files(data)))
    try:
        digests = [sha256(_beside(path, name)) for name in names]
    except OSError as error:
        raise OnnxError(f"{error.filename} cannot be read: {error.strerror}") from error
    return " ".join([printable(path.name), hashlib.sha256(data).hexdigest(), *digests])


def _beside(path: Path, name: str) -> Path:
    """A file that an ONNX file names, which must not lead out of its folder, nor to a device."""
    folder = path.parent.resolve()
    try:
        found = (folder / name).resolve()
    except (ValueError, RuntimeError):  # a null byte, or links in a circle
        found = folder
    if folder not in found.parents or (found.exists() and not found.is_file()):
        raise OnnxError(
            f"{path} keeps tensors in {name!r}, which is no file in its own folder; save it again "
            "with its tensors inside"
        )
    return found


def _external_files(model: bytes) -> Iterator[str]:
    """Names of the files beside an ONNX file that hold its tensors."""
    for found in _EXTERNAL.finditer(model):
        low, *high = found[1]
        length = low if not high else (low & 0x7F) | high[0] << 7
        yield model[found.end() : found.end() + length].decode(errors="replace")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise OnnxError(f"{path} cannot be read: {error.strerror}") from error
