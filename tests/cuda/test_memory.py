"""Buffers, copies and arrays of other libraries, on the fake driver."""

from __future__ import annotations

import numpy as np
import pytest

from fcn_trt.cuda.context import primary_context
from fcn_trt.cuda.memory import (
    DeviceArray,
    DeviceBuffer,
    PinnedBuffer,
    copy_on_device,
    copy_to_device,
    copy_to_host,
    device_array,
)
from fcn_trt.cuda.stream import Stream
from fcn_trt.errors import EngineError


@pytest.fixture
def stream(context):
    made = Stream(context)
    yield made
    made.close()


@pytest.fixture
def buffers(context):
    """Two pinned buffers of 100 bytes and two of the GPU's."""
    made = [kind(context, 100) for kind in (PinnedBuffer, PinnedBuffer, DeviceBuffer, DeviceBuffer)]
    yield made
    for buffer in made:
        buffer.close()


class OnGpu:
    """An array of another library."""

    def __init__(self, **interface):
        self.__cuda_array_interface__ = {
            "shape": (2, 3),
            "typestr": "<f4",
            "data": (4096, False),
            "version": 3,
            **interface,
        }


def test_bytes_make_the_round_trip(fake, stream, buffers):
    there, back, first, second = buffers
    there.array[:] = np.arange(100)
    back.array[:] = 255
    copy_to_device(first.address, there, 100, stream)
    copy_on_device(second.address, first.address, 100, stream)
    copy_to_host(back, second.address, 60, stream)
    assert (back.array == 255).all()
    stream.synchronize()
    assert (back.array[:60] == np.arange(60)).all()
    assert (back.array[60:] == 255).all()
    assert fake.names() == ["cuMemcpyHtoDAsync", "cuMemcpyDtoDAsync", "cuMemcpyDtoHAsync"]


def test_source_is_read_when_the_copy_runs(stream, buffers):
    there, back, first, _ = buffers
    there.array[:] = 1
    copy_to_device(first.address, there, 100, stream)
    there.array[:] = 2
    copy_to_host(back, first.address, 100, stream)
    stream.synchronize()
    assert (back.array == 2).all()


def test_part_of_a_buffer_is_copied(stream, buffers):
    there, back, first, _ = buffers
    there.array[:] = 3
    first.fill_zero(stream)
    copy_to_device(first.address, there, 40, stream)
    copy_to_host(back, first.address, 100, stream)
    stream.synchronize()
    assert (back.array[:40] == 3).all()
    assert (back.array[40:] == 0).all()


def test_buffer_is_filled_with_zeros(stream, buffers):
    _, back, first, _ = buffers
    first.fill_zero(stream)
    copy_to_host(back, first.address, 100, stream)
    stream.synchronize()
    assert (back.array == 0).all()


def test_pinned_buffer_is_an_array_of_bytes(buffers):
    array = buffers[0].array
    assert array.shape == (100,)
    assert array.dtype == np.uint8
    array[3] = 7
    assert buffers[0].array[3] == 7
    assert buffers[0].device_address is None


def test_integrated_gpu_uses_pinned_memory_in_place(integrated_fake):
    context = primary_context()
    buffer = PinnedBuffer(context, 64)
    stream = Stream(context)
    assert buffer.device_address == buffer.array.ctypes.data
    other = DeviceBuffer(context, 64)
    other.fill_zero(stream)
    copy_on_device(buffer.device_address, other.address, 64, stream)
    stream.synchronize()
    assert (buffer.array == 0).all()
    for thing in (buffer, other, stream):
        thing.close()
    with pytest.raises(RuntimeError, match=r"^this pinned buffer is closed$"):
        _ = buffer.device_address


def test_failed_mapping_frees_the_memory(integrated_fake):
    integrated_fake.fail("cuMemHostGetDevicePointer", "NOT_SUPPORTED")
    words = "cuMemHostGetDevicePointer failed: operation not supported"
    with pytest.raises(EngineError, match=words):
        PinnedBuffer(primary_context(), 64)
    assert integrated_fake.leaks() == []


@pytest.mark.parametrize(
    ("routine", "kind", "words"),
    [
        ("cuMemAlloc", DeviceBuffer, "cannot allocate 64 bytes on the GPU: cuMemAlloc failed"),
        ("cuMemHostAlloc", PinnedBuffer, "cannot allocate 64 bytes of page-locked memory: cuMemH"),
    ],
)
def test_failed_allocation_is_told_and_holds_nothing(fake, context, routine, kind, words):
    first = kind(context, 64)
    fake.fail(routine, "OUT_OF_MEMORY", call=2)
    second = kind(context, 64)
    with pytest.raises(EngineError, match=f"^{words}.*out of memory$"):
        kind(context, 64)
    first.close()
    second.close()
    assert fake.leaks() == []


