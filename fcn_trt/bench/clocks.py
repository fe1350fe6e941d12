"""The clock rates that a machine runs at now, and whether it ever had to slow down.

Source: Linux kernel, "CPU Performance Scaling", "Device Frequency Scaling", "CFS Bandwidth Control"
and Documentation/ABI/testing; NVIDIA Jetson Linux Developer Guide, "Over-current event count".
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from fcn_trt.machine import read_system_file

__all__ = ["clocks_mhz", "cpu_governor", "throttle_events"]

_NVIDIA_SMI_TIMEOUT_S = 10.0

_COUNTERS = (
    "sys/devices/system/cpu/cpu*/thermal_throttle/core_throttle_count",
    "sys/devices/system/cpu/cpu*/thermal_throttle/package_throttle_count",
    "sys/class/hwmon/hwmon*/oc*_event_cnt",  # a Jetson's, of too much current
)
"""Files that count, each in one number, how often heat or current made something slow down."""

_QUOTAS = ("sys/fs/cgroup/cpu.stat", "sys/fs/cgroup/cpu/cpu.stat")
"""Where the container's own limit is counted, in version 2 and 1 of control groups."""


def clocks_mhz(root: Path = Path("/"), *, nvidia_smi: str = "nvidia-smi") -> dict[str, float]:
    """Clock rates in MHz by "cpu" and "gpu", as far as this system tells them.

    Args:
        root: Where the files of the system are looked up.
        nvidia_smi: Name or path of the program that tells the clock of a GPU that is a card.
    """
    found = {
        "cpu": _mean(_cpu_clocks(root)),
        "gpu": _mean(_gpu_clocks(root)) or _card_clock(nvidia_smi),
    }
    return {name: clock for name, clock in found.items() if clock is not None}


def cpu_governor(root: Path = Path("/")) -> str | None:
    """What chooses the CPU's clock, such as "performance"; None where the system does not tell."""
    files = root.glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor")
    names = sorted({read_system_file(file).strip() for file in files} - {""})
    return ", ".join(names) or None


def throttle_events(root: Path = Path("/")) -> int | None:
    """How often something had to slow down since the start; None where nothing counts it."""
    counts = [
        int(text)
        for pattern in _COUNTERS
        for file in root.glob(pattern)
        if (text := read_system_file(file).strip()).isdecimal()
    ]
    for name in _QUOTAS:
        match = re.search(r"^nr_throttled (\d+)$", read_system_file(root / name), re.MULTILINE)
        if match:
            counts.append(int(match[1]))
    return sum(counts) if counts else None


def _cpu_clocks(root: Path) -> Iterator[float]:
    """MHz of each core."""
    files = list(root.glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq"))
    for file in files:
        text = read_system_file(file).strip()
        if text.isdecimal():
            yield int(text) / 1e3  # from kHz
    if not files:
        text = read_system_file(root / "proc/cpuinfo")
        yield from map(float, re.findall(r"^cpu MHz\s*:\s*([\d.]+)$", text, re.MULTILINE))


def _gpu_clocks(root: Path) -> Iterator[float]:
    """MHz of a GPU that is part of the processor, as in a Jetson."""
    for file in root.glob("sys/class/devfreq/*gpu*/cur_freq"):
        text = read_system_file(file).strip()
        if text.isdecimal():
            yield int(text) / 1e6  # from Hz


def _card_clock(nvidia_smi: str) -> float | None:
    """MHz of the first card."""
    program = shutil.which(nvidia_smi)
    if program is None:
        return None
    query = ["--query-gpu=clocks.sm", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(
            [program, *query],
            capture_output=True,
            text=True,
            timeout=_NVIDIA_SMI_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.match(r"\d+(\.\d+)?", done.stdout)
    return float(match[0]) if match and done.returncode == 0 else None


def _mean(values: Iterator[float]) -> float | None:
    found = list(values)
    return round(sum(found) / len(found), 1) if found else None
