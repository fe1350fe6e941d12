"""A real bundle, measured: what each figure means, and how they fit together."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fcn_trt.bench import measurement as module
from fcn_trt.bench.measurement import Measurement, beyond_network_share, measure_bundle
from fcn_trt.bench.worker import measure_in_process
from fcn_trt.engine.bundle import Compiled, load_bundle, write_bundle
from fcn_trt.engine.options import BuildOptions
from fcn_trt.errors import BundleError, EngineError
from fcn_trt.files import sha256
from tests.plans import as_network


@pytest.fixture(scope="module")
def measured(tiny_bundle) -> Measurement:
    return measure_bundle(tiny_bundle.path, frame_size=(48, 80), seconds=0.3)


def test_it_says_what_was_measured(measured, tiny_bundle):
    spec = tiny_bundle.manifest.spec
    assert (measured.model, measured.weights) == ("fcn_r18-d8", spec.weights)
    assert (measured.target, measured.precision, measured.batch) == ("openvino", "fp32", 1)
    assert (measured.input_size, measured.frame_size) == ((64, 96), (48, 80))
    assert measured.network_sha256 == sha256(tiny_bundle.network.path)
    assert measured.engine.startswith("OpenVINO ")
    assert measured.cost is not None
    assert sum(measured.gmac_by_type.values()) == pytest.approx(measured.cost.gmac, rel=1e-4)


def test_stages_come_in_the_order_of_a_frame(measured):
    assert list(measured.stages) == ["preprocess", "network", "decode", "overlay"]
    runs = {stage.runs for stage in measured.stages.values()}
    assert runs == {measured.label_map.runs} == {measured.picture.runs}
    for found in (*measured.stages.values(), measured.label_map, measured.picture):
        assert 0 < found.p50_ms <= found.p90_ms <= found.p99_ms
    assert measured.steadiness.runs == measured.label_map.runs >= 5


def test_throughput_and_memory_are_told(measured):
    assert measured.throughput_fps > 0
    assert measured.throughput_frames >= 5
    assert measured.memory.device_bytes is None
    if measured.memory.running_bytes is not None:
        assert measured.memory.running_bytes > 20e6  # Python and OpenVINO alone have more


def test_share_beyond_the_network_is_of_the_way_to_the_label_map():
    stages = {
        "preprocess": [1.0, 1.0, 3.0],
        "network": [8.0, 6.0, 6.0],
        "decode": [1.0, 1.0, 3.0],
        "overlay": [90.0, 90.0, 90.0],
    }
    # 2 of 10, 2 of 8 and 6 of 12; no label map needs the overlay.
    assert beyond_network_share(stages) == pytest.approx(0.25)


def test_frames_are_those_of_the_network_where_no_size_is_given(tiny_bundle):
    found = measure_bundle(tiny_bundle.path, frame_size=None, seconds=0.1)
    assert found.frame_size == found.input_size == (64, 96)


def test_batches_in_flight_are_whole(tiny_model, write_network, tmp_path):
    from fcn_trt.engine.openvino.builder import build_openvino

    network = write_network(tiny_model, tmp_path / "b.onnx", batch=2)
    bundle = build_openvino(as_network(network), tmp_path / "b")
    found = measure_bundle(bundle.path, frame_size=None, seconds=0.1)
    assert found.batch == 2
    assert found.throughput_frames % 2 == 0
    assert found.throughput_frames >= 10


def test_frames_are_given_for_so_long_and_in_whole_batches():
    frames = [np.zeros((1, 1, 3), np.uint8), np.ones((1, 1, 3), np.uint8)]
    ticks = iter(range(1000))
    found = list(module._frames_for(frames, seconds=12, batch=3, clock=lambda: float(next(ticks))))
    # The clock is looked at once before, and before each batch from the sixth on.
    assert len(found) == 3 * (5 + 11)
    assert [frame.max() for frame in found[:4]] == [0, 1, 0, 1]


def test_what_is_no_bundle_is_refused(tmp_path):
    with pytest.raises(BundleError, match="is no bundle"):
        measure_bundle(tmp_path, frame_size=None, seconds=0.1)


def test_bundle_for_another_machine_is_refused_before_anything_is_drawn(tiny_bundle, tmp_path):
    spec = tiny_bundle.manifest.spec
    compiled = Compiled(
        target="tensorrt",
        target_version="9.9.9",
        device="Orin",
        compute_capabilities=("8.7",),
        precision_proven=tiny_bundle.manifest.precision_proven,
        scratch_bytes=None,
        plan=b"plan",
    )
    network = replace(tiny_bundle.network, spec=spec)
    data = network.read_bytes()
    options = BuildOptions(compute_capabilities=("8.7",))
    path = tmp_path / "orin"
    write_bundle(path, network=network, data=data, compiled=compiled, options=options)
    with pytest.raises(BundleError, match="orin cannot run here: "):
        measure_bundle(path, frame_size=(1, 1), seconds=0.1)


def test_process_of_its_own_gives_the_same_kind_of_result(tiny_bundle):
    found = measure_in_process(tiny_bundle.path, frame_size=(48, 80), seconds=0.1)
    assert found.model == "fcn_r18-d8"
    assert found.frame_size == (48, 80)
    assert found.network_sha256 == sha256(load_bundle(tiny_bundle.path).network.path)
    assert list(found.stages) == ["preprocess", "network", "decode", "overlay"]


def test_error_in_the_process_is_its_sentence(tmp_path):
    with pytest.raises(EngineError, match=r"^.* is no bundle: .*; build one with .*$"):
        measure_in_process(tmp_path, frame_size=None, seconds=0.1)


def test_process_that_dies_is_named_with_its_signal(tiny_bundle, tmp_path, monkeypatch):
    """A Python that kills itself stands for one that the system kills for want of memory."""
    python = tmp_path / "python"
    for script, reason in (
        ("kill -9 $$", f"measuring {tiny_bundle.path} was ended by SIGKILL; perhaps it had too"),
        ("kill -11 $$", f"measuring {tiny_bundle.path} was ended by SIGSEGV"),
        ("exit 3", f"measuring {tiny_bundle.path} ended with status 3"),
        (
            "printf 'Traceback (most recent call last):\\n  x\\nKeyError: 1\\n' >&2; exit 1",
            f"measuring {tiny_bundle.path} should not have failed (KeyError: 1); please report it",
        ),
        ("echo '{}'", f"measuring {tiny_bundle.path} ended without a result"),
    ):
        python.write_text(f"#!/bin/sh\n{script}\n")
        python.chmod(0o755)
        monkeypatch.setattr("sys.executable", os.fspath(Path(python)))
        with pytest.raises(EngineError) as error:
            measure_in_process(tiny_bundle.path, frame_size=None, seconds=0.1)
        assert str(error.value).startswith(reason)
        assert "\n" not in str(error.value)