def test_more_than_the_gpu_has_is_refused(fake, context):
    with pytest.raises(EngineError, match="cannot allocate 4294967296 bytes on the GPU"):
        DeviceBuffer(context, 1 << 32)


@pytest.mark.parametrize("kind", [DeviceBuffer, PinnedBuffer])
def test_buffer_without_bytes_is_refused(context, kind):
    for size_bytes in (0, -1):
        with pytest.raises(ValueError, match=f"at least 1 byte, not {size_bytes}"):
            kind(context, size_bytes)


@pytest.mark.parametrize(
    ("routine", "work"),
    [
        ("cuMemcpyHtoDAsync", lambda p, d, s: copy_to_device(d.address, p, 100, s)),
        ("cuMemcpyDtoHAsync", lambda p, d, s: copy_to_host(p, d.address, 100, s)),
        ("cuMemcpyDtoDAsync", lambda _, d, s: copy_on_device(d.address, d.address, 100, s)),
        ("cuMemsetD8Async", lambda _, d, s: d.fill_zero(s)),
    ],
)
def test_failed_copy_is_told_and_the_next_one_works(fake, stream, buffers, routine, work):
    fake.fail(routine, "ILLEGAL_ADDRESS")
    with pytest.raises(EngineError, match=f"{routine} failed: an illegal memory access"):
        work(buffers[0], buffers[2], stream)
    assert fake.names("put") == []
    work(buffers[0], buffers[2], stream)
    stream.synchronize()


@pytest.mark.parametrize("size_bytes", [0, -5, 101])
def test_copy_that_does_not_fit_is_refused(stream, buffers, size_bytes):
    words = f"a copy of {size_bytes} bytes does not fit a pinned buffer of 100"
    with pytest.raises(ValueError, match=words):
        copy_to_device(buffers[2].address, buffers[0], size_bytes, stream)
    with pytest.raises(ValueError, match=words):
        copy_to_host(buffers[0], buffers[2].address, size_bytes, stream)


def test_closed_buffers_are_refused(stream, buffers):
    pinned, _, device, _ = buffers
    address = device.address
    for buffer in (pinned, device):
        buffer.close()
        buffer.close()
    with pytest.raises(RuntimeError, match=r"^this device buffer is closed$"):
        _ = device.address
    for work in (
        lambda: pinned.array,
        lambda: pinned.device_address,
        lambda: copy_to_device(address, pinned, 10, stream),
        lambda: copy_to_host(pinned, address, 10, stream),
    ):
        with pytest.raises(RuntimeError, match=r"^this pinned buffer is closed$"):
            work()
    with pytest.raises(RuntimeError, match=r"^this device buffer is closed$"):
        device.fill_zero(stream)


def test_array_of_another_library_is_read_in_place():
    source = OnGpu()
    found = device_array(source)
    assert found == DeviceArray(
        shape=(2, 3), dtype=np.dtype("<f4"), address=4096, owner=source, stream=None
    )
    assert found.size_bytes == 24
    assert device_array(found).__cuda_array_interface__ == {
        "shape": (2, 3),
        "typestr": "<f4",
        "data": (4096, False),
        "strides": None,
        "stream": None,
        "version": 3,
    }


def test_stream_of_another_library_is_kept():
    assert device_array(OnGpu(stream=7)).stream == 7


@pytest.mark.parametrize(
    ("shape", "strides"), [((2, 3), (12, 4)), ((1, 3), (99, 4)), ((3, 1), (4, 99)), ((), ())]
)
def test_contiguous_strides_are_taken(shape, strides):
    assert device_array(OnGpu(shape=shape, strides=strides)).shape == shape


@pytest.mark.parametrize("strides", [(4, 8), (24, 4), (12, 8), (-12, 4)])
def test_other_strides_are_refused(strides):
    with pytest.raises(ValueError, match=r"shape \(2, 3\) and strides .* is not C-contiguous"):
        device_array(OnGpu(strides=strides))


def test_empty_and_masked_arrays_are_refused():
    with pytest.raises(ValueError, match=r"shape \(0, 3\) is empty"):
        device_array(OnGpu(shape=(0, 3)))
    with pytest.raises(ValueError, match="masked"):
        device_array(OnGpu(mask=OnGpu()))


@pytest.mark.parametrize("source", [np.zeros(3), None, b"abc"])
def test_what_is_not_on_the_gpu_is_refused(source):
    with pytest.raises(TypeError, match="__cuda_array_interface__"):
        device_array(source)
