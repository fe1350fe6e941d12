"""The CPU and its vector units; the GPU, what it computes, and its driver."""

from __future__ import annotations

import os
import platform
import re
from typing import get_args

from fcn_trt.doctor.finding import Finding, present, useless
from fcn_trt.engine.options import LEAST_CAPABILITY, parse_capability
from fcn_trt.machine import Gpu, Machine
from fcn_trt.spec import Precision

__all__ = ["cpu_finding", "gpu_findings"]


def cpu_finding(info: str) -> Finding:
    """The CPU.

    Args:
        info: Text of /proc/cpuinfo.
    """
    line = re.search(r"^(?:flags|Features)\s*:(.*)$", info, re.MULTILINE)
    flags = line[1].split() if line else []
    vectors = [
        name
        for name, flag in (
            ("AVX2", "avx2"),
            ("AVX-512", "avx512f"),
            ("VNNI", "avx512_vnni"),
            ("BF16", "avx512_bf16"),
            ("AMX", "amx_tile"),
            ("NEON", "asimd"),
            ("NEON BF16", "bf16"),
        )
        if flag in flags
    ]
    known = ", ".join(vectors) or "no vectors"
    return present("CPU", f"{os.cpu_count()} cores, {platform.machine()}, {known}")


def gpu_findings(machine: Machine) -> list[Finding]:
    """The GPU with its memory and precisions, the driver, and its CUDA."""
    return [
        *(_described(machine.gpu) if machine.gpu else [_missing(machine)]),
        present(
            "NVIDIA driver",
            machine.driver or (machine.cuda and "of unknown version"),
            "none is needed for --target openvino",
        ),
        present("CUDA", machine.cuda and f"up to {machine.cuda}", "it comes with the driver"),
    ]


def _missing(machine: Machine) -> Finding:
    if machine.cuda is None:
        advice = "none is needed for --target openvino; for a GPU install NVIDIA's driver"
    else:
        advice = (
            "see whether nvidia-smi lists it; after an update of the driver reboot, and start a "
            "container with --gpus all (on a Jetson --runtime nvidia)"
        )
    return useless("GPU", machine.gpu_problem or "missing", advice)


def _described(gpu: Gpu) -> list[Finding]:
    shared = ", shared with the CPU" if gpu.integrated else ""
    memory = f"{gpu.memory_bytes / (1 << 30):.1f} GiB{shared}"
    capability = parse_capability(gpu.compute_capability)
    precisions = [
        precision
        for precision in get_args(Precision)
        if capability >= parse_capability(LEAST_CAPABILITY.get(precision, "0.0"))
    ]
    return [
        present("GPU", f"{gpu.name}, {memory}"),
        present(
            "compute capability", f"{gpu.compute_capability}: computes {', '.join(precisions)}"
        ),
    ]
