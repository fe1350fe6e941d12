"""What can be built here, and what can run here."""

from __future__ import annotations

from fcn_trt.doctor.finding import Finding
from fcn_trt.doctor.libraries import is_supported_tensorrt
from fcn_trt.machine import Machine
from fcn_trt.options import RTX_CAPABILITIES

__all__ = ["target_findings"]


def target_findings(machine: Machine, *, has_openvino: bool) -> list[Finding]:
    """Each target, whether it builds and runs here, and what it lacks for that."""
    gpu, libraries = machine.gpu, machine.libraries
    openvino = {"OpenVINO": has_openvino}
    tensorrt = {
        "TensorRT 10.0 to 11.x": is_supported_tensorrt(libraries.get("tensorrt", "")),
        "GPU": gpu is not None,
    }
    rtx = {"TensorRT-RTX": "tensorrt_rtx" in libraries}
    rtx_gpu = {"RTX GPU": gpu is not None and gpu.compute_capability in RTX_CAPABILITIES}
    pycuda = {"PyCUDA": "pycuda" in libraries}
    return [
        _target("openvino", to_build=openvino, to_run={}),
        _target("tensorrt", to_build=tensorrt, to_run=pycuda),
        _target("tensorrt-rtx", to_build=rtx, to_run=rtx_gpu | pycuda),
    ]


def _target(name: str, *, to_build: dict[str, bool], to_run: dict[str, bool]) -> Finding:
    """One target.

    Args:
        name: The target.
        to_build: What building needs, and whether it is there.
        to_run: What running needs besides.
    """
    lacks = ", ".join(f"no {part}" for part, there in (to_build | to_run).items() if not there)
    builds = all(to_build.values())
    if not builds:
        found = f"neither builds nor runs here: {lacks}"
    elif lacks:
        found = f"builds here, does not run here: {lacks}"
    else:
        found = "builds and runs here"
    return Finding(
        part=f"target {name}",
        found=found,
        ok=builds,
        advice="what helps stands above, beside each part" if lacks else "",
    )
