"""manifest.json: what a bundle is, in a form that is checked before anything else is read.

Format 4 is one JSON object in UTF-8 with exactly the keys of `Manifest` and `sha256`, the hash of
the others. A reader refuses: another format number, another hash, a missing or an extra key, a
value of another type, a file name that is not a plain name, and a file whose size or SHA-256
differs from its record.
"""

from __future__ import annotations

import datetime as dt
import errno
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from pydantic import ConfigDict, ValidationError

from fcn_trt.engine.options import BuildOptions
from fcn_trt.errors import BundleError
from fcn_trt.files import sha256
from fcn_trt.foreign import parse_json, quoted, read_limited, require_regular
from fcn_trt.spec import Check, Precision, Spec
from fcn_trt.type_adapter import type_adapter

__all__ = [
    "FORMAT",
    "MANIFEST_NAME",
    "TARGET_MODULES",
    "TARGET_NAMES",
    "FileRecord",
    "Manifest",
    "Proof",
    "Target",
    "check_files",
    "read_checked",
    "read_manifest",
]

Target: TypeAlias = Literal["openvino", "tensorrt", "tensorrt-rtx"]

TARGET_MODULES: dict[Target, str] = {
    "openvino": "openvino",
    "tensorrt": "tensorrt",
    "tensorrt-rtx": "tensorrt_rtx",
}
"""The Python module of each target's library."""

TARGET_NAMES: dict[Target, str] = {
    "openvino": "OpenVINO",
    "tensorrt": "TensorRT",
    "tensorrt-rtx": "TensorRT-RTX",
}
"""What each target's library is called."""

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")

FORMAT = 4
MANIFEST_NAME = "manifest.json"
DIGEST = "sha256"
MAX_BYTES = 1 << 20
"""Of a manifest; that of a bundle has 10 kB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRecord:
    """Size and SHA-256 of one file of the bundle."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    size_bytes: int
    sha256: str

    def __post_init__(self) -> None:
        if self.size_bytes < 0:
            raise ValueError(f"a file of {self.size_bytes} bytes cannot be")

    @classmethod
    def of(cls, path: Path) -> FileRecord:
        """The record of a file as it is now."""
        return cls(size_bytes=path.stat().st_size, sha256=sha256(path))


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What the convolutions of an engine compute in.

    Attributes:
        source: "engine" where the compiled engine itself was asked; "network" where only the typed
            network could be, because no GPU was there to load the engine.
        convolutions: How many, by type.
        gmac: 1e9 multiply-accumulates of one inference, by type.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)

    source: Literal["engine", "network"]
    convolutions: dict[str, int]
    gmac: dict[str, float]

    def __post_init__(self) -> None:
        if self.gmac.keys() != self.convolutions.keys():
            raise ValueError("convolutions and gmac are not of the same types")

    def describe(self) -> str:
        """In words, such as "54 fp16 (99.8 % of GMAC), 1 fp32 (0.2 %)"."""
        total = sum(self.gmac.values())
        parts: list[str] = []
        for name, count in self.convolutions.items():
            share = f"{100 * self.gmac[name] / total:.1f} %" if total else "-"
            parts.append(f"{count} {name} ({share}{'' if parts else ' of GMAC'})")
        return ", ".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Everything that loading a bundle has to know, and everything that it has to check.

    Attributes:
        format: Version of this layout.
        created: When it was built, ISO 8601 in UTC.
        built_by: This package and its version.
        spec: The network.
        target: What compiles and runs the engine.
        target_version: Version of that library at build time.
        device: The processor that it was built on and for; for tensorrt-rtx, which needs no GPU to
            build, the GPUs that it was built for.
        compute_capabilities: Of the GPUs it was built for, such as ("8.7",); empty for the CPU.
        options: What the builder was allowed and asked to do.
        precision_asked: Type that the typed ONNX prescribes for convolutions.
        precision_proven: What convolutions compute in, and how that is known.
        scratch_bytes: Device memory of one execution context, or None where it is not known.
        calibration_sha256: Of the calibration cache, or None.
        inputs_sha256: Of everything that a recipe made it from, or "" without a recipe.
        files: Record of each file beside the manifest, by plain name.
        kernels_sha256: Of the sources of the compiled kernels, or "" where it carries none.
        checks: How far the engine labels as the network's source does: when it was built, and where
            it could not run there, when it was first loaded. Those of the steps before stand in the
            spec.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    format: int
    created: str
    built_by: str
    spec: Spec
    target: Target
    target_version: str
    device: str
    compute_capabilities: tuple[str, ...]
    options: BuildOptions
    precision_asked: Precision
    precision_proven: Proof
    scratch_bytes: int | None
    calibration_sha256: str | None
    inputs_sha256: str
    files: dict[str, FileRecord]
    kernels_sha256: str
    checks: tuple[Check, ...]

    def __post_init__(self) -> None:
        if _instant(self.created) is None:
            raise ValueError(f"created {quoted(self.created)} is no instant of ISO 8601")
        for name in self.files:
            if name == MANIFEST_NAME or not _PLAIN_NAME.fullmatch(name):
                raise ValueError(f"file name {name!r} is not a plain name")

    @property
    def chain(self) -> tuple[Check, ...]:
        """How far each step labels as the network's source does, in order."""
        return (*self.spec.checks, *self.checks)

    @property
    def is_pending(self) -> bool:
        """Whether the engine has still to be held against the network's source."""
        return bool(self.checks) and self.checks[-1].state == "pending"

    def to_json(self) -> str:
        """The manifest as it stands on disk."""
        plain: dict[str, Any] = type_adapter(Manifest).dump_python(self, mode="json")
        return json.dumps(plain | {DIGEST: _digest(plain)}, indent=2, ensure_ascii=False) + "\n"


