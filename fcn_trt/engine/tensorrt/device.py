"""What a build is for: the GPU of this machine, or those that TensorRT-RTX is told."""

from __future__ import annotations

from dataclasses import dataclass

from fcn_trt.engine.options import (
    LEAST_CAPABILITY,
    RTX_CAPABILITIES,
    BuildOptions,
    parse_capability,
    require_capability,
)
from fcn_trt.engine.tensorrt.library import TensorRtTarget
from fcn_trt.errors import EngineError
from fcn_trt.machine import Gpu, this_machine
from fcn_trt.spec import Precision

__all__ = ["Device", "find_device"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """What is compiled for.

    Attributes:
        name: For people.
        compute_capabilities: Of the GPUs, such as ("8.7",).
        gpu: The one here; None where TensorRT-RTX compiles for GPUs elsewhere.
    """

    name: str
    compute_capabilities: tuple[str, ...]
    gpu: Gpu | None


def find_device(target: TensorRtTarget, precision: Precision, options: BuildOptions) -> Device:
    """Decide what to compile for.

    Raises:
        EngineError: there is no GPU that the library needs, it is another one than was asked for,
            or it does not have the precision.
    """
    asked = options.compute_capabilities
    if target == "tensorrt-rtx":
        chosen = asked or _rtx_capabilities(precision)
        _require_precision(precision, chosen)
        name = f"any RTX GPU of compute capability {', '.join(chosen)}"
        return Device(name=name, compute_capabilities=chosen, gpu=None)
    _require_precision(precision, asked)
    machine = this_machine()
    gpu = machine.gpu
    if gpu is None:
        raise EngineError(
            "TensorRT compiles on the GPU that the engine is for, and this machine has none "
            f"({machine.gpu_problem}); build it on that device, or for tensorrt-rtx or openvino"
        )
    if asked and set(asked) != {gpu.compute_capability}:
        raise EngineError(
            f"an engine for compute capability {', '.join(asked)} was asked for, but the "
            f"{gpu.name} here has {gpu.compute_capability}, and TensorRT compiles only for the GPU "
            "it runs on; build it on that device"
        )
    _require_precision(precision, (gpu.compute_capability,))
    return Device(name=gpu.name, compute_capabilities=(gpu.compute_capability,), gpu=gpu)


def _require_precision(precision: Precision, capabilities: tuple[str, ...]) -> None:
    """Refuse GPUs that lack the network's type.

    Raises:
        EngineError: one does.
    """
    try:
        for capability in capabilities:
            require_capability(precision, capability)
    except ValueError as error:
        raise EngineError(str(error)) from error


def _rtx_capabilities(precision: Precision) -> tuple[str, ...]:
    """All that TensorRT-RTX knows and that have the network's type."""
    least = LEAST_CAPABILITY.get(precision, RTX_CAPABILITIES[0])
    return tuple(c for c in RTX_CAPABILITIES if parse_capability(c) >= parse_capability(least))
