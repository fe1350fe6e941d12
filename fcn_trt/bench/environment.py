"""What a figure was measured on. No framework is imported: versions come from package metadata."""

from __future__ import annotations

import datetime as dt
import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import ConfigDict, Field

from fcn_trt.bench.clocks import clocks_mhz, cpu_governor, output_of
from fcn_trt.machine import (
    OPENCV_DISTRIBUTIONS,
    installed_versions,
    read_system_file,
    this_machine,
)
from fcn_trt.version import __version__

__all__ = [
    "INSTRUCTION_SETS",
    "Environment",
    "checkout_commit",
    "this_environment",
    "usable_cores",
]

INSTRUCTION_SETS = (
    *("avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16"),
    *("avx512_fp16", "amx_tile", "amx_int8", "amx_bf16", "amx_fp16"),
    *("asimd", "asimdhp", "asimddp", "fphp", "i8mm", "bf16", "sve", "sve2"),
)
"""Those of x86-64 and arm64 that decide how fast a convolution can be, as Linux calls them."""

_DISTRIBUTIONS = {
    "opencv": OPENCV_DISTRIBUTIONS,
    "torch": ("torch",),
    "torchvision": ("torchvision",),
    "onnx": ("onnx",),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
}
"""Packages that a figure may depend on, besides those that `fcn_trt.machine` knows."""

_CODE = ("fcn_trt", "benchmarks/*.py", "pyproject.toml")
"""What a figure follows from; a result that is written anew is no change of these."""

_PACKAGE = Path(__file__).parents[1]
_GIT_TIMEOUT_S = 20.0

Text = Annotated[str, Field(min_length=1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What a figure was measured on. None stands for what is missing or was not recorded.

    Attributes:
        cpu: Its name.
        cores: Those that the process may use, as the operating system counts them.
        instruction_sets: Which of `INSTRUCTION_SETS` it has.
        memory_bytes: Of the machine.
        system: Operating system, its version and the architecture.
        board: What the firmware calls it.
        gpu: Name of the GPU.
        compute_capability: Of the GPU, such as "8.7".
        gpu_memory_bytes: Of the GPU; of an integrated one, what it shares with the CPU.
        driver: Version of NVIDIA's driver.
        cuda: Highest CUDA that the driver supports.
        power_mode: Of a Jetson, such as "15W".
        cpu_governor: What chooses the CPU's clock, such as "performance".
        clocks_mhz: Clock rates by "cpu" and "gpu" when it was looked at.
        load_average_1min: Processes that were running or waiting, averaged over a minute.
        versions: Of Python and each library, by name.
        fcn_trt: Version of this package.
        commit: Of the checkout that this package lies in; "+changed" follows it if its code was
            another one then.
        measured_at: When, ISO 8601 in UTC.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    cpu: Text
    cores: Annotated[int, Field(ge=1)]
    instruction_sets: tuple[str, ...] | None
    memory_bytes: int | None
    system: Text
    board: str | None
    gpu: str | None
    compute_capability: str | None
    gpu_memory_bytes: int | None
    driver: str | None
    cuda: str | None
    power_mode: str | None
    cpu_governor: str | None
    clocks_mhz: dict[str, float] | None
    load_average_1min: float | None
    versions: Annotated[dict[str, str], Field(min_length=1)]
    fcn_trt: str | None
    commit: str | None
    measured_at: str | None


def this_environment(root: Path = Path("/")) -> Environment:
    """Look at this machine and at what is installed; nothing is imported, nothing changed.

    Args:
        root: Where the files of the system are looked up.
    """
    machine = this_machine(root)
    gpu = machine.gpu
    cpuinfo = read_system_file(root / "proc/cpuinfo")
    return Environment(
        cpu=_cpu_name(cpuinfo),
        cores=usable_cores(),
        instruction_sets=_instruction_sets(cpuinfo),
        memory_bytes=_memory_bytes(read_system_file(root / "proc/meminfo")),
        system=platform.platform(),
        board=machine.board,
        gpu=gpu.name if gpu else None,
        compute_capability=gpu.compute_capability if gpu else None,
        gpu_memory_bytes=gpu.memory_bytes if gpu else None,
        driver=machine.driver,
        cuda=machine.cuda,
        power_mode=machine.power_mode,
        cpu_governor=cpu_governor(root),
        clocks_mhz=clocks_mhz(root) or None,
        load_average_1min=_load_average(),
        versions={
            "python": platform.python_version(),
            "numpy": np.__version__,
            **installed_versions(_DISTRIBUTIONS),
            **machine.libraries,
        },
        fcn_trt=__version__,
        commit=checkout_commit(),
        measured_at=dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
    )


def checkout_commit(package: Path = _PACKAGE) -> str | None:
    """The commit that a package is of, with "+changed" where its code is another one.

    Args:
        package: Folder of the package. One that was installed into some other project's checkout
            is not of that project's commit.

    Returns:
        40 hex digits and perhaps "+changed"; None where it lies in no checkout of its own.
    """
    folder = package.parent
    if not _git(folder, "ls-files", f"{package.name}/__init__.py"):
        return None
    commit = _git(folder, "rev-parse", "HEAD")
    if not commit:
        return None
    changed = _git(folder, "status", "--porcelain", "--", *_CODE)
    return commit if changed == "" else f"{commit}+changed"


def _git(folder: Path, *arguments: str) -> str | None:
    """What git prints; None where there is no git, or it finds no checkout."""
    text = output_of("git", "-C", str(folder), *arguments, timeout_s=_GIT_TIMEOUT_S)
    return None if text is None else text.strip()


def _cpu_name(cpuinfo: str) -> str:
    """The CPU's name; many of ARM's have none and are told by their numbers."""
    match = re.search(r"^model name\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    if match:
        return match[1].strip()
    numbers = [
        f"{key} {match[1]}"
        for key in ("implementer", "part", "variant")
        if (match := re.search(rf"^CPU {key}\s*:\s*(\w+)$", cpuinfo, re.MULTILINE))
    ]
    name = platform.processor() or platform.machine() or "unknown"
    return f"{name} ({', '.join(numbers)})" if numbers else name


def usable_cores() -> int:
    """Cores that this process may use; not every system tells."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def _instruction_sets(cpuinfo: str) -> tuple[str, ...] | None:
    """Those that count; None where the system does not tell."""
    match = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    if match is None:
        return None
    has = set(match[1].split())
    return tuple(name for name in INSTRUCTION_SETS if name in has)


def _memory_bytes(meminfo: str) -> int | None:
    match = re.search(r"^MemTotal:\s*(\d+) kB$", meminfo, re.MULTILINE)
    return int(match[1]) << 10 if match else None


def _load_average() -> float | None:
    """Windows has none."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return None
