"""OpenCV, and whether it reads GStreamer pipelines."""

from __future__ import annotations

import platform
import re
from pathlib import Path

from fcn_trt.doctor.finding import CANNOT_LOAD, Finding, broken
from fcn_trt.doctor.jetson import from_jetpack
from fcn_trt.machine import OPENCV_DISTRIBUTIONS, Machine, installed_version

__all__ = ["opencv_finding"]

_JETPACK_PACKAGE = "nvidia-opencv"


def opencv_finding(root: Path, machine: Machine) -> Finding:
    """OpenCV; on a Jetson one without GStreamer is a mistake, for JetPack's has it."""
    try:
        import cv2

        built = cv2.getBuildInformation()
    except CANNOT_LOAD as error:
        return broken("OpenCV", error, _repair(error, root, machine))
    have = {
        name: re.search(rf"{name}:\s+YES", built) is not None for name in ("FFMPEG", "GStreamer")
    }
    parts = [f"{'with' if there else 'without'} {name}" for name, there in have.items()]
    return Finding(
        part="OpenCV",
        found=f"{cv2.__version__}, {', '.join(parts)}",
        ok=have["GStreamer"] or (have["FFMPEG"] and not machine.is_jetson),
        advice="" if have["GStreamer"] else _gstreamer(root, machine),
    )


def _repair(error: Exception, root: Path, machine: Machine) -> str:
    """What helps against an OpenCV that cannot be imported."""
    if isinstance(error, ModuleNotFoundError) and error.name == "cv2":
        if machine.is_jetson:
            return from_jetpack(root, "cv2", _JETPACK_PACKAGE)
        is_arm = platform.machine() == "aarch64"
        return "pip install 'fcn-trt[opencv]'" if is_arm else "pip install opencv-python"
    if re.search(r"numpy|_ARRAY_API", str(error)):
        # JetPack 6 and 7 compile theirs for NumPy 1, and pip takes NumPy 2 where it may.
        return "this OpenCV was compiled for NumPy 1: pip install 'numpy<2'"
    return "on Debian and Ubuntu: apt-get install libgl1 libglib2.0-0"  # a container's usual lack


def _gstreamer(root: Path, machine: Machine) -> str:
    """How to put an OpenCV with GStreamer in the place of one without."""
    wheels = [name for name in OPENCV_DISTRIBUTIONS if installed_version(name)]
    uninstall = f"pip uninstall -y {' '.join(wheels)}; then " if wheels else ""
    if not machine.is_jetson:
        return (
            f"only for GStreamer pipelines: {uninstall}use the system's (apt-get install "
            "python3-opencv) in an environment made with --system-site-packages"
        )
    hides = f"{wheels[0]} from pip hides JetPack's, which has GStreamer: " if wheels else ""
    jetpacks = from_jetpack(root, "cv2", _JETPACK_PACKAGE, is_seen=not wheels)
    return f"{hides}{uninstall}{jetpacks}"
