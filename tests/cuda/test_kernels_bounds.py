"""No kernel touches a byte before or behind its arrays."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cuda.host_kernels import host_library


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs mprotect")
def test_no_byte_outside_of_an_array_is_read_or_written():
    host_library("overlay")  # or the reason why nothing can be compiled
    command = [sys.executable, "-m", "tests.cuda.guard_pages"]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, f"ended with {done.returncode}: {done.stderr}"
