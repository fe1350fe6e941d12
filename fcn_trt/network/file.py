"""An ONNX file of ours, as one step hands it to the next: its bytes, checked once and hashed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from fcn_trt.errors import MissingExtraError, OnnxError
from fcn_trt.files import sha256
from fcn_trt.foreign import printable, read_limited
from fcn_trt.onnx_wire import Survey, survey
from fcn_trt.spec import Spec, parse_spec

if TYPE_CHECKING:
    from fcn_trt.network.reference import Reference

__all__ = [
    "Network",
    "content_sha256",
    "external_path",
    "read_onnx",
    "require_whole",
    "survey_onnx",
    "whole_onnx",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """An ONNX file that carries a spec.

    Attributes:
        path: Where it is.
        spec: What it is.
        sha256: Hash of its bytes with all tensors inside, 64 hex digits.
        is_whole: Whether they are inside in the file itself.
    """

    path: Path
    spec: Spec
    sha256: str
    is_whole: bool = True

    @classmethod
    def read(cls, path: Path) -> Network:
        """Read a file's spec and hash; no onnx is needed for it, unless it was saved anew.

        Raises:
            OnnxError: it cannot be read, is no ONNX model, carries no valid spec, or is larger than
                the limits of `fcn_trt.onnx_wire`.
        """
        data = read_onnx(path)
        spec = parse_spec(data, path)
        whole = _whole(data, path)
        digest = hashlib.sha256(whole).hexdigest()
        return cls(path=path, spec=spec, sha256=digest, is_whole=whole is data)

    def read_bytes(self) -> bytes:
        """The file's bytes, tensors inside, so that what is compiled is what was read and checked.

        Raises:
            OnnxError: it cannot be read, or was written to since.
        """
        data = read_onnx(self.path)
        if hashlib.sha256(data).hexdigest() == self.sha256:
            return data
        data = _whole(data, self.path)
        if hashlib.sha256(data).hexdigest() != self.sha256:
            raise OnnxError(f"{self.path} was written to since it was read; run it again")
        return data

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


def read_onnx(path: Path) -> bytes:
    """All bytes of an ONNX file, not looked at yet.

    Raises:
        OnnxError: it cannot be read, is no regular file, or is larger than `MAX_BYTES`.
    """
    try:
        return read_limited(path)
    except OSError as error:
        raise OnnxError(f"{path} cannot be read: {error.strerror}") from error


def survey_onnx(data: bytes, path: Path) -> Survey:
    """What the bytes of an ONNX file hold, checked.

    Args:
        path: What to call the file in messages.

    Raises:
        OnnxError: they are no ONNX model, or claim more than they carry.
    """
    try:
        return survey(data)
    except ValueError as error:
        raise OnnxError(
            f"{path} cannot be read as ONNX: {error}; fetch or export it again"
        ) from error


def require_whole(data: bytes, path: Path) -> None:
    """Refuse a network whose tensors are in other files, which would not travel with it.

    Raises:
        OnnxError: one of them is, or the bytes are no ONNX model.
    """
    if (external := survey_onnx(data, path).external) != []:
        raise OnnxError(
            f"{path} keeps tensors in another file, {external[0].location!r}, but what travels has "
            "them inside; build it again with `fcn-trt build M.onnx`"
        )


def _whole(data: bytes, path: Path) -> bytes:
    """The bytes of a file, tensors inside where somebody saved it with them in other files."""
    if not survey_onnx(data, path).external:
        return data
    try:
        from fcn_trt.network.load import parse_onnx
    except ImportError as error:
        raise MissingExtraError(
            f"{path} keeps tensors in another file, which only the onnx package can bring inside; "
            "pip install 'fcn-trt[export]'"
        ) from error
    whole: bytes = parse_onnx(data, path).SerializeToString(deterministic=True)
    return whole


def whole_onnx(path: Path) -> bytes:
    """All bytes of any ONNX file, tensors inside, checked.

    Raises:
        OnnxError: it cannot be read, is no ONNX model, or claims more than it carries.
    """
    return _whole(read_onnx(path), path)


def content_sha256(path: Path) -> str:
    """Hashes of any ONNX file and of the files beside it that hold its tensors.

    Returns:
        Its name, which an imported network carries, and the hashes.

    Raises:
        OnnxError: one of the files cannot be read, or leads out of the folder.
    """
    data = read_onnx(path)
    names = sorted({tensor.location for tensor in survey_onnx(data, path).external})
    try:
        digests = [sha256(external_path(path, name)) for name in names]
    except OSError as error:
        raise OnnxError(f"{error.filename} cannot be read: {error.strerror}") from error
    return " ".join([printable(path.name), hashlib.sha256(data).hexdigest(), *digests])


def external_path(path: Path, name: str) -> Path:
    """A file that an ONNX file names, in the same folder or in one below it.

    Raises:
        OnnxError: it leads elsewhere, by its name or by a link.
    """
    folder = path.parent.resolve()
    parts = PurePosixPath(name.replace("\\", "/"))
    try:
        found = (folder / name).resolve()
        is_file = found.is_file() or not found.exists()
    except (OSError, ValueError, RuntimeError):  # a null byte, a name too long, links in a circle
        found, is_file = folder, False
    is_inside = not parts.is_absolute() and ".." not in parts.parts and folder in found.parents
    if not is_inside or not is_file:
        raise OnnxError(
            f"{path} keeps tensors in {name!r}, which is no file in its own folder; save it again "
            "with its tensors inside"
        )
    return found
