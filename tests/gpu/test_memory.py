"""Buffers, streams, events and graphs on the GPU itself; tests/cuda has the fake driver's."""

from __future__ import annotations

import threading
from contextlib import closing

import numpy as np
import pytest

from fcn_trt.errors import EngineError


def test_bytes_come_back_as_they_were(arrays):
    content = np.random.default_rng(0).integers(0, 256, 12_345, dtype=np.uint8)
    np.testing.assert_array_equal(
        arrays.download(arrays.upload(content), content.shape, np.uint8), content
    )


def test_too_large_a_buffer_is_refused_in_the_drivers_words(device):
    from fcn_trt.cuda.memory import DeviceBuffer

    free, total = device.memory_bytes()
    with pytest.raises(EngineError, match="cuMemAlloc failed: out of memory"):
        DeviceBuffer(device, 2 * total)
    assert device.memory_bytes()[0] == pytest.approx(free, abs=64 << 20)


def test_buffer_is_refused_after_its_end(device):
    from fcn_trt.cuda.memory import DeviceBuffer

    buffer = DeviceBuffer(device, 64)
    buffer.close()
    buffer.close()
    with pytest.raises(RuntimeError, match="this device buffer is closed"):
        _ = buffer.address


def test_event_tells_the_time_of_a_fill(device, stream):
    from fcn_trt.cuda.memory import DeviceBuffer
    from fcn_trt.cuda.stream import Event

    with (
        closing(DeviceBuffer(device, 1 << 30)) as buffer,
        closing(Event(device, timing=True)) as start,
        closing(Event(device, timing=True)) as end,
    ):
        start.record(stream)
        buffer.fill_zero(stream)
        end.record(stream)
        end.synchronize()
        assert end.is_done()
        assert 0.01 < end.elapsed_ms(start) < 10_000


def test_graph_does_again_what_was_recorded(device, stream, arrays):
    from fcn_trt.cuda.graph import capture
    from fcn_trt.cuda.memory import copy_on_device

    source = arrays.upload(np.arange(1000, dtype=np.int32))
    target = arrays.room((1000,), np.int32)
    with closing(capture(stream, lambda: copy_on_device(target, source, 4000, stream))) as graph:
        assert (arrays.download(target, (4000,), np.uint8) == 0xEE).all()
        for _ in range(2):
            graph.launch(stream)
    found = arrays.download(target, (1000,), np.int32)
    np.testing.assert_array_equal(found, np.arange(1000))


def test_stream_works_on_after_a_capture_was_refused(device, stream, arrays):
    from fcn_trt.cuda.graph import CaptureRefusedError, capture

    with pytest.raises(CaptureRefusedError):
        capture(stream, stream.synchronize)
    content = np.arange(10, dtype=np.uint8)
    np.testing.assert_array_equal(arrays.download(arrays.upload(content), (10,), np.uint8), content)


def test_kernels_of_another_gpu_are_refused(device):
    from fcn_trt.cuda.launch import Kernels
    from fcn_trt.cuda.nvrtc import compile_kernel

    other = "7.5" if device.compute_capability != "7.5" else "8.7"
    with pytest.raises(EngineError, match=f"compute capability {device.compute_capability}"):
        Kernels(device, compile_kernel("overlay", other))


def test_every_thread_may_use_one_buffer(device):
    from fcn_trt.cuda.memory import DeviceBuffer
    from fcn_trt.cuda.stream import Stream

    problems: list[BaseException] = []
    with closing(DeviceBuffer(device, 1 << 20)) as buffer:

        def work() -> None:
            try:
                with closing(Stream(device)) as own:
                    for _ in range(100):
                        buffer.fill_zero(own)
                        own.synchronize()
            except EngineError as error:
                problems.append(error)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert not problems
