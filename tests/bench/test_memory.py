"""The most memory that this process had, and forgetting it."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from fcn_trt.bench.memory import peak_resident_bytes, restart_peak

MANY = 64 << 20


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_peak_is_kept_until_it_is_forgotten():
    if not restart_peak():
        pytest.skip("needs a kernel that forgets the peak")
    before = peak_resident_bytes()
    np.ones(MANY // 8).sum()
    after = peak_resident_bytes()
    assert before is not None
    assert after is not None
    assert after - before > 0.8 * MANY
    assert restart_peak()
    forgotten = peak_resident_bytes()
    assert forgotten is not None
    assert after - forgotten > 0.5 * MANY


def test_process_that_is_not_told_of_has_none(tmp_path):
    assert peak_resident_bytes(tmp_path) is None
    assert not restart_peak(tmp_path / "none")


def test_peak_is_read_in_bytes(tmp_path):
    (tmp_path / "status").write_text("Name:\tx\nVmPeak:\t  9 kB\nVmHWM:\t    1944 kB\n")
    assert peak_resident_bytes(tmp_path) == 1944 * 1024
