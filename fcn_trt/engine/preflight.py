"""Whether this machine can run a bundle, said before anything touches its GPU's memory.

A TensorRT plan runs on the kind of GPU and the release that it was built with, unless it was built
to be compatible. The library itself finds out only while it loads the plan.
"""

from __future__ import annotations

from fcn_trt.engine.bundle import Bundle
from fcn_trt.errors import BundleError
from fcn_trt.machine import Machine, this_machine
from fcn_trt.manifest import Manifest
from fcn_trt.options import parse_capability

__all__ = ["obstacle", "require_runs_here"]

_MODULES = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
_NAMES = {"tensorrt": "TensorRT", "tensorrt-rtx": "TensorRT-RTX"}


def require_runs_here(bundle: Bundle, machine: Machine | None = None) -> None:
    """Refuse a bundle that this machine cannot run.

    Args:
        bundle: Its files were checked when it was loaded.
        machine: None looks at this one.

    Raises:
        BundleError: it was built for another GPU or release; the command that rebuilds is named.
    """
    reason = obstacle(bundle, machine)
    if reason:
        raise BundleError(f"{bundle.path} cannot run here: {reason}")


def obstacle(bundle: Bundle, machine: Machine | None = None) -> str:
    """Why this machine cannot run a bundle, and what helps; "" if it can.

    Args:
        bundle: Its files were checked when it was loaded.
        machine: None looks at this one.
    """
    manifest = bundle.manifest
    if manifest.target == "openvino":
        return _openvino_obstacle(manifest)
    machine = machine or this_machine()
    name = _NAMES[manifest.target]
    version = machine.libraries.get(_MODULES[manifest.target])
    again = (
        f"run `fcn-trt build {bundle.path}/network.onnx --target {manifest.target} "
        f"--out {bundle.path}`, or add --rebuild"
    )
    built = f"built for {_devices(manifest)} with {name} {manifest.target_version}"
    if machine.gpu is None:
        return f"{built}, this machine has no GPU ({machine.gpu_problem}); run it on one that has"
    if version is None:
        return f"{built}, this machine has no {name}; `fcn-trt doctor` says how to install it"
    capability = machine.gpu.compute_capability
    if _runs_on(manifest, capability) and _runs_with(manifest, version):
        return ""
    return f"{built}, this machine has {_sm(capability)} with {version}: {again}"


def _openvino_obstacle(manifest: Manifest) -> str:
    from fcn_trt.engine.openvino import computes, cpu_name

    precision = manifest.spec.precision
    if computes(precision):
        return ""
    return f"it is {precision}, which this CPU ({cpu_name()}) does not compute; build it as fp32"


def _devices(manifest: Manifest) -> str:
    return ", ".join(_sm(text) for text in manifest.compute_capabilities)


def _sm(capability: str) -> str:
    return f"sm_{capability.replace('.', '')}"


def _runs_on(manifest: Manifest, capability: str) -> bool:
    """Whether a GPU is one of those it was built for, or one that it was made compatible with."""
    if capability in manifest.compute_capabilities:
        return True
    return manifest.options.hardware_compatibility == "ampere_plus" and parse_capability(
        capability
    ) >= (8, 0)


def _runs_with(manifest: Manifest, version: str) -> bool:
    """Whether an installed release loads the plan.

    What both sides state is compared: a Jetson's package says 10.3.0 where pip says 10.3.0.26.
    """
    built, here = (_numbers(text) for text in (manifest.target_version, version))
    length = min(len(built), len(here))
    if manifest.options.version_compatible and built[0] == here[0]:
        return here[:length] >= built[:length]
    return here[:length] == built[:length]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdecimal())
