"""What this machine is: its GPU and driver, its libraries, and which Jetson it is.

No framework is imported and no CUDA context is made, so that a look costs no device memory. The
GPU is asked through the driver's own library; the rest is read from files and package metadata.

Source: CUDA driver API; NVIDIA Jetson Linux Developer Guide, "Jetson Linux release" and "nvpmodel".
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

__all__ = [
    "DISTRIBUTIONS",
    "OPENCV_DISTRIBUTIONS",
    "Gpu",
    "Machine",
    "installed_version",
    "installed_versions",
    "read_system_file",
    "this_machine",
]

DISTRIBUTIONS: dict[str, tuple[str, ...]] = {
    "tensorrt": (
        "tensorrt-cu13-bindings",
        "tensorrt-cu12-bindings",
        "tensorrt-bindings",
        "tensorrt",  # pip's umbrella package, and what apt installs on a Jetson
        "tensorrt-cu13",
        "tensorrt-cu12",
    ),
    "tensorrt_rtx": (
        "tensorrt-rtx-cu13-bindings",
        "tensorrt-rtx-cu12-bindings",
        "tensorrt-rtx",
        "tensorrt-rtx-cu13",
        "tensorrt-rtx-cu12",
    ),
    "pycuda": ("pycuda",),
    "cuda-bindings": ("cuda-bindings",),
    "openvino": ("openvino",),
}
"""Packages that bring a library, those with the module itself first."""

OPENCV_DISTRIBUTIONS = (
    "opencv-python",
    "opencv-python-headless",
    "opencv-contrib-python",
    "opencv-contrib-python-headless",
)
"""Packages that bring cv2 by pip."""

_JETPACK = {
    "32.7.1": "4.6.1",
    "35.3.1": "5.1.1",
    "35.4.1": "5.1.2",
    "35.5.0": "5.1.3",
    "35.6.0": "5.1.4",
    "36.3.0": "6.0",
    "36.4.0": "6.1",
    "36.4.2": "6.1",
    "36.4.3": "6.2",
    "36.4.4": "6.2.1",
    "36.4.7": "6.2.1",
    "36.5.0": "6.2.2",
    "38.2.0": "7.0",
    "38.2.1": "7.0",
    "38.2.2": "7.0",
    "38.4.0": "7.1",
    "39.2.0": "7.2",
    "39.2.1": "7.2.1",
}
"""JetPack by Jetson Linux, from NVIDIA's JetPack archive and its forum."""

