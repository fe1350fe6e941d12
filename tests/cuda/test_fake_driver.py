"""The fake catches each misuse that it is there for; used as PyCUDA and cuda-bindings are."""

from __future__ import annotations

import gc
import threading
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from tests.cuda.fake_driver import fake_modules, installed_fake
from tests.cuda.fake_gpu import FakeGpu
from tests.cuda.fake_state import FakeDriverMisuse


@pytest.fixture
def gpu():
    return FakeGpu()


@pytest.fixture
def use(gpu):
    """Both modules with the context pushed in this thread."""
    modules = fake_modules(gpu)
    cuda = modules["pycuda.driver"]
    primary = cuda.Device(0).retain_primary_context()
    primary.push()
    used = SimpleNamespace(cuda=cuda, graphs=modules["cuda.bindings.driver"], primary=primary)
    yield used
    if primary.is_valid:
        while gpu.thread().pycuda:
            cuda.Context.pop()
        primary.push()
        primary.detach()


def in_thread(work):
    thread = threading.Thread(target=work, name="worker")
    thread.start()
    thread.join(timeout=20)


def test_double_free(gpu, use):
    memory = use.cuda.mem_alloc(8)
    memory.free()
    with gpu.expect_misuse("cuMemFree: double free of device memory"):
        memory.free()


def test_double_free_of_pinned_memory(gpu, use):
    array = use.cuda.pagelocked_empty(8, np.uint8)
    array.base.free()
    with gpu.expect_misuse("cuMemFreeHost: double free of pinned memory"):
        array.base.free()


def test_graph_destroyed_twice_and_launched_after(gpu, use):
    stream = use.cuda.Stream(1)
    use.graphs.cuStreamBeginCapture(stream.handle, 1)
    recording = use.graphs.cuStreamEndCapture(stream.handle)[1]
    graph = use.graphs.cuGraphInstantiate(recording, 0)[1]
    assert use.graphs.cuGraphExecDestroy(graph) == (0,)
    with gpu.expect_misuse("cuGraphExecDestroy: destroyed twice"):
        use.graphs.cuGraphExecDestroy(graph)
    with gpu.expect_misuse("cuGraphLaunch: the graph was destroyed"):
        use.graphs.cuGraphLaunch(graph, stream.handle)
    use.graphs.cuGraphDestroy(recording)
    with gpu.expect_misuse("cuGraphInstantiate: the recording was destroyed"):
        use.graphs.cuGraphInstantiate(recording, 0)
    del stream


def test_use_after_free(gpu, use):
    stream, memory = use.cuda.Stream(1), use.cuda.mem_alloc(8)
    address = int(memory)
    memory.free()
    with gpu.expect_misuse("cuMemsetD8Async: device memory is used after it was freed"):
        use.cuda.memset_d8_async(address, 0, 8, stream)
    del stream


def test_freed_memory_is_overwritten(gpu, use):
    array = use.cuda.pagelocked_empty(8, np.uint8)
    array[:] = 1
    array.base.free()
    assert (array == 0xDD).all()


def test_free_while_work_uses_it(gpu, use):
    stream, memory = use.cuda.Stream(1), use.cuda.mem_alloc(8)
    use.cuda.memset_d8_async(int(memory), 0, 8, stream)
    with gpu.expect_misuse("freed while work that uses it is under way"):
        memory.free()
    with gpu.expect_misuse("device memory was freed before it ran"):
        stream.synchronize()
    del stream


def test_free_before_the_graph_that_uses_it(gpu, use):
    stream, memory = use.cuda.Stream(1), use.cuda.mem_alloc(8)
    use.graphs.cuStreamBeginCapture(stream.handle, 1)
    use.cuda.memset_d8_async(int(memory), 0, 8, stream)
    recording = use.graphs.cuStreamEndCapture(stream.handle)[1]
    graph = use.graphs.cuGraphInstantiate(recording, 0)[1]
    with gpu.expect_misuse("freed before the graph that uses it"):
        memory.free()
    with gpu.expect_misuse("cuGraphLaunch: memory of cuMemsetD8Async was freed"):
        use.graphs.cuGraphLaunch(graph, stream.handle)
    use.graphs.cuGraphExecDestroy(graph)
    use.graphs.cuGraphDestroy(recording)
    del stream


