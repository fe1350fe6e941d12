"""Graphs on the fake driver: what is recorded, run again, refused, and cleaned up."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from fcn_trt.cuda.graph import CaptureRefusedError, capture
from fcn_trt.cuda.memory import DeviceBuffer, PinnedBuffer, copy_to_device, copy_to_host
from fcn_trt.cuda.stream import Event, Stream
from fcn_trt.errors import EngineError


class Slot:
    """What one frame needs: bytes go to the GPU and back."""

    def __init__(self, context):
        self.stream = Stream(context)
        self.there = PinnedBuffer(context, 16)
        self.device = DeviceBuffer(context, 16)
        self.back = PinnedBuffer(context, 16)

    def work(self):
        copy_to_device(self.device.address, self.there, 16, self.stream)
        copy_to_host(self.back, self.device.address, 16, self.stream)

    def close(self):
        for thing in (self.back, self.device, self.there, self.stream):
            thing.close()


@pytest.fixture
def slot(context):
    made = Slot(context)
    yield made
    made.close()


def assert_usable(slot, value):
    """The plain way still works on the slot's stream."""
    slot.there.array[:] = value
    slot.work()
    slot.stream.synchronize()
    assert (slot.back.array == value).all()


def test_recorded_work_runs_only_when_launched_and_each_time(fake, slot):
    graph = capture(slot.stream, slot.work)
    slot.back.array[:] = 99
    slot.stream.synchronize()
    assert (slot.back.array == 99).all()
    assert fake.names() == []
    for value in range(3):
        slot.there.array[:] = value
        graph.launch(slot.stream)
        assert (slot.back.array == (99 if value == 0 else value - 1)).all()
        slot.stream.synchronize()
        assert (slot.back.array == value).all()
    assert fake.names() == ["cuMemcpyHtoDAsync", "cuMemcpyDtoHAsync"] * 3
    assert not fake.recordings
    graph.close()


def test_graph_computes_what_plain_launches_do(slot):
    content = np.random.default_rng(0).integers(0, 256, (10, 16))
    graph = capture(slot.stream, slot.work)
    for values in content:
        slot.there.array[:] = values
        graph.launch(slot.stream)
        slot.stream.synchronize()
        assert (slot.back.array == values).all()
        assert_usable(slot, 3)
    graph.close()


def test_graphs_of_two_slots_run_beside_each_other(fake, context):
    slots = [Slot(context), Slot(context)]
    graphs = [capture(slot.stream, slot.work) for slot in slots]
    for value, (slot, graph) in enumerate(zip(slots, graphs, strict=True)):
        slot.there.array[:] = value
        graph.launch(slot.stream)
    slots[1].stream.synchronize()
    assert fake.names(stream=0) == []
    assert len(fake.names(stream=1)) == 2
    slots[0].stream.synchronize()
    assert [slot.back.array[0] for slot in slots] == [0, 1]
    for thing in graphs + slots:
        thing.close()


@pytest.mark.parametrize(
    "routine",
    ["cuStreamBeginCapture", "cuMemcpyDtoHAsync", "cuStreamEndCapture", "cuGraphInstantiate"],
)
def test_refused_capture_is_told_and_leaves_a_working_stream(fake, slot, routine):
    fake.fail(routine, "NOT_SUPPORTED")
    held = fake.leaks()
    with pytest.raises(CaptureRefusedError, match="operation not supported"):
        capture(slot.stream, slot.work)
    assert fake.leaks() == held
    assert_usable(slot, 5)
    graph = capture(slot.stream, slot.work)
    graph.close()


@pytest.mark.parametrize(
    ("forbidden", "words"),
    [
        (lambda slot: DeviceBuffer(slot.stream.context, 4), "cuMemAlloc failed: operation not"),
        (lambda slot: PinnedBuffer(slot.stream.context, 4), "cuMemHostAlloc failed: operation not"),
        (lambda slot: slot.stream.synchronize(), "cuStreamSynchronize failed: operation not"),
    ],
)
def test_what_cannot_be_recorded_is_refused(fake, slot, forbidden, words):
    def work():
        slot.work()
        forbidden(slot)

    held = fake.leaks()
    with pytest.raises(CaptureRefusedError, match=f"{words} permitted when stream is capturing"):
        capture(slot.stream, work)
    assert fake.leaks() == held
    assert_usable(slot, 6)


