"""What of `benchmarks.device` needs no GPU: the ratios, the table, the file, the reasons."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.device import document, obstacle, table_lines
from benchmarks.device_rows import Comparison, Skipped
from fcn_trt.machine import Gpu, Machine, this_machine

ROOT = Path(__file__).parents[2]
GPU = Gpu(name="A GPU", compute_capability="9.0", memory_bytes=1 << 37, integrated=False)


def faster(asked=10.0):
    return Comparison(
        case="decode",
        seconds=[0.001, 0.002, 0.001],
        reference="torch",
        reference_seconds=[0.012, 0.016, 0.011],
        sense="at least",
        asked=asked,
    )


def longer(asked=1.5):
    return Comparison(
        case="decode",
        seconds=[0.003, 0.004, 0.002],
        reference="bytes",
        reference_seconds=[0.002, 0.002, 0.002],
        sense="at most",
        asked=asked,
    )


def test_ratio_is_taken_turn_by_turn_and_the_way_that_was_asked():
    assert faster().ratio == pytest.approx({"median": 11, "min": 8, "max": 12})
    assert longer().ratio == pytest.approx({"median": 1.5, "min": 1, "max": 2})


@pytest.mark.parametrize(
    ("row", "is_met"),
    [
        (faster(), True),
        (faster(11.1), False),
        (longer(), True),
        (longer(1.4), False),
        (longer(None), None),
    ],
)
def test_median_decides_whether_what_was_asked_is_met(row, is_met):
    assert row.is_met is is_met
    assert row.to_dict()["is_met"] is is_met


def test_table_has_a_line_per_row_and_says_what_is_not_met():
    skipped = Skipped(case="decode, against torch", reason="needs torch")
    head, met, missed, free, reason = table_lines([faster(), longer(1.4), longer(None), skipped])
    assert head.split()[:2] == ["case", "ms"]
    assert "11.00 (8.00-12.00)" in met
    assert met.split()[-4:] == ["at", "least", "10", "met"]
    assert "at most 1.4" in missed
    assert missed.endswith("NOT MET")
    assert free.endswith("(1.00-2.00)")
    assert reason.endswith("skipped: needs torch")
    assert max(map(len, (head, met, missed, free))) <= 150


def test_file_holds_the_rows():
    rows = [faster(), Skipped(case="overlay", reason="no time")]
    found = json.loads(json.dumps(document(rows, runs=3, copy_bytes_per_s=4.3e12)))
    assert found["copy_gb_per_s"] == pytest.approx(4300)
    assert found["runs"] == 3
    first, second = found["rows"]
    assert first["measured"]["median_ms"] == pytest.approx(1)
    assert first["reference_measured"]["median_ms"] == pytest.approx(12)
    assert first["asked"] == "at least 10"
    assert second == {"case": "overlay", "skipped": "no time"}


def test_machine_without_a_gpu_is_told_why():
    assert obstacle(Machine(gpu_problem="no NVIDIA driver")) == "needs a GPU: no NVIDIA driver"


def test_without_a_gpu_nothing_is_written(tmp_path):
    if this_machine().gpu is not None:
        pytest.skip("this machine has a GPU; `make test-gpu` is for it")
    out = tmp_path / "device.json"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.device", "--out", str(out)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("skipped: needs a GPU: ")
    assert not out.exists()
