"""How much memory this process has used at most.

Source: Linux kernel, Documentation/filesystems/proc.rst: VmHWM, and 5 written to clear_refs.
"""

from __future__ import annotations

import re
from pathlib import Path

from fcn_trt.machine import read_system_file

__all__ = ["peak_resident_bytes", "restart_peak"]


def peak_resident_bytes(process: Path = Path("/proc/self")) -> int | None:
    """The most bytes of memory this process had at once, libraries and Python included.

    Args:
        process: Folder of the process in /proc.

    Returns:
        Since its start, or since `restart_peak`; None where the system does not tell.
    """
    match = re.search(r"^VmHWM:\s*(\d+) kB$", read_system_file(process / "status"), re.MULTILINE)
    return int(match[1]) << 10 if match else None


def restart_peak(process: Path = Path("/proc/self")) -> bool:
    """Forget the peak up to now.

    Args:
        process: Folder of the process in /proc.

    Returns:
        Whether the system did so.
    """
    try:
        (process / "clear_refs").write_text("5")
    except OSError:
        return False
    return True
