"""Streams and events on the fake driver: order, waiting, time, and what fails."""

from __future__ import annotations

import pytest

from fcn_trt.cuda.memory import DeviceBuffer
from fcn_trt.cuda.stream import Event, Stream
from fcn_trt.errors import EngineError


@pytest.fixture
def streams(context):
    made = [Stream(context), Stream(context)]
    yield made
    for stream in made:
        stream.close()


def put(fake, stream, name, run):
    """What another library does with a stream's handle, in the context."""
    with stream.context.active():
        fake.enqueue(stream.handle, name, run)


def test_nothing_runs_before_it_is_waited_for(fake, streams):
    done = []
    put(fake, streams[0], "first", lambda: done.append(1))
    put(fake, streams[0], "second", lambda: done.append(2))
    assert done == []
    streams[0].synchronize()
    assert done == [1, 2]
    assert fake.names() == ["first", "second"]


def test_streams_have_their_own_order(fake, streams):
    done = []
    for number, stream in enumerate(streams):
        put(fake, stream, "work", lambda number=number: done.append(number))
    streams[1].synchronize()
    assert done == [1]
    streams[0].synchronize()
    assert done == [1, 0]
    assert streams[0].handle != streams[1].handle


def test_event_lets_a_stream_wait_for_another(fake, context, streams):
    done = []
    event = Event(context)
    put(fake, streams[0], "before", lambda: done.append("before"))
    event.record(streams[0])
    put(fake, streams[0], "after", lambda: done.append("after"))
    streams[1].wait(event)
    put(fake, streams[1], "waiter", lambda: done.append("waiter"))
    streams[1].synchronize()
    assert done == ["before", "waiter"]
    streams[0].synchronize()
    assert done == ["before", "waiter", "after"]
    event.close()


def test_event_is_done_when_the_work_before_it_is(fake, context, streams):
    done = []
    event = Event(context)
    put(fake, streams[0], "before", lambda: done.append("before"))
    event.record(streams[0])
    put(fake, streams[0], "after", lambda: done.append("after"))
    assert not event.is_done()
    event.synchronize()
    assert done == ["before"]
    assert event.is_done()
    event.close()
    streams[0].synchronize()


def test_asking_an_event_until_it_is_done_ends(fake, context, streams):
    event = Event(context)
    put(fake, streams[0], "before", lambda: None)
    event.record(streams[0])
    asked = 1
    while not event.is_done():
        asked += 1
        assert asked < 10
    event.close()


def test_stream_waits_for_one_of_another_library(fake, streams):
    done = []
    foreign = fake.foreign_stream()
    with streams[0].context.active():
        fake.enqueue(foreign, "theirs", lambda: done.append("theirs"))
    streams[0].wait_for_handle(foreign)
    put(fake, streams[0], "ours", lambda: done.append("ours"))
    streams[0].synchronize()
    assert done == ["theirs", "ours"]


@pytest.mark.parametrize("routine", ["cuEventCreate", "cuEventRecord", "cuStreamWaitEvent"])
def test_failed_wait_for_another_library_leaves_no_event(fake, streams, routine):
    foreign = fake.foreign_stream()
    fake.fail(routine, "INVALID_HANDLE")
    with pytest.raises(EngineError, match="CUDA_ERROR_INVALID_HANDLE: invalid resource handle"):
        streams[0].wait_for_handle(foreign)
    assert not fake.events


def test_elapsed_time_is_the_gpus(context, streams):
    first, last = Event(context, timing=True), Event(context, timing=True)
    first.record(streams[0])
    last.record(streams[0])
    streams[0].synchronize()
    # The fake's clock ticks once per event.
    assert last.elapsed_ms(first) == 1.0
    assert first.elapsed_ms(last) == -1.0
    first.close()
    last.close()


def test_time_needs_events_made_for_it(context, streams):
    first, last = Event(context), Event(context, timing=True)
    with pytest.raises(ValueError, match="timing=True"):
        last.elapsed_ms(first)
    with pytest.raises(ValueError, match="timing=True"):
        first.elapsed_ms(last)
    first.close()
    last.close()


def test_time_of_events_that_are_not_done_is_refused(context, streams):
    first, last = Event(context, timing=True), Event(context, timing=True)
    with pytest.raises(EngineError, match="cuEventElapsedTime failed: invalid resource handle"):
        last.elapsed_ms(first)
    first.record(streams[0])
    last.record(streams[0])
    with pytest.raises(EngineError, match="cuEventElapsedTime failed: device not ready"):
        last.elapsed_ms(first)
    streams[0].synchronize()
    first.close()
    last.close()


@pytest.mark.parametrize(
    ("routine", "work"),
    [
        ("cuStreamCreate", lambda context: Stream(context)),
        ("cuEventCreate", lambda context: Event(context)),
    ],
)
def test_failed_constructor_holds_nothing(fake, context, routine, work):
    fake.fail(routine, "OUT_OF_MEMORY")
    with pytest.raises(EngineError, match=f"{routine} failed: out of memory"):
        work(context)
    assert fake.leaks() == []
    work(context).close()


@pytest.mark.parametrize(
    ("routine", "work"),
    [
        ("cuEventRecord", lambda stream, event: event.record(stream)),
        ("cuEventSynchronize", lambda _, event: event.synchronize()),
        ("cuEventQuery", lambda _, event: event.is_done()),
        ("cuStreamWaitEvent", lambda stream, event: stream.wait(event)),
        ("cuStreamSynchronize", lambda stream, _: stream.synchronize()),
    ],
)
def test_failed_call_is_told_and_the_next_one_works(fake, context, streams, routine, work):
    event = Event(context)
    event.record(streams[0])
    fake.fail(routine, "LAUNCH_FAILED")
    with pytest.raises(EngineError, match=f"{routine} failed: unspecified launch failure"):
        work(streams[0], event)
    work(streams[0], event)
    event.close()
    streams[0].synchronize()


def test_closed_event_is_refused(context, streams):
    event = Event(context)
    event.close()
    event.close()
    for work in (event.synchronize, event.is_done, lambda: event.record(streams[0])):
        with pytest.raises(RuntimeError, match=r"^this event is closed$"):
            work()
    with pytest.raises(RuntimeError, match=r"^this event is closed$"):
        streams[0].wait(event)


def test_closed_stream_is_refused(context):
    stream, event = Stream(context), Event(context)
    stream.close()
    buffer = DeviceBuffer(context, 4)
    for work in (
        lambda: stream.handle,
        lambda: event.record(stream),
        lambda: stream.wait_for_handle(1),
        lambda: buffer.fill_zero(stream),
    ):
        with pytest.raises(RuntimeError, match=r"^this stream is closed$"):
            work()
    event.close()
    buffer.close()