# Attributes of a device, from CUdevice_attribute in cuda.h.
_INTEGRATED = 18
_CAPABILITY_MAJOR = 75
_CAPABILITY_MINOR = 76
_NAME_BYTES = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """A GPU as its driver describes it.

    Attributes:
        name: Such as "Orin" or "NVIDIA GeForce RTX 4070".
        compute_capability: Such as "8.7".
        memory_bytes: All of it; on an integrated GPU the memory that it shares with the CPU.
        integrated: Whether it is part of the processor, as in a Jetson.
    """

    name: str
    compute_capability: str
    memory_bytes: int
    integrated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What is there. None stands for what is missing or cannot be known.

    Attributes:
        gpu: The first GPU that CUDA_VISIBLE_DEVICES lets the driver show.
        gpu_problem: Why there is none, or "".
        cuda: Highest CUDA that the driver supports, such as "13.0".
        driver: Version of the kernel's driver, such as "540.4.0".
        board: What the firmware calls the board; few but ARM boards say it.
        jetson_linux: Such as "36.4.3".
        jetpack: Such as "6.2".
        power_mode: Name of the mode that a Jetson runs in, such as "15W".
        power_modes: Every mode that it has, by the number that nvpmodel takes.
        libraries: Versions of those in `DISTRIBUTIONS` that are installed.
    """

    gpu: Gpu | None = None
    gpu_problem: str = ""
    cuda: str | None = None
    driver: str | None = None
    board: str | None = None
    jetson_linux: str | None = None
    jetpack: str | None = None
    power_mode: str | None = None
    power_modes: dict[int, str] = field(default_factory=dict)
    libraries: dict[str, str] = field(default_factory=dict)

    @property
    def is_jetson(self) -> bool:
        """Whether it is a Jetson; in a container only the board may say so."""
        return self.jetson_linux is not None or "jetson" in (self.board or "").lower()


def this_machine(root: Path = Path("/"), *, driver_library: str = "libcuda.so.1") -> Machine:
    """Look at this machine; nothing is changed.

    Args:
        root: Where the files of the system are looked up.
        driver_library: Name or path of the CUDA driver's library.
    """
    driver = _Driver(driver_library)
    gpu, problem = driver.first_gpu()
    jetson_linux = _jetson_linux(read_system_file(root / "etc/nv_tegra_release"))
    modes = _power_modes(root)
    return Machine(
        gpu=gpu,
        gpu_problem=problem,
        cuda=driver.cuda(),
        driver=_kernel_driver(read_system_file(root / "proc/driver/nvidia/version")),
        board=read_system_file(root / "proc/device-tree/model").strip("\0\n ") or None,
        jetson_linux=jetson_linux,
        jetpack=_JETPACK.get(jetson_linux or ""),
        power_mode=_power_mode(root, modes),
        power_modes=modes,
        libraries=installed_versions(DISTRIBUTIONS),
    )


class _Driver:
    """The CUDA driver's library, if it is there."""

    def __init__(self, name: str) -> None:
        self.problem = ""
        try:
            self.library = ctypes.CDLL(name)
        except OSError as error:
            self.problem = f"no NVIDIA driver: {error}"

    def cuda(self) -> str | None:
        """Highest CUDA that the driver supports."""
        version = ctypes.c_int()
        if self.problem or self._call("cuDriverGetVersion", ctypes.byref(version)):
            return None
        return f"{version.value // 1000}.{version.value % 1000 // 10}"

    def first_gpu(self) -> tuple[Gpu | None, str]:
        """The GPU, or why there is none."""
        count, device = ctypes.c_int(), ctypes.c_int()
        problem = (
            self.problem
            or self._call("cuInit", ctypes.c_uint(0))
            or self._call("cuDeviceGetCount", ctypes.byref(count))
            or ("" if count.value else "the NVIDIA driver finds no GPU")
            or self._call("cuDeviceGet", ctypes.byref(device), ctypes.c_int(0))
        )
        return (None, problem) if problem else self._describe(device)

    def _describe(self, device: ctypes.c_int) -> tuple[Gpu | None, str]:
        name = ctypes.create_string_buffer(_NAME_BYTES)
        memory = ctypes.c_size_t()
        integrated, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
        problem = (
            self._call("cuDeviceGetName", name, ctypes.c_int(_NAME_BYTES), device)
            or self._call("cuDeviceTotalMem_v2", ctypes.byref(memory), device)
            or self._read_attribute(_CAPABILITY_MAJOR, device, into=major)
            or self._read_attribute(_CAPABILITY_MINOR, device, into=minor)
            or self._read_attribute(_INTEGRATED, device, into=integrated)
        )
        if problem:
            return None, problem
        gpu = Gpu(
            name=name.value.decode(errors="replace"),
            compute_capability=f"{major.value}.{minor.value}",
            memory_bytes=memory.value,
            integrated=bool(integrated.value),
        )
        return gpu, ""

    def _read_attribute(self, number: int, device: ctypes.c_int, *, into: ctypes.c_int) -> str:
        return self._call("cuDeviceGetAttribute", ctypes.byref(into), ctypes.c_int(number), device)

    def _call(self, name: str, *arguments: object) -> str:
        """Call a function of the driver; returns what it complains of, or ""."""
        try:
            status = getattr(self.library, name)(*arguments)
        except AttributeError:
            return f"the NVIDIA driver's library has no {name}"
        if status == 0:
            return ""
        return f"the NVIDIA driver's {name} fails with {status}{self._meaning(status)}"

    def _meaning(self, status: int) -> str:
        text = ctypes.c_char_p()
        try:
            self.library.cuGetErrorString(ctypes.c_int(status), ctypes.byref(text))
        except AttributeError:
            return ""
        return f": {text.value.decode(errors='replace')}" if text.value else ""


def _kernel_driver(text: str) -> str | None:
    match = re.search(r"Kernel Module.*?(\d+\.\d+(?:\.\d+)?)", text)
    return match[1] if match else None


def _jetson_linux(release: str) -> str | None:
    """From a line such as "# R36 (release), REVISION: 4.3, GCID: ..."."""
    match = re.search(r"R(\d+) \(release\), REVISION: (\d+(?:\.\d+)*)", release)
    return f"{match[1]}.{match[2]}" if match else None


def _power_modes(root: Path) -> dict[int, str]:
    text = read_system_file(root / "etc/nvpmodel.conf")
    lines = re.findall(r"^\s*<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+)\s*>", text, re.MULTILINE)
    return {int(number): name for number, name in lines}


def _power_mode(root: Path, modes: dict[int, str]) -> str | None:
    """The mode that nvpmodel wrote down; before it ever did so, the one that the board boots in."""
    match = re.search(r"pmode:(\d+)", read_system_file(root / "var/lib/nvpmodel/status"))
    if match is None:
        text = read_system_file(root / "etc/nvpmodel.conf")
        match = re.search(r"^\s*<\s*PM_CONFIG\s+DEFAULT=(\d+)\s*>", text, re.MULTILINE)
    return modes.get(int(match[1]), f"mode {int(match[1])}") if match else None


def installed_versions(libraries: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """Versions of those libraries that are installed, each by the packages that may bring it."""
    found = {name: installed_version(*packages) for name, packages in libraries.items()}
    return {name: version for name, version in found.items() if version}


def installed_version(*distributions: str) -> str | None:
    """Version of the first of some packages that is installed, by its metadata; None if none is."""
    for name in distributions:
        with suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(name)
    return None


def read_system_file(path: Path) -> str:
    """A file of the system, or "" where this system has none."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
