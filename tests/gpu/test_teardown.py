"""However a program ends, the GPU is left in order and its own error is the one that is told."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fcn_trt.errors import EngineError
from tests.gpu.executors import CopyEngine, copy_spec, random_frame, segmenter_of

ROOT = Path(__file__).parents[2]
WELL = [
    "closed",
    "open_at_exit",
    "in_flight_at_exit",
    "made_in_a_thread",
    "closed_in_a_thread",
    "torch_network",
]
NO_ORDER = (
    "PyCUDA",
    "context stack",
    "invalid",
    "destroyed",
    "Traceback",
    "while closing",
    "dumped",
)


def end(name):
    command = [sys.executable, "-m", "tests.gpu.endings", name]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("name", WELL)
def test_program_ends_in_silence(request, device, cubins, name):
    if name == "torch_network":
        request.getfixturevalue("torch")
    done = end(name)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "end\n"
    assert not [word for word in NO_ORDER if word in done.stderr], done.stderr


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("exception_in_flight", "LookupError: the caller's own"),
        ("engine_fails", "EngineError: this executor fails in run 2, as it was told to"),
    ],
)
def test_error_in_flight_is_the_one_that_is_told(device, cubins, name, told):
    done = end(name)
    assert done.returncode == 1, done.stderr
    assert done.stderr.rstrip().endswith(told)
    assert "while closing" not in done.stderr
    assert "PyCUDA" not in done.stderr


def test_close_under_a_working_thread_crashes_nothing(device, cubins):
    done = end("daemon_at_work")
    assert done.returncode == 0, done.stderr
    assert "end" in done.stdout


def test_failed_frame_leaves_the_backend_usable_and_its_end_clean(device, make_backend):
    spec = copy_spec((64, 96))
    engine = CopyEngine(spec, fails_at=2)
    backend = make_backend(spec, engine, slots=1)
    frame = random_frame((97, 131), 1)
    backend.submit(0, [frame])
    (expected,) = backend.collect(0)
    with pytest.raises(EngineError, match="fails in run 2"):
        backend.submit(0, [frame])
    for _ in range(4):
        backend.submit(0, [frame])
        assert (backend.collect(0)[0] == expected).all()
    backend.close()
    assert engine.is_closed


def test_memory_comes_back(device, make_backend):
    spec = copy_spec((512, 1024))
    before, _ = device.memory_bytes()
    backend = make_backend(spec, CopyEngine(spec))
    for slot in range(3):
        backend.submit(slot, [random_frame((1080, 1920), slot)])
        backend.collect(slot)
    held = before - device.memory_bytes()[0]
    assert held >= 30 << 20, "tensors and logits of three slots are missing"
    backend.close()
    assert before - device.memory_bytes()[0] <= 16 << 20


def test_capture_that_the_engine_refuses_is_told_once(make_backend, caplog):
    spec = copy_spec((64, 96))
    engine = CopyEngine(spec, fails_at=3)  # the third run is the one into the graph
    backend = make_backend(spec, engine, slots=1)
    frame = random_frame((97, 131), 2)
    label_maps = []
    for _ in range(6):
        backend.submit(0, [frame])
        label_maps.append(backend.collect(0)[0])
    assert len(caplog.messages) == 1
    assert "without a CUDA graph" in caplog.messages[0]
    assert engine.executors[0].runs == 7
    assert all((label_map == label_maps[0]).all() for label_map in label_maps)


def test_segmenter_works_for_one_thread_after_another(make_backend):
    spec = copy_spec((64, 96))
    segmenter = segmenter_of(spec, make_backend(spec, CopyEngine(spec)))
    frame = random_frame((97, 131), 3)
    expected = segmenter.segment(frame)
    found = []
    for _ in range(4):
        thread = threading.Thread(target=lambda: found.append(segmenter.segment(frame)))
        thread.start()
        thread.join(60)
    assert len(found) == 4
    assert all((label_map == expected).all() for label_map in found)
