"""The clock rates that a machine runs at now, and whether it ever had to slow down.

Source: Linux kernel, "CPU Performance Scaling", "Device Frequency Scaling", "CFS Bandwidth Control"
and Documentation/ABI/testing; NVIDIA Jetson Linux Developer Guide, "Over-current event count".
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from fcn_trt.machine import read_system_file

__all__ = ["clocks_mhz", "cpu_governor", "output_of", "throttle_events"]

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
    in_jetson = [hertz / 1e6 for hertz in _numbers(root, "sys/class/devfreq/*gpu*/cur_freq")]
    found = {"cpu": _mean(_cpu_clocks(root)), "gpu": _mean(in_jetson) or _card_clock(nvidia_smi)}
    return {name: clock for name, clock in found.items() if clock is not None}


def cpu_governor(root: Path = Path("/")) -> str | None:
    """What chooses the CPU's clock, such as "performance"; None where the system does not tell."""
    files = root.glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor")
    names = sorted({read_system_file(file).strip() for file in files} - {""})
    return ", ".join(names) or None


def throttle_events(root: Path = Path("/")) -> int | None:
    """How often something had to slow down since the start; None where nothing counts it."""
    counts = _numbers(root, *_COUNTERS)
    for name in _QUOTAS:
        match = re.search(r"^nr_throttled (\d+)$", read_system_file(root / name), re.MULTILINE)
        if match:
            counts.append(int(match[1]))
    return sum(counts) if counts else None


def output_of(name: str, *arguments: str, timeout_s: float) -> str | None:
    """What a program prints; None where it is missing, fails or takes too long."""
    program = shutil.which(name)
    if program is None:
        return None
    try:
        done = subprocess.run(
            [program, *arguments], capture_output=True, text=True, timeout=timeout_s, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def _numbers(root: Path, *patterns: str) -> list[int]:
    """What those files hold that have one whole number in them."""
    texts = [read_system_file(file).strip() for pattern in patterns for file in root.glob(pattern)]
    return [int(text) for text in texts if text.isdecimal()]


def _cpu_clocks(root: Path) -> list[float]:
    """MHz of each core."""
    pattern = "sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq"
    if any(root.glob(pattern)):
        return [kilohertz / 1e3 for kilohertz in _numbers(root, pattern)]
    text = read_system_file(root / "proc/cpuinfo")
    return list(map(float, re.findall(r"^cpu MHz\s*:\s*([\d.]+)$", text, re.MULTILINE)))


def _card_clock(nvidia_smi: str) -> float | None:
    """MHz of the first card."""
    query = ("--query-gpu=clocks.sm", "--format=csv,noheader,nounits")
    text = output_of(nvidia_smi, *query, timeout_s=_NVIDIA_SMI_TIMEOUT_S)
    match = re.match(r"\d+(\.\d+)?", text or "")
    return float(match[0]) if match else None


def _mean(values: Sequence[float]) -> float | None:
    return round(sum(values) / len(values), 1) if values else None
