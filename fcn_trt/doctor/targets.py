"""What can be built here, and what can run here."""

from __future__ import annotations

from fcn_trt.doctor.finding import Finding
from fcn_trt.machine import Machine
from fcn_trt.manifest import RUNNABLE, Target
from fcn_trt.options import SUPPORTED_TENSORRT, is_supported_tensorrt

__all__ = ["target_findings"]


def target_findings(machine: Machine, *, has_openvino: bool) -> list[Finding]:
    """Each target, whether it builds and runs here, and what it lacks for that."""
    libraries = machine.libraries
    tensorrt = {
        f"TensorRT {SUPPORTED_TENSORRT}": is_supported_tensorrt(libraries.get("tensorrt", "")),
        "GPU": machine.gpu is not None,
    }
    return [
        _target("openvino", {"OpenVINO": has_openvino}),
        _target("tensorrt", tensorrt),
        _target("tensorrt-rtx", {"TensorRT-RTX": "tensorrt_rtx" in libraries}),
    ]


def _target(name: Target, needs: dict[str, bool]) -> Finding:
    """One target.

    Args:
        name: The target.
        needs: What building needs, and whether it is there; what this version runs needs no more.
    """
    lacks = ", ".join(f"no {part}" for part, there in needs.items() if not there)
    if lacks:
        found = f"neither builds nor runs here: {lacks}"
    elif name in RUNNABLE:
        found = "builds and runs here"
    else:
        found = "builds here; this version does not run it yet"
    return Finding(
        part=f"target {name}",
        found=found,
        ok=not lacks,
        advice="what helps stands above, beside each part" if lacks else "",
    )
