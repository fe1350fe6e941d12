"""`benchmarks.peers`: that all of them give the same label maps, and what is made of the times."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torchvision", reason="needs the extra: pip install 'fcn-trt[export]'")
pytest.importorskip("onnxruntime", reason="needs the extra: pip install 'fcn-trt[dev]'")

from benchmarks.measure import command_line
from benchmarks.peers import ASKED, agreement, times_as_fast, verdicts
from fcn_trt.bench.result_file import read_result

ROOT = Path(__file__).parents[2]


@pytest.mark.exhaustive
def test_peers_give_the_same_label_maps_and_the_file_says_on_what(tmp_path):
    out = tmp_path / "peers.json"
    names = ["torch eager", "ONNX Runtime", "OpenVINO fp32", "OpenVINO no aux"]
    names += ["fcn_trt fp32", "fcn_trt int8"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.peers", "--size", "96x160", "--runs", "1"]
        + [word for name in names for word in ("--only", name)]
        + ["--out", str(out), "--ceiling-seconds", "0.1", "--seconds", "0"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = read_result(out)
    assert found.command.startswith("python -m benchmarks.peers --size 96x160 --runs 1 --only")
    assert str(tmp_path) not in found.command
    (row,) = found.results
    assert list(row["cases"]) == names
    same = {name: case["labels_as_torch"] for name, case in row["cases"].items()}
    assert same["torch eager"] == 1
    for name in set(names) - {"fcn_trt int8"}:
        assert same[name] >= 0.999, name  # sums in another order break ties
    own = row["cases"][names[-1]]
    assert list(own["stages_ms"]) == ["preprocess", "network", "decode", "overlay"]
    assert 0 < own["share_not_network"] < 1
    assert names[-1] in done.stdout


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
    unmeasured = [(entry["of"], entry["to"]) for entry in small if entry["met"] is None]
    assert ("fcn_trt int8", "ONNX Runtime") in unmeasured
    assert ("fcn_trt int8", "torch eager") not in unmeasured
    assert verdicts(seconds, (64, 64)) == []


def test_label_maps_of_another_size_are_no_peers():
    label_map = np.zeros((4, 6), np.uint8)
    assert agreement({"torch eager": label_map, "a": label_map.copy()})["a"] == 1
    with pytest.raises(ValueError, match=r"a gives \(4, 5\) uint8"):
        agreement({"torch eager": label_map, "a": label_map[:, :5]})


def test_fp32_with_other_labels_is_no_peer_and_int8_may_differ():
    label_map, other = np.zeros((4, 6), np.uint8), np.ones((4, 6), np.uint8)
    assert agreement({"torch eager": label_map, "fcn_trt int8": other})["fcn_trt int8"] == 0
    with pytest.raises(ValueError, match=r"OpenVINO fp32 labels 0\.00% of the pixels as torch"):
        agreement({"torch eager": label_map, "OpenVINO fp32": other})


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        ([], "python -m benchmarks.peers"),
        (["--out", "/home/me/r.json"], "python -m benchmarks.peers"),
        (["--out=/home/me/r.json", "--runs", "3"], "python -m benchmarks.peers --runs 3"),
        (["--video", "/home/me/a b.mp4"], "python -m benchmarks.peers --video 'a b.mp4'"),
    ],
)
def test_command_is_what_was_run_without_anybodys_folders(arguments, command):
    assert command_line("benchmarks.peers", arguments) == command
