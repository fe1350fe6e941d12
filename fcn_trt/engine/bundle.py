"""The folder an engine travels in, written whole and checked before use."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

from fcn_trt.engine.manifest import (
    FORMAT,
    MANIFEST_NAME,
    FileRecord,
    Manifest,
    Proof,
    Target,
    check_files,
    read_checked,
    read_manifest,
)
from fcn_trt.engine.options import BuildOptions, parse_capability
from fcn_trt.errors import BundleError, OnnxError
from fcn_trt.files import atomic_folder, write_atomic
from fcn_trt.network.file import Network, require_whole
from fcn_trt.spec import Check
from fcn_trt.version import __version__

__all__ = [
    "KERNEL_FILE",
    "LAYERS_NAME",
    "NETWORK_NAME",
    "PLAN_NAME",
    "Bundle",
    "CheckBundle",
    "Compiled",
    "add_check",
    "load_bundle",
    "refuse_foreign_files",
    "write_bundle",
]

NETWORK_NAME = "network.onnx"
PLAN_NAME = "engine.plan"
LAYERS_NAME = "layers.json"

KERNEL_FILE = re.compile(r"([a-z]+)-([0-9]+\.[0-9]+)\.cubin")
"""A compiled kernel: its name and the compute capability that it is for."""

_JETSONS = {(8, 7), (11, 0)}
"""Compute capabilities of Orin and Thor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A bundle on disk whose files are those that were built.

    Attributes:
        path: Its folder.
        manifest: What it is.
    """

    path: Path
    manifest: Manifest

    @property
    def network(self) -> Network:
        """The typed ONNX file inside.

        Raises:
            BundleError: the manifest records none, so that what lies there was not checked.
        """
        record = self._record(NETWORK_NAME)
        return Network(path=self.path / NETWORK_NAME, spec=self.manifest.spec, sha256=record.sha256)

    def read(self, name: str) -> bytes:
        """The bytes of one of its files, which are those that were built, whoever writes there.

        Args:
            name: Such as `PLAN_NAME`.

        Raises:
            BundleError: the manifest records none of that name, or it was altered.
        """
        return read_checked(self.path, name, self._record(name))

    @property
    def plan_sha256(self) -> str:
        """SHA-256 of the engine that TensorRT serialised; a CPU bundle has none.

        Raises:
            BundleError: the manifest records none.
        """
        return self._record(PLAN_NAME).sha256

    def kernels(self, compute_capability: str) -> dict[str, bytes]:
        """The compiled kernels that a GPU runs, by file name, such as "decode.cubin".

        Args:
            compute_capability: Of the GPU, such as "8.7".

        Raises:
            BundleError: it carries none for that GPU, or one was altered.
        """
        names = self._kernel_names(compute_capability)
        if not names:
            raise BundleError(
                f"{self.path} carries no kernels for compute capability {compute_capability}; "
                "build the bundle again for this GPU"
            )
        return {kernel: self.read(name) for kernel, name in names.items()}

    def has_kernels(self, compute_capability: str) -> bool:
        """Whether it carries kernels that a GPU runs."""
        return bool(self._kernel_names(compute_capability))

    def _kernel_names(self, compute_capability: str) -> dict[str, str]:
        """File names by kernel, of those compiled for the GPU, or else for an earlier one.

        A cubin also runs on later GPUs of the same major compute capability, but a Jetson's and
        others do not run each other's (CUDA C++ Programming Guide, "Binary Compatibility").
        """
        files = {
            name: match for name in self.manifest.files if (match := KERNEL_FILE.fullmatch(name))
        }
        built = {name: parse_capability(match[2]) for name, match in files.items()}
        here = parse_capability(compute_capability)
        fitting = [
            made
            for made in built.values()
            if made == here or ((here[0], 0) <= made < here and not {made, here} & _JETSONS)
        ]
        return {
            f"{files[name][1]}.cubin": name
            for name, made in built.items()
            if fitting and made == max(fitting)
        }

    def _record(self, name: str) -> FileRecord:
        if name not in self.manifest.files:
            raise BundleError(f"{self.path} carries no {name}; build the bundle again")
        return self.manifest.files[name]


CheckBundle: TypeAlias = Callable[[Bundle], tuple[Check, ...]]
"""Runs a bundle that has no name yet, and says how far it labels as the network's source does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """What a builder found out while it compiled.

    Attributes:
        target: Which builder.
        target_version: Its version.
        device: The processor.
        compute_capabilities: Of the GPUs; empty for the CPU.
        precision_proven: What convolutions compute in, and how that is known.
        scratch_bytes: Device memory of one execution context, or None where it is not known.
        plan: The serialised engine, or None where the network is compiled when it is loaded.
        layers: The engine's own report of its layers as JSON, where it could be asked.
        kernels: Compiled device kernels by compute capability, then by file name.
        kernels_sha256: Of their sources.
    """

    target: Target
    target_version: str
    device: str
    compute_capabilities: tuple[str, ...]
    precision_proven: Proof
    scratch_bytes: int | None
    plan: bytes | None
    layers: str | None = None
    kernels: Mapping[str, Mapping[str, bytes]] = field(default_factory=dict)
    kernels_sha256: str = ""


def write_bundle(
    path: Path,
    *,
    network: Network,
    data: bytes,
    compiled: Compiled,
    options: BuildOptions,
    inputs_sha256: str = "",
    check: CheckBundle = lambda _: (),
) -> Bundle:
    """Write a bundle whole, replacing one of that name.

    Args:
        path: The bundle's folder; what is there is replaced, if it holds nothing but the files of
            a bundle.
        data: Its bytes, those that were compiled.
        inputs_sha256: Of everything that a recipe made the bundle from.
        check: Called with the bundle before it has its name, for what the manifest says of how it
            labels; where it raises, no bundle is left.

    Raises:
        OutputError: the folder cannot be written.
        BundleError: there is a folder of that name with other files.
        OnnxError: the network keeps tensors in other files.
    """
    refuse_foreign_files(path)
    require_whole(data, network.path)
    with atomic_folder(path) as folder:
        (folder / NETWORK_NAME).write_bytes(data)
        if compiled.plan is not None:
            (folder / PLAN_NAME).write_bytes(compiled.plan)
        if compiled.layers is not None:
            (folder / LAYERS_NAME).write_text(compiled.layers, encoding="utf-8")
        for capability, kernels in compiled.kernels.items():
            for name, cubin in kernels.items():
                (folder / f"{Path(name).stem}-{capability}.cubin").write_bytes(cubin)
        manifest = Manifest(
            format=FORMAT,
            created=dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
            built_by=f"fcn_trt {__version__}",
            spec=network.spec,
            target=compiled.target,
            target_version=compiled.target_version,
            device=compiled.device,
            compute_capabilities=compiled.compute_capabilities,
            options=options,
            precision_asked=network.spec.precision,
            precision_proven=compiled.precision_proven,
            scratch_bytes=compiled.scratch_bytes,
            calibration_sha256=network.spec.calibration_sha256 or None,
            inputs_sha256=inputs_sha256,
            kernels_sha256=compiled.kernels_sha256,
            checks=(),
            files={
                file.name: FileRecord(size_bytes=len(data), sha256=network.sha256)
                if file.name == NETWORK_NAME
                else FileRecord.of(file)
                for file in sorted(folder.iterdir())
            },
        )
        _write_manifest(folder, manifest)
        if checks := check(Bundle(path=folder, manifest=manifest)):
            manifest = replace(manifest, checks=checks)
            _write_manifest(folder, manifest)
    return Bundle(path=path, manifest=manifest)


def _write_manifest(folder: Path, manifest: Manifest) -> None:
    (folder / MANIFEST_NAME).write_text(manifest.to_json(), encoding="utf-8")


def add_check(bundle: Bundle, found: Check) -> Bundle:
    """Add to a bundle's manifest what was found out when it was first loaded.

    A bundle that was replaced meanwhile is left as it is.

    Raises:
        OutputError: it cannot be written.
        BundleError: it is gone.
    """
    if read_manifest(bundle.path) != bundle.manifest:
        return bundle
    manifest = replace(bundle.manifest, checks=(*bundle.manifest.checks, found))
    write_atomic(bundle.path / MANIFEST_NAME, manifest.to_json().encode())
    return replace(bundle, manifest=manifest)


def refuse_foreign_files(path: Path) -> None:
    """Check that a folder can be replaced whole: it must hold nothing but a bundle's files.

    Raises:
        BundleError: somebody else put something there.
    """
    foreign = [
        entry.name
        for entry in (path.iterdir() if path.is_dir() else ())
        if entry.name not in (MANIFEST_NAME, NETWORK_NAME, PLAN_NAME, LAYERS_NAME)
        and not KERNEL_FILE.fullmatch(entry.name)
    ]
    if foreign:
        raise BundleError(
            f"{path} holds files that are no bundle's, such as {foreign[0]}; give another --out, "
            "or empty it first"
        )


def load_bundle(path: Path) -> Bundle:
    """Read a bundle and check each of its files.

    Raises:
        BundleError: it is none, of another format, incomplete or altered, or its network is not
            all inside.
    """
    manifest = read_manifest(path)
    check_files(path, manifest)
    bundle = Bundle(path=path, manifest=manifest)
    if NETWORK_NAME in manifest.files:
        try:
            require_whole(bundle.network.read_bytes(), path / NETWORK_NAME)
        except OnnxError as error:
            raise BundleError(str(error)) from error
    return bundle