def test_free_during_a_capture(gpu, use):
    stream, memory = use.cuda.Stream(1), use.cuda.mem_alloc(8)
    use.graphs.cuStreamBeginCapture(stream.handle, 1)
    with gpu.expect_misuse("freeing during a capture"):
        memory.free()
    use.graphs.cuGraphDestroy(use.graphs.cuStreamEndCapture(stream.handle)[1])
    del stream


def test_module_unloaded_before_its_kernel_ran(gpu, use, small_module):
    stream, memory = use.cuda.Stream(1), use.cuda.mem_alloc(8)
    module = use.cuda.module_from_buffer(small_module)
    overrun = module.get_function("overrun").prepare("Pi")
    overrun.prepared_async_call((1, 1, 1), (1, 1, 1), stream, int(memory), 0)
    del overrun, module
    assert not gpu.modules
    with gpu.expect_misuse("overrun: its module was unloaded before it ran"):
        stream.synchronize()
    memory.free()
    del stream


def test_stream_destroyed_while_it_captures(gpu, use):
    stream = use.cuda.Stream(1)
    use.graphs.cuStreamBeginCapture(stream.handle, 1)
    with gpu.expect_misuse("cuStreamDestroy: the stream is capturing"):
        del stream


def test_leaks_are_found(gpu, use):
    kept = [use.cuda.mem_alloc(8), use.cuda.pagelocked_empty(4, np.uint8), use.cuda.Stream(1)]
    kept.append(use.cuda.Event())
    assert gpu.leaks() == [
        "8 bytes of device memory",
        "4 bytes of pinned memory",
        "stream 0",
        "event",
    ]
    with pytest.raises(AssertionError, match="8 bytes of device memory"):
        gpu.assert_clean()
    with gpu.expect_misuse("the context was released before ['8 bytes of device memory'"):
        use.primary.detach()


def test_memory_left_to_the_garbage_collector(gpu, use):
    memory = use.cuda.mem_alloc(8)
    with gpu.expect_misuse("device memory was left to the garbage collector"):
        del memory
        gc.collect()


def test_thread_that_ends_inside_a_context(gpu, use):
    in_thread(use.primary.push)
    use.cuda.Context.pop()
    use.primary.push()
    use.primary.detach()
    use.graphs.cuCtxPopCurrent()
    with pytest.raises(AssertionError, match="PyCUDA aborts the process: worker ended inside"):
        gpu.assert_clean()


def test_context_left_current_by_a_release(gpu, use):
    """What `fcn_trt.cuda.context` cleans up after PyCUDA."""
    use.primary.detach()
    with pytest.raises(AssertionError, match="a context is left current in MainThread"):
        gpu.assert_clean()
    use.graphs.cuCtxPopCurrent()
    gpu.assert_clean()


def test_detaching_in_another_thread(gpu, use):
    use.cuda.Context.pop()
    with gpu.expect_misuse("Context.detach: in another thread it releases nothing"):
        in_thread_raising(use.primary.detach)


def in_thread_raising(work):
    raised = []

    def run():
        try:
            work()
        except FakeDriverMisuse as error:
            raised.append(error)

    in_thread(run)
    raise raised[0]


@pytest.mark.parametrize(
    "work",
    [
        lambda cuda: cuda.mem_alloc(8),
        lambda cuda: cuda.pagelocked_empty(8, np.uint8),
        lambda cuda: cuda.mem_get_info(),
        lambda cuda: cuda.Stream(1),
        lambda cuda: cuda.Event(),
    ],
)
def test_thread_without_a_context(gpu, use, work):
    with gpu.expect_misuse("no"):
        in_thread_raising(lambda: work(use.cuda))


def test_freeing_with_another_context_current(gpu, use):
    memory, stream = use.cuda.mem_alloc(8), use.cuda.Stream(1)
    other = use.cuda.Device(0).retain_primary_context()
    other.push()
    with gpu.expect_misuse("DeviceAllocation: freed with another context current"):
        memory.free()
    with gpu.expect_misuse("Stream: freed with another context current"):
        del stream
    other.detach()


def test_stream_freed_without_a_context(gpu, use):
    stream, event = use.cuda.Stream(1), use.cuda.Event()
    use.cuda.Context.pop()
    with gpu.expect_misuse("Stream: freed with another context current"):
        del stream
    with gpu.expect_misuse("Event: freed with another context current"):
        del event


def test_teardown_in_the_wrong_order(gpu, use):
    stream = use.cuda.Stream(1)
    with gpu.expect_misuse("the context was released before ['stream 0']"):
        use.primary.detach()
    with gpu.expect_misuse("Stream: freed after its context was released"):
        del stream


