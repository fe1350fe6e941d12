"""Whether this machine can run a bundle, said before anything touches its GPU's memory.

A TensorRT plan runs on the kind of GPU and the release that it was built with, unless it was built
to be compatible. The library itself finds out only while it loads the plan.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from itertools import takewhile

from fcn_trt.cuda.nvrtc import kernel_sources_sha256
from fcn_trt.engine.bundle import Bundle
from fcn_trt.engine.manifest import TARGET_MODULES, TARGET_NAMES, Manifest
from fcn_trt.engine.options import (
    RTX_CAPABILITIES,
    SUPPORTED_TENSORRT,
    BuildOptions,
    is_supported_tensorrt,
    parse_capability,
    require_capability,
)
from fcn_trt.errors import BundleError
from fcn_trt.machine import Machine, this_machine

__all__ = ["Obstacle", "obstacle", "require_runs_here"]

_FLAGS = {
    "--workspace": "workspace_bytes",
    "--tactic-memory": "tactic_bytes",
    "--optimization-level": "optimization_level",
    "--version-compatible": "version_compatible",
    "--hardware-compatibility": "hardware_compatibility",
    "--strip": "strip",
}
"""Options of `fcn-trt build` by attribute of `BuildOptions`, but for the GPUs to compile for."""


_RUNNING = {"PyCUDA": "pycuda", "cuda-bindings": "cuda-bindings"}
"""What the GPU backend needs beside the target's library, by its name for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Obstacle:
    """Why this machine cannot run a bundle.

    Attributes:
        reason: Both sides, and what helps.
        is_cured_by_rebuild: Whether building it again here, from its own ONNX, is what helps.
    """

    reason: str
    is_cured_by_rebuild: bool = False


def require_runs_here(bundle: Bundle, machine: Machine | None = None) -> None:
    """Refuse a bundle that this machine cannot run, as `obstacle` finds out.

    Raises:
        BundleError: it was built for another GPU or release, and where that helps the command that
            rebuilds is named.
    """
    found = obstacle(bundle, machine)
    if found is not None:
        raise BundleError(f"{bundle.path} cannot run here: {found.reason}")


def obstacle(bundle: Bundle, machine: Machine | None = None) -> Obstacle | None:
    """What keeps this machine from running a bundle, if anything does.

    Args:
        bundle: Its files were checked when it was loaded.
        machine: None looks at this one.
    """
    manifest = bundle.manifest
    if manifest.target == "openvino":
        return _openvino_obstacle(manifest)
    machine = machine or this_machine()
    name = TARGET_NAMES[manifest.target]
    version = machine.libraries.get(TARGET_MODULES[manifest.target])
    devices = ", ".join(map(_sm, manifest.compute_capabilities))
    built = f"built for {devices} with {name} {manifest.target_version}"
    if machine.gpu is None:
        here = f"this machine has no GPU ({machine.gpu_problem}); run it on one that has"
        return Obstacle(reason=f"{built}, {here}")
    if version is None:
        here = f"this machine has no {name}; `fcn-trt doctor` says how to install it"
        return Obstacle(reason=f"{built}, {here}")
    capability = machine.gpu.compute_capability
    here = f"this machine has {_sm(capability)} with {version}"
    if _runs_on(manifest, capability) and _runs_with(manifest, version):
        lacks = [name for name, library in _RUNNING.items() if library not in machine.libraries]
        if lacks:
            reason = f"running on a GPU needs {' and '.join(lacks)}; pip install 'fcn-trt[cuda]'"
            return Obstacle(reason=reason)
        if not bundle.has_kernels(capability):
            built = f"it carries no kernels for {_sm(capability)}"
        elif manifest.kernels_sha256 != kernel_sources_sha256():
            built = f"its kernels are those of another release ({manifest.built_by})"
        else:
            return None
    hopeless = _why_no_rebuild(manifest, capability, version)
    if hopeless is not None:
        return Obstacle(reason=f"{built}, {here}{hopeless}")
    again = f"run `{_build_command(bundle)}`, or add --rebuild"
    return Obstacle(reason=f"{built}, {here}: {again}", is_cured_by_rebuild=True)


def _why_no_rebuild(manifest: Manifest, capability: str, version: str) -> str | None:
    """Why building it again here fails as well, to be put after what this machine has."""
    if manifest.target == "tensorrt-rtx" and capability not in RTX_CAPABILITIES:
        return (
            f", but TensorRT-RTX is for compute capability {', '.join(RTX_CAPABILITIES)} only; run "
            "it on such a GPU"
        )
    if manifest.target == "tensorrt" and not is_supported_tensorrt(version):
        return f", but only {SUPPORTED_TENSORRT} are supported; `fcn-trt doctor` says what helps"
    try:
        require_capability(manifest.spec.precision, capability)
    except ValueError:
        return f", which does not compute {manifest.spec.precision}; build it as fp16"
    return None


def _build_command(bundle: Bundle) -> str:
    """What builds a bundle again with its own limits, but for this machine's GPU."""
    words = ["fcn-trt", "build", f"{bundle.path}/network.onnx"]
    words += ["--target", bundle.manifest.target, "--out", str(bundle.path)]
    return shlex.join(words + _limits(bundle.manifest.options))


def _limits(options: BuildOptions) -> list[str]:
    """The options of `fcn-trt build` for limits that are not the default ones."""
    words: list[str] = []
    default = BuildOptions()
    for flag, name in _FLAGS.items():
        value = getattr(options, name)
        if value != getattr(default, name):
            words += [flag] if value is True else [flag, str(value)]
    return words


def _openvino_obstacle(manifest: Manifest) -> Obstacle | None:
    from fcn_trt.engine.openvino.builder import computes, cpu_name

    precision = manifest.spec.precision
    if computes(precision):
        return None
    reason = f"it is {precision}, which this CPU ({cpu_name()}) does not compute; build it as fp32"
    return Obstacle(reason=reason)


def _sm(capability: str) -> str:
    return f"sm_{capability.replace('.', '')}"


def _runs_on(manifest: Manifest, capability: str) -> bool:
    """Whether a GPU is one of those it was built for, or one that it was made compatible with."""
    is_ampere_plus = manifest.options.hardware_compatibility == "ampere_plus"
    return capability in manifest.compute_capabilities or (
        is_ampere_plus and parse_capability(capability) >= (8, 0)
    )


def _runs_with(manifest: Manifest, version: str) -> bool:
    """Whether an installed release loads the plan.

    What both sides state is compared: a Jetson's package says 10.3.0 where pip says 10.3.0.26.
    """
    built, here = (_numbers(text) for text in (manifest.target_version, version))
    length = min(len(built), len(here))
    if manifest.options.version_compatible and built[:1] == here[:1]:
        return here[:length] >= built[:length]
    return here[:length] == built[:length]


def _numbers(version: str) -> tuple[int, ...]:
    """The parts before the first that is no number: 10.3.0 of Debian's 10.3.0.30-1+cuda12.5."""
    return tuple(int(part) for part in takewhile(str.isdecimal, version.split(".")))
