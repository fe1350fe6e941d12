"""What can be built here, and what can run here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from fcn_trt.doctor.finding import Finding
from fcn_trt.engine.manifest import Target
from fcn_trt.engine.options import RTX_CAPABILITIES, SUPPORTED_TENSORRT, is_supported_tensorrt
from fcn_trt.machine import Machine

__all__ = ["target_findings"]


def target_findings(machine: Machine, *, has_openvino: bool) -> list[Finding]:
    """Each target, whether it builds and runs here, and what it lacks for that."""
    libraries = machine.libraries
    gpu = {"GPU": machine.gpu is not None}
    release = {
        f"TensorRT {SUPPORTED_TENSORRT}": is_supported_tensorrt(libraries.get("tensorrt", ""))
    }
    rtx = {"TensorRT-RTX": "tensorrt_rtx" in libraries}
    compiles = {"cuda-bindings": "cuda-bindings" in libraries}
    is_rtx = machine.gpu is None or machine.gpu.compute_capability in RTX_CAPABILITIES
    rtx_gpu = {f"compute capability {RTX_CAPABILITIES[0]} to {RTX_CAPABILITIES[-1]}": is_rtx}
    runs = gpu | {"PyCUDA": "pycuda" in libraries}
    return [
        _target("openvino", builds={"OpenVINO": has_openvino}),
        _target("tensorrt", builds=release | gpu | compiles, runs=runs),
        _target("tensorrt-rtx", builds=rtx | compiles, runs=runs | rtx_gpu),
    ]


def _target(
    name: Target, *, builds: dict[str, bool], runs: Mapping[str, bool] = MappingProxyType({})
) -> Finding:
    """One target.

    Args:
        name: The target.
        builds: What building needs, and whether it is there.
        runs: What running needs beside that.
    """
    lacks, run_lacks = (
        ", ".join(f"no {part}" for part, there in needs.items() if not there)
        for needs in (builds, runs)
    )
    if lacks:
        found = f"neither builds nor runs here: {lacks}"
    elif run_lacks:
        found = f"builds here, but does not run: {run_lacks}"
    else:
        found = "builds and runs here"
    return Finding(
        part=f"target {name}",
        found=found,
        ok=not lacks,
        advice="what helps stands above, beside each part" if lacks else "",
    )
