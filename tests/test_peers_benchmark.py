"""`benchmarks.peers`: that all of them give the same label maps, and what is made of the times."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torchvision", reason="needs the extra: pip install 'fcn-trt[export]'")
pytest.importorskip("onnxruntime", reason="needs the extra: pip install 'fcn-trt[dev]'")

from benchmarks.peers import ASKED, agreement, times_as_fast, verdicts
from fcn_trt.bench.result_file import read_result

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_peers_give_the_same_label_maps_and_the_file_says_on_what(tmp_path):
    out = tmp_path / "peers.json"
    names = ("torch eager", "ONNX Runtime", "OpenVINO fp32", "fcn_trt fp32", "fcn_trt int8")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.peers", "--size", "96x160", "--runs", "1"]
        + [word for name in names for word in ("--only", name)]
        + ["--out", str(out), "--ceiling-seconds", "0.1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = read_result(out)
    assert found.command == "python -m benchmarks.peers"
    (row,) = found.results
    assert list(row["cases"]) == list(names)
    same = row["labels_as_torch"]
    assert same["torch eager"] == 1
    for name in ("ONNX Runtime", "OpenVINO fp32", "fcn_trt fp32"):
        assert same[name] >= 0.999, name  # sums in another order break ties
    own = row["cases"]["fcn_trt int8"]
    assert list(own["stages_ms"]) == ["preprocess", "network", "decode", "overlay"]
    assert 0 < own["share_not_network"] < 1
    assert "fcn_trt int8" in done.stdout


def test_ratios_are_taken_turn_by_turn():
    seconds = {"torch eager": [4.0, 9.0, 8.0], "fcn_trt int8": [2.0, 3.0, 1.0]}
    found = times_as_fast(seconds)
    assert found == {"fcn_trt int8": {"torch eager": {"median": 3.0, "min": 2.0, "max": 8.0}}}


def test_goals_are_those_of_the_size_and_of_what_ran():
    seconds = {"torch eager": [5.6], "fcn_trt int8": [1.0], "fcn_trt fp32": [5.0]}
    small, large = (verdicts(seconds, size) for size in ((256, 512), (512, 1024)))
    goal = {"of": "fcn_trt int8", "to": "torch eager", "asked": 5.0, "found": 5.6, "met": True}
    assert goal in small
    assert {**goal, "asked": ASKED["fcn_trt int8", "torch eager"][1], "met": False} in large
    assert [entry["of"] for entry in small] == ["fcn_trt fp32", "fcn_trt int8"]
    assert verdicts(seconds, (64, 64)) == []


def test_label_maps_of_another_size_are_no_peers():
    label_map = np.zeros((4, 6), np.uint8)
    assert agreement({"torch eager": label_map, "a": label_map.copy()})["a"] == 1
    with pytest.raises(ValueError, match=r"a gives \(4, 5\) uint8"):
        agreement({"torch eager": label_map, "a": label_map[:, :5]})