def _instant(text: str) -> dt.datetime | None:
    """A point in time, which a date without its zone is not."""
    try:
        found = dt.datetime.fromisoformat(text)
    except ValueError:
        return None
    return None if found.tzinfo is None else found


def _digest(content: dict[str, Any]) -> str:
    """SHA-256 of a manifest's content, whatever its spacing and order."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def read_manifest(bundle: Path) -> Manifest:
    """Read a bundle's manifest; its files are not looked at.

    Raises:
        BundleError: there is none, or it is not exactly of this format.
    """
    path = bundle / MANIFEST_NAME
    try:
        data = read_limited(_inside(bundle, MANIFEST_NAME), MAX_BYTES)
    except OSError as error:
        raise BundleError(
            f"{bundle} is no bundle: {MANIFEST_NAME} cannot be read ({error.strerror}); build one "
            "with `fcn-trt build M.onnx --out BUNDLE`"
        ) from error
    content = _checked_content(path, data)
    try:
        # From JSON and not from Python values, whose lists would not do as tuples.
        return type_adapter(Manifest).validate_json(json.dumps(content), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BundleError(
            f"{path} is not valid at {where}: {first['msg']}; build the bundle again"
        ) from error


def _checked_content(path: Path, data: bytes) -> dict[str, Any]:
    """The manifest without its hash, once the format and the hash are right."""
    try:
        content = parse_json(data)
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise BundleError(f"{path} is damaged: it is no JSON object; build the bundle again")
    if content.get("format") != FORMAT:
        raise BundleError(
            f"{path} has format {quoted(content.get('format'))}, but this version reads format "
            f"{FORMAT}; build the bundle again with this version"
        )
    if content.pop(DIGEST, None) != _digest(content):
        raise BundleError(
            f"{path} was altered: its content does not have the SHA-256 that it states; copy or "
            "build the bundle again"
        )
    return content


def check_files(bundle: Path, manifest: Manifest) -> None:
    """Check every file of a bundle against its record, all sizes before any content.

    Raises:
        BundleError: a file is missing, is no regular one, leads out of the bundle, or is not the
            one that was built.
    """
    for name, record in manifest.files.items():
        with _unreadable(bundle / name):
            size = require_regular(_inside(bundle, name)).st_size
        if size != record.size_bytes:
            raise _altered(bundle / name, f"{size} bytes", f"{record.size_bytes} bytes")
    for name, record in manifest.files.items():
        with _unreadable(bundle / name):
            _require_hash(bundle / name, sha256(bundle / name), record)


def read_checked(bundle: Path, name: str, record: FileRecord) -> bytes:
    """The bytes of a bundle's file, read once, which are those that were built.

    Raises:
        BundleError: they are not, or as `check_files` says.
    """
    path = bundle / name
    with _unreadable(path):
        data = read_limited(_inside(bundle, name))
    _require_hash(path, hashlib.sha256(data).hexdigest(), record)
    return data


def _require_hash(path: Path, found: str, record: FileRecord) -> None:
    if found != record.sha256:
        raise _altered(path, f"SHA-256 {found[:12]}...", f"{record.sha256[:12]}...")


def _altered(path: Path, found: str, expected: str) -> BundleError:
    return BundleError(
        f"{path} was altered: it has {found}, but the manifest says {expected}; copy or build the "
        "bundle again"
    )


@contextmanager
def _unreadable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BundleError(
            f"{path} cannot be read ({error.strerror}); build the bundle again"
        ) from error


def _inside(bundle: Path, name: str) -> Path:
    """A file of a bundle, which may be a link, but not to what does not travel with the bundle.

    Raises:
        OSError: it leads out of the folder, or in a circle.
    """
    path = bundle / name
    try:
        is_inside = path.resolve().parent == bundle.resolve()
    except RuntimeError:  # links in a circle, before Python 3.13
        is_inside = False
    if not is_inside:
        raise OSError(errno.ELOOP, "it is a link that leads out of the bundle", str(path))
    return path
