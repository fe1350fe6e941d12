"""Which Jetson it is, how fast it is set to run, and what its system's own Python has.

JetPack installs TensorRT and OpenCV for the system's Python, into dist-packages. An environment
sees them only if it was made with --system-site-packages, and what pip installs hides them.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from fcn_trt.doctor.finding import Finding, present
from fcn_trt.machine import Machine

__all__ = ["from_jetpack", "jetson_findings"]

_FIRST_JETSON_LINUX = (36, 4)
"""Of JetPack 6.1, the first whose TensorRT is 10."""


def jetson_findings(machine: Machine) -> list[Finding]:
    """JetPack, and on a Jetson the power mode."""
    if not machine.is_jetson:
        return [present("JetPack", "no Jetson")]
    return [_jetpack(machine), _power(machine)]


def _jetpack(machine: Machine) -> Finding:
    release = machine.jetson_linux
    parts = [
        machine.jetpack or "unknown",
        f"Jetson Linux {release}" if release else "without /etc/nv_tegra_release",
        machine.board or "unknown board",
    ]
    is_old = release is not None and _numbers(release) < _FIRST_JETSON_LINUX
    return Finding(
        part="JetPack",
        found=", ".join(parts),
        ok=not is_old,
        advice="its TensorRT is older than 10, which is not supported: upgrade an Orin to JetPack "
        "6.1 or later, and use --target openvino on an older board"
        if is_old
        else "",
    )


def _power(machine: Machine) -> Finding:
    mode, modes = machine.power_mode, machine.power_modes
    if mode is None:
        return present("power mode", None, "sudo nvpmodel -q tells it, outside of a container")
    fastest = max(modes, key=lambda number: _speed(modes[number]), default=None)
    if fastest is None or modes[fastest] == mode:
        return present("power mode", mode)
    return Finding(
        part="power mode",
        found=f"{mode}, of {', '.join(modes.values())}",
        ok=True,
        advice=f"for full speed: sudo nvpmodel -m {fastest} ({modes[fastest]}), then "
        "sudo jetson_clocks",
    )


def _speed(mode: str) -> tuple[bool, bool, int]:
    """Modes by speed. Their numbers do not tell: on an Orin Nano 0 is 15W and 2 is MAXN_SUPER."""
    watts = re.search(r"(\d+)W", mode)
    return mode.startswith("MAXN"), "SUPER" in mode, int(watts[1]) if watts else 0


def from_jetpack(
    root: Path, module: str, package: str, *, is_seen: bool = False, note: str = ""
) -> str:
    """How an environment gets to a module that JetPack has for the system's own Python.

    Args:
        root: Where the files of the system are looked up.
        module: Its name.
        package: Debian's package of it, for a system that lacks it.
        is_seen: Whether what the system has is what was looked at already.
        note: What to know where the package has to be installed.
    """
    found = sorted(root.glob(f"usr/lib/python3*/dist-packages/{module}*"))
    if not found or (is_seen and str(found[0].parent) in sys.path):
        venv = "python3 -m venv --system-site-packages"
        return f"sudo apt-get install {package}, for an environment made with {venv}{note}"
    folder = found[0].parent
    shown = f"JetPack's is in /{folder.relative_to(root)}"
    if str(folder) in sys.path:
        return f"{shown} and is seen then"
    return f"{shown}: make the environment with {folder.parent.name} -m venv --system-site-packages"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