def test_copy_of_pageable_memory(gpu, use):
    stream, memory = use.cuda.Stream(1), use.cuda.mem_alloc(8)
    pageable = np.zeros(8, np.uint8)
    with gpu.expect_misuse("cuMemcpyHtoDAsync: an asynchronous copy with pageable memory"):
        use.cuda.memcpy_htod_async(int(memory), pageable, stream)
    with gpu.expect_misuse("cuMemcpyDtoHAsync: an asynchronous copy with pageable memory"):
        use.cuda.memcpy_dtoh_async(pageable, int(memory), stream)
    memory.free()
    del stream


def test_copy_beyond_the_end(gpu, use):
    stream, memory = use.cuda.Stream(1), use.cuda.mem_alloc(8)
    with gpu.expect_misuse("9 bytes run over the end of device memory"):
        use.cuda.memset_d8_async(int(memory), 0, 9, stream)
    with gpu.expect_misuse("8 bytes run over the end of device memory"):
        use.cuda.memset_d8_async(int(memory) + 1, 0, 8, stream)
    memory.free()
    del stream


def test_pinned_memory_that_is_not_mapped_is_no_address(gpu, use):
    stream, array = use.cuda.Stream(1), use.cuda.pagelocked_empty(8, np.uint8)
    with gpu.expect_misuse("is no memory of the GPU"):
        use.cuda.memset_d8_async(array.ctypes.data, 0, 8, stream)
    array.base.free()
    del stream


def test_write_beyond_the_end_by_the_host(gpu, use):
    array = use.cuda.pagelocked_empty(8, np.uint8)
    beyond = np.lib.stride_tricks.as_strided(array, (9,))
    beyond[8] = 1
    with gpu.expect_misuse("something wrote beyond pinned memory"):
        array.base.free()


def test_event_that_was_never_recorded(gpu, use):
    stream, event = use.cuda.Stream(1), use.cuda.Event()
    for work in (event.synchronize, event.query, partial(stream.wait_for_event, event)):
        with gpu.expect_misuse("the event was never recorded"):
            work()


def test_time_of_events_without_timing(gpu, use):
    stream = use.cuda.Stream(1)
    events = [use.cuda.Event(use.cuda.event_flags.DISABLE_TIMING) for _ in range(2)]
    for event in events:
        event.record(stream)
    stream.synchronize()
    with pytest.raises(use.cuda.LogicError, match="cuEventElapsedTime failed: invalid resource"):
        events[1].time_since(events[0])
    events.clear()
    del stream, event


def test_default_stream(gpu, use):
    memory = use.cuda.mem_alloc(8)
    with gpu.expect_misuse("on the default stream"):
        use.cuda.memset_d8_async(int(memory), 0, 8)
    with gpu.expect_misuse("waits for the default stream"):
        use.cuda.Stream()
    memory.free()


def test_capture_ended_by_another_thread(gpu, use):
    stream = use.cuda.Stream(1)
    use.graphs.cuStreamBeginCapture(stream.handle, 1)
    found = []
    handle = stream.handle

    def end():
        use.primary.push()
        found.extend(use.graphs.cuStreamEndCapture(handle))
        use.cuda.Context.pop()

    in_thread(end)
    assert found == [908, None]
    use.graphs.cuGraphDestroy(use.graphs.cuStreamEndCapture(stream.handle)[1])
    del stream


def test_injected_errors_have_pycudas_classes(gpu, use):
    for status, kind in (
        ("OUT_OF_MEMORY", use.cuda.MemoryError),
        ("LAUNCH_FAILED", use.cuda.LaunchError),
        ("NO_BINARY_FOR_GPU", use.cuda.RuntimeError),
        ("INVALID_VALUE", use.cuda.LogicError),
    ):
        gpu.fail("cuMemAlloc", status)
        with pytest.raises(kind, match=r"^cuMemAlloc failed: "):
            use.cuda.mem_alloc(4)


def test_fixture_refuses_a_leak_and_a_misuse(monkeypatch):
    from fcn_trt.cuda.context import primary_context
    from fcn_trt.cuda.memory import DeviceBuffer

    kept = []
    with pytest.raises(AssertionError, match="4 bytes of device"), installed_fake(monkeypatch):
        kept.append(DeviceBuffer(primary_context(), 4))
    with pytest.raises(AssertionError, match="wrong"), installed_fake(monkeypatch) as gpu:
        gpu.misuse("something wrong")
