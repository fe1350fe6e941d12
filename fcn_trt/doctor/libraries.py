"""TensorRT, TensorRT-RTX, what moves frames to a GPU, and OpenVINO."""

from __future__ import annotations

import importlib.metadata
import platform
from pathlib import Path

from fcn_trt.doctor.finding import CANNOT_LOAD, Finding, broken, present, useless
from fcn_trt.doctor.jetson import from_jetpack
from fcn_trt.engine.options import (
    RTX_CAPABILITIES,
    SUPPORTED_TENSORRT,
    TENSORRT_MAJORS,
    is_supported_tensorrt,
)
from fcn_trt.machine import DISTRIBUTIONS, Machine

__all__ = [
    "device_library_findings",
    "openvino_finding",
    "tensorrt_finding",
    "tensorrt_rtx_finding",
]

_PIP_TENSORRT = f"pip install 'tensorrt>={TENSORRT_MAJORS.start}.0,<{TENSORRT_MAJORS.stop}'"
_WHEELS = (*DISTRIBUTIONS["tensorrt"], "tensorrt-cu13-libs", "tensorrt-cu12-libs")


def tensorrt_finding(root: Path, machine: Machine) -> Finding:
    """TensorRT; on a Jetson it has to be JetPack's."""
    version = machine.libraries.get("tensorrt")
    if version is None:
        return present("TensorRT", None, _tensorrt_source(root, machine))
    if not is_supported_tensorrt(version):
        advice = "upgrade to JetPack 6.1 or later" if machine.is_jetson else _PIP_TENSORRT
        found = f"{version}, but only {SUPPORTED_TENSORRT} are supported"
        return useless("TensorRT", found, advice)
    wheels = [name for name in _WHEELS if _is_pips(name)]
    if machine.is_jetson and wheels:
        return useless(
            "TensorRT",
            f"{version} from pip, which need not fit this Jetson's driver",
            f"pip uninstall -y {' '.join(wheels)}; then {_tensorrt_source(root, machine)}",
        )
    return present("TensorRT", version)


def _tensorrt_source(root: Path, machine: Machine) -> str:
    """How to get TensorRT."""
    if machine.is_jetson:
        note = "; it comes from JetPack, not from PyPI"
        return from_jetpack(root, "tensorrt", "python3-libnvinfer", note=note)
    if platform.machine() == "aarch64":  # where the extra leaves it out, see pyproject.toml
        return _PIP_TENSORRT
    needs = "" if machine.gpu else "; it builds and runs only where there is an NVIDIA GPU"
    return f"pip install 'fcn-trt[tensorrt]'{needs}"


def _is_pips(distribution: str) -> bool:
    """Whether pip installed a package here; Debian's own packages lie in dist-packages."""
    try:
        folder = importlib.metadata.distribution(distribution).locate_file("")
    except importlib.metadata.PackageNotFoundError:
        return False
    return "site-packages" in Path(str(folder)).parts


def tensorrt_rtx_finding(machine: Machine) -> Finding:
    """TensorRT-RTX, and whether the GPU is one of its own."""
    version, gpu = machine.libraries.get("tensorrt_rtx"), machine.gpu
    if version is None:
        advice = (
            "none is needed: it is for RTX GPUs, not for Jetsons"
            if machine.is_jetson
            else "pip install 'fcn-trt[tensorrt-rtx]'; it builds without a GPU, too"
        )
        return present("TensorRT-RTX", None, advice)
    is_foreign = gpu is not None and gpu.compute_capability not in RTX_CAPABILITIES
    return Finding(
        part="TensorRT-RTX",
        found=version,
        ok=True,
        advice=f"it builds here, but what it builds runs on compute capability "
        f"{', '.join(RTX_CAPABILITIES)} only: use --target tensorrt for this GPU"
        if is_foreign
        else "",
    )


def device_library_findings(machine: Machine) -> list[Finding]:
    """What moves frames to the GPU and back."""
    install = "pip install 'fcn-trt[cuda]'"
    # It is compiled while it is installed, with the toolkit that the nvcc on PATH belongs to.
    compile_it = (
        f"PATH=/usr/local/cuda/bin:$PATH {install}, with the CUDA toolkit and a C++ compiler"
    )
    if machine.gpu is None and not machine.is_jetson:
        install = compile_it = "none is needed without a GPU"
    return [
        present("PyCUDA", machine.libraries.get("pycuda"), compile_it),
        _cuda_bindings(machine, install),
    ]


def _cuda_bindings(machine: Machine, install: str) -> Finding:
    version = machine.libraries.get("cuda-bindings")
    if version and machine.cuda and _major(version) > _major(machine.cuda):
        # Source: cuda.bindings, Installation: 13.x needs driver 580, JetPack 6 has 540.
        return useless(
            "cuda-bindings",
            f"{version}, but the driver is for CUDA {machine.cuda}",
            f"pip install 'cuda-bindings<{_major(machine.cuda) + 1}'",
        )
    return present("cuda-bindings", version, install)


def _major(version: str) -> int:
    return int(version.partition(".")[0])


def openvino_finding() -> Finding:
    """OpenVINO, and what it computes on this CPU."""
    advice = "pip install --force-reinstall openvino"
    try:
        import openvino as ov

        from fcn_trt.engine.openvino.builder import openvino_core

        core = openvino_core()
        if "CPU" not in core.available_devices:
            found = f"{ov.__version__}, but it has no CPU device here"
            return useless("OpenVINO", found, advice)
        kinds = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    except CANNOT_LOAD as error:
        return broken("OpenVINO", error, advice)
    precisions = [name for name in ("FP32", "FP16", "BF16", "INT8") if name in kinds]
    return present("OpenVINO", f"{ov.__version__}, CPU: {', '.join(precisions)}")
