"""What this machine can do, and what helps where something is missing or installed wrongly.

Neither TensorRT nor PyCUDA is imported: versions come from package metadata. Read in this order:
finding, processors, jetson, libraries, opencv, targets.
"""

from __future__ import annotations

import platform
from pathlib import Path

import platformdirs

from fcn_trt.doctor.finding import Finding, present
from fcn_trt.doctor.jetson import jetson_findings
from fcn_trt.doctor.libraries import (
    device_library_findings,
    openvino_finding,
    tensorrt_finding,
    tensorrt_rtx_finding,
)
from fcn_trt.doctor.opencv import opencv_finding
from fcn_trt.doctor.processors import cpu_finding, gpu_findings
from fcn_trt.doctor.targets import target_findings
from fcn_trt.machine import Machine, installed_version, read_system_file, this_machine

__all__ = ["Finding", "examine"]


def examine(root: Path = Path("/"), machine: Machine | None = None) -> list[Finding]:
    """Look at this machine; nothing is changed and nothing is sent.

    Args:
        root: Where the files of the system are looked up.
        machine: What it is; None finds out.
    """
    machine = machine or this_machine(root)
    cpu_engine = openvino_finding()
    return [
        present("Python", f"{platform.python_version()} on {platform.platform()}"),
        cpu_finding(read_system_file(root / "proc/cpuinfo")),
        *gpu_findings(machine),
        *jetson_findings(machine),
        tensorrt_finding(root, machine),
        tensorrt_rtx_finding(machine),
        *device_library_findings(machine),
        cpu_engine,
        opencv_finding(root, machine),
        _export(),
        present("cache", str(platformdirs.user_cache_path("fcn_trt"))),
        *target_findings(machine, has_openvino=cpu_engine.ok),
    ]


def _export() -> Finding:
    names = ("torch", "torchvision", "onnx", "safetensors")
    versions = {name: installed_version(name) for name in names}
    missing = [name for name, version in versions.items() if version is None]
    return Finding(
        part="export extra",
        found=", ".join(f"{name} {version or 'missing'}" for name, version in versions.items()),
        ok=not missing,
        advice="pip install 'fcn-trt[export]'" if missing else "",
    )