def test_error_that_work_swallowed_still_refuses(slot):
    def work():
        with pytest.raises(EngineError):
            slot.stream.synchronize()

    with pytest.raises(CaptureRefusedError, match="CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"):
        capture(slot.stream, work)
    assert_usable(slot, 7)


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_error_of_the_callers_own_passes_unchanged(fake, slot, error):
    def work():
        slot.work()
        raise error

    with pytest.raises(error):
        capture(slot.stream, work)
    assert not fake.recordings
    assert_usable(slot, 8)


def test_first_error_is_not_hidden_when_ending_fails(fake, slot):
    def work():
        fake.fail("cuStreamEndCapture", "LAUNCH_FAILED")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        capture(slot.stream, work)
    assert_usable(slot, 2)


def test_another_thread_may_allocate_during_a_capture(fake, slot):
    made = []

    def work():
        slot.work()
        thread = threading.Thread(target=lambda: made.append(DeviceBuffer(slot.stream.context, 4)))
        thread.start()
        thread.join(timeout=20)

    capture(slot.stream, work).close()
    assert len(made) == 1
    made[0].close()


def test_stream_that_captures_waits_for_no_uncaptured_event(context, slot):
    event, other = Event(context), Stream(context)
    event.record(other)
    words = "cuStreamWaitEvent failed: dependency created on uncaptured work"
    with pytest.raises(CaptureRefusedError, match=words):
        capture(slot.stream, lambda: slot.stream.wait(event))
    assert_usable(slot, 9)
    for thing in (event, other):
        thing.close()


def test_event_recorded_in_a_capture_cannot_be_waited_for(context, slot):
    event = Event(context)
    graph = capture(slot.stream, lambda: event.record(slot.stream))
    with pytest.raises(EngineError, match="an event last recorded in a capturing stream"):
        event.synchronize()
    graph.close()
    event.close()


def test_failed_launch_is_told_and_the_next_one_works(fake, slot):
    graph = capture(slot.stream, slot.work)
    fake.fail("cuGraphLaunch", "LAUNCH_FAILED")
    words = "^cannot launch a graph: CUDA_ERROR_LAUNCH_FAILED: unspecified launch failure$"
    with pytest.raises(EngineError, match=words):
        graph.launch(slot.stream)
    slot.there.array[:] = 4
    graph.launch(slot.stream)
    slot.stream.synchronize()
    assert (slot.back.array == 4).all()
    graph.close()


def test_failing_clean_up_is_logged(fake, slot, caplog):
    fake.fail("cuGraphDestroy", "LAUNCH_FAILED")
    fake.fail("cuGraphExecDestroy", "INVALID_VALUE")
    capture(slot.stream, slot.work).close()
    assert "cannot free a recording: CUDA_ERROR_LAUNCH_FAILED" in caplog.text
    assert "cannot free a graph: CUDA_ERROR_INVALID_VALUE: invalid argument" in caplog.text


def test_failing_clean_up_does_not_hide_why_a_capture_was_refused(fake, slot, caplog):
    fake.fail("cuGraphInstantiate", "OUT_OF_MEMORY")
    fake.fail("cuGraphDestroy", "LAUNCH_FAILED")
    with pytest.raises(CaptureRefusedError, match=r"CUDA_ERROR_OUT_OF_MEMORY: out of memory$"):
        capture(slot.stream, slot.work)
    assert "CUDA_ERROR_LAUNCH_FAILED" in caplog.text


def test_closed_graph_and_stream_are_refused(context, slot):
    graph = capture(slot.stream, slot.work)
    closed = Stream(context)
    closed.close()
    with pytest.raises(RuntimeError, match=r"^this stream is closed$"):
        graph.launch(closed)
    with pytest.raises(RuntimeError, match=r"^this stream is closed$"):
        capture(closed, slot.work)
    graph.close()
    graph.close()
    with pytest.raises(RuntimeError, match=r"^this graph is closed$"):
        graph.launch(slot.stream)
