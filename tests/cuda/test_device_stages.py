"""The stages on the fake driver, which runs the kernels as compiled for the host."""

from __future__ import annotations

import numpy as np
import pytest

from fcn_trt.cuda.device_stages import DeviceStages, FrameView, palette_table
from fcn_trt.cuda.memory import DeviceBuffer, PinnedBuffer, copy_to_device, copy_to_host
from fcn_trt.cuda.nvrtc import KERNEL_FILES
from fcn_trt.cuda.stream import Stream
from fcn_trt.errors import EngineError
from fcn_trt.stages.decode import decode_with_confidence
from fcn_trt.stages.overlay import overlay
from fcn_trt.stages.preprocess import preprocess
from tests.cuda.host_kernels import host_library

NORMAL = {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)}


@pytest.fixture(scope="module")
def cubins():
    """What the fake loads in place of cubins."""
    names = [file.removesuffix(".cubin") for file in KERNEL_FILES]
    return {f"{name}.cubin": f"host:{host_library(name)}".encode() for name in names}


@pytest.fixture
def on_gpu(context):
    """A stream, and functions that put an array into the fake's memory and fetch one from it."""
    stream, buffers = Stream(context), []

    def keep(buffer):
        buffers.append(buffer)
        return buffer

    def put(array):
        host = keep(PinnedBuffer(context, array.nbytes))
        host.array[:] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        buffer = keep(DeviceBuffer(context, array.nbytes))
        copy_to_device(buffer.address, host, array.nbytes, stream)
        return buffer.address

    def fetch(address, shape, dtype=np.uint8):
        size_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        host = keep(PinnedBuffer(context, size_bytes))
        copy_to_host(host, address, size_bytes, stream)
        stream.synchronize()
        return host.array.view(dtype).reshape(shape).copy()

    yield stream, put, fetch
    stream.close()
    for buffer in buffers:
        buffer.close()


def test_frame_logits_and_labels_go_through_as_on_the_host(context, cubins, on_gpu, make_frame):
    stream, put, fetch = on_gpu
    frame, size = make_frame((60, 84)), (32, 48)
    logits = np.random.default_rng(0).standard_normal((5, 8, 11), np.float32)
    palette = np.random.default_rng(1).integers(0, 256, (5, 3), dtype=np.uint8)
    view_of = FrameView(address=put(frame), size=(60, 84), pitch_bytes=3 * 84)
    tensor, labels = put(np.zeros((3, *size), np.float32)), put(np.zeros((60, 84), np.uint8))
    sure, view = put(np.zeros((60, 84), np.uint8)), put(np.zeros((60, 84, 3), np.uint8))
    table, logits_address = put(palette_table(palette)), put(logits)
    with DeviceStages(context, cubins) as stages:
        stages.preprocess(stream, view_of, tensor, size, **NORMAL, dtype=np.float32)
        stages.decode(
            stream,
            logits_address,
            logits.shape,
            logits.dtype,
            (60, 84),
            labels,
            align_corners=True,
            confidence_address=sure,
            unknown_below=80,
        )
        stages.overlay(stream, view_of, labels, (60, 84), table, view, opacity=0.4)
        found = fetch(tensor, (3, *size), np.float32)
        np.testing.assert_allclose(found, preprocess(frame, size, **NORMAL), rtol=0, atol=1e-6)
        expected, confidence = decode_with_confidence(
            logits, (60, 84), align_corners=True, unknown_below=80
        )
        found_labels, found_sure = fetch(labels, (60, 84)), fetch(sure, (60, 84))
    assert np.abs(found_sure.astype(int) - confidence).max() <= 1
    assert (found_labels != expected).mean() < 1e-2  # a threshold meets one step of rounding
    assert 0.01 < (found_labels == 255).mean() < 0.99
    painted = overlay(frame, found_labels, palette, opacity=0.4)
    assert np.abs(fetch(view, (60, 84, 3)).astype(int) - painted).max() <= 1


def test_closed_stages_are_refused(context, cubins, on_gpu, fake):
    stream, put, _ = on_gpu
    labels, table = put(np.zeros((4, 4), np.uint8)), put(np.zeros((256, 4), np.uint8))
    view = put(np.zeros((4, 4, 3), np.uint8))
    stages = DeviceStages(context, cubins)
    stages.close()
    stages.close()
    with pytest.raises(RuntimeError, match="this set of kernels is closed"):
        stages.overlay(stream, None, labels, (4, 4), table, view, opacity=1.0)


def test_missing_kernels_are_named_with_the_way_out(context, cubins):
    some = {file: cubin for file, cubin in cubins.items() if file != "decode.cubin"}
    with pytest.raises(EngineError, match=r"decode\.cubin is missing; build the bundle again"):
        DeviceStages(context, some)


@pytest.mark.parametrize("call", [1, 2, 3])
def test_kernels_that_do_not_load_leave_nothing_behind(context, cubins, fake, call):
    fake.fail("cuModuleLoadDataEx", "NO_BINARY_FOR_GPU", call=call)
    with pytest.raises(EngineError, match="cannot load kernels on"):
        DeviceStages(context, cubins)
    assert fake.leaks() == []
