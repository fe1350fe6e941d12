"""What this machine can do, and what helps where something is missing."""

from __future__ import annotations

import ctypes.util
import importlib.metadata
import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path

import platformdirs

__all__ = ["Finding", "examine"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of the diagnosis.

    Attributes:
        part: What was looked for.
        found: What is there, or "missing".
        ok: Whether it is there.
        advice: The command or sentence that helps, or "".
    """

    part: str
    found: str
    ok: bool
    advice: str = ""


def examine(root: Path = Path("/")) -> list[Finding]:
    """Look at this machine; nothing is changed and nothing is sent.

    Args:
        root: Where the files of the system are looked up.
    """
    return [
        Finding(
            part="Python", found=f"{platform.python_version()} on {platform.platform()}", ok=True
        ),
        _cpu(_read(root / "proc/cpuinfo")),
        _openvino(),
        _opencv(),
        _export(),
        _gpu(_read(root / "proc/driver/nvidia/version")),
        _package(
            "TensorRT",
            "tensorrt",
            "pip install 'fcn-trt[tensorrt]'; on a Jetson it comes "
            "with JetPack, make the environment with --system-site-packages",
        ),
        _package("TensorRT-RTX", "tensorrt_rtx", "pip install 'fcn-trt[tensorrt-rtx]'"),
        _package(
            "PyCUDA", "pycuda", "pip install 'fcn-trt[tensorrt]', with the CUDA toolkit's nvcc"
        ),
        _jetpack(_read(root / "etc/nv_tegra_release")),
        Finding(part="cache", found=str(platformdirs.user_cache_path("fcn_trt")), ok=True),
    ]


def _cpu(info: str) -> Finding:
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
    return Finding(
        part="CPU",
        found=f"{os.cpu_count()} cores, {platform.machine()}, {', '.join(vectors) or 'no vectors'}",
        ok=True,
    )


def _openvino() -> Finding:
    try:
        import openvino as ov

        from fcn_trt.engine.openvino import openvino_core
    except ImportError as error:
        return _broken("OpenVINO", error, "pip install --force-reinstall openvino")
    core = openvino_core()
    if "CPU" not in core.available_devices:
        return Finding(
            part="OpenVINO",
            found=f"{ov.__version__}, but it has no CPU device here",
            ok=False,
            advice="pip install --force-reinstall openvino",
        )
    kinds = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    precisions = [name for name in ("FP32", "FP16", "BF16", "INT8") if name in kinds]
    return Finding(
        part="OpenVINO", found=f"{ov.__version__}, CPU: {', '.join(precisions)}", ok=True
    )


def _opencv() -> Finding:
    try:
        import cv2
    except ImportError as error:  # the usual one: libGL.so.1 in a container without a desktop
        return _broken("OpenCV", error, "on Debian and Ubuntu: apt-get install libgl1 libglib2.0-0")
    built = cv2.getBuildInformation()
    have = {
        name: re.search(rf"{name}:\s+YES", built) is not None for name in ("FFMPEG", "GStreamer")
    }
    parts = [f"{'with' if present else 'without'} {name}" for name, present in have.items()]
    return Finding(
        part="OpenCV",
        found=f"{cv2.__version__}, {', '.join(parts)}",
        ok=have["FFMPEG"] or have["GStreamer"],
        advice=""
        if have["GStreamer"]
        else "only for GStreamer pipelines: use the system's OpenCV (on a Jetson, JetPack's), with "
        "pip uninstall opencv-python in an environment made with --system-site-packages",
    )


def _broken(part: str, error: ImportError, advice: str) -> Finding:
    return Finding(part=part, found=f"cannot be loaded: {error}", ok=False, advice=advice)


def _export() -> Finding:
    names = ("torch", "torchvision", "onnx", "safetensors")
    versions = {name: _version(name) for name in names}
    missing = [name for name, version in versions.items() if version is None]
    return Finding(
        part="export extra",
        found=", ".join(f"{name} {version or 'missing'}" for name, version in versions.items()),
        ok=not missing,
        advice="pip install 'fcn-trt[export]'" if missing else "",
    )


def _gpu(version: str) -> Finding:
    driver = re.search(r"Kernel Module.*?(\d+\.\d+(?:\.\d+)?)", version)
    if driver:
        return Finding(part="NVIDIA driver", found=driver[1], ok=True)
    library = ctypes.util.find_library("cuda")
    return Finding(
        part="NVIDIA driver",
        found=library or "missing",
        ok=library is not None,
        advice="" if library else "none is needed for --target openvino",
    )


def _package(part: str, module: str, advice: str) -> Finding:
    version = _version(module)
    return Finding(
        part=part,
        found=version or "missing",
        ok=version is not None,
        advice="" if version else advice,
    )


def _jetpack(release: str) -> Finding:
    first = release.partition("\n")[0].lstrip("# ")
    return Finding(part="Jetson Linux", found=first or "no Jetson", ok=True)


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _read(path: Path) -> str:
    """A file of the system, or nothing where this system has none."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
