"""NVIDIA's compute-sanitizer finds nothing in a short run of every kernel and the pipeline."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOUND_SOMETHING = 9


@pytest.mark.parametrize(
    ("tool", "options"), [("memcheck", ["--leak-check", "full"]), ("racecheck", [])]
)
def test_nothing_is_found(sanitizer, cubins, tool, options):
    command = [str(sanitizer), "--tool", tool, "--error-exitcode", str(FOUND_SOMETHING), *options]
    done = subprocess.run(
        [*command, sys.executable, "-m", "tests.gpu.sanitized"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=580,
    )
    told = done.stdout + done.stderr
    if "Device not supported" in told:
        pytest.skip(f"{tool} does not support this GPU or this virtual machine")
    assert done.returncode == 0, told
    assert "end\n" in done.stdout
    assert "0 errors" in told or "0 hazards" in told, told
