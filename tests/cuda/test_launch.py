"""Kernels on the fake driver, which runs them as compiled for the host."""

from __future__ import annotations

import numpy as np
import pytest

from fcn_trt.cuda.graph import capture
from fcn_trt.cuda.launch import Kernels
from fcn_trt.cuda.memory import DeviceBuffer, PinnedBuffer, copy_to_device, copy_to_host
from fcn_trt.cuda.stream import Stream
from fcn_trt.errors import EngineError

COUNT = 1000
GRID, BLOCK = (4, 1, 1), (256, 1, 1)


@pytest.fixture
def stream(context):
    made = Stream(context)
    yield made
    made.close()


@pytest.fixture
def kernels(context, small_module):
    made = Kernels(context, small_module)
    yield made
    made.close()


@pytest.fixture
def buffers(context):
    made = [kind(context, 4 * COUNT) for kind in (PinnedBuffer, DeviceBuffer, DeviceBuffer)]
    yield made
    for buffer in made:
        buffer.close()


def test_kernel_computes_between_copies(fake, stream, kernels, buffers):
    host, source, target = buffers
    scale = kernels.function("scale", "PPif")
    host.array.view(np.int32)[:] = np.arange(COUNT)
    copy_to_device(source.address, host, 4 * COUNT, stream)
    scale.launch(stream, GRID, BLOCK, source.address, target.address, COUNT, 2.5)
    copy_to_host(host, target.address, 4 * COUNT, stream)
    stream.synchronize()
    expected = (np.arange(COUNT) * np.float32(2.5)).astype(np.int32)
    assert (host.array.view(np.int32) == expected).all()
    assert fake.names() == ["cuMemcpyHtoDAsync", "scale", "cuMemcpyDtoHAsync"]


def test_kernel_in_a_graph_keeps_its_arguments(stream, kernels, buffers):
    host, source, target = buffers
    scale = kernels.function("scale", "PPif")

    def work():
        copy_to_device(source.address, host, 4 * COUNT, stream)
        scale.launch(stream, GRID, BLOCK, source.address, target.address, COUNT, 3.0)
        copy_to_host(host, target.address, 4 * COUNT, stream)

    graph = capture(stream, work)
    host.array.view(np.int32)[:] = 1
    for power in (3, 9, 27):
        graph.launch(stream)
        stream.synchronize()
        assert (host.array.view(np.int32) == power).all()
    graph.close()


def test_damaged_cubin_is_refused(fake, context):
    words = (
        r"^cannot load kernels on Fake GPU \(compute capability 8\.7\): cuModuleLoadDataEx failed: "
        "device kernel image is invalid - error : Not a cubin$"
    )
    with pytest.raises(EngineError, match=words):
        Kernels(context, b"\x7fELF")
    assert fake.leaks() == []


def test_cubin_of_another_gpu_is_refused(fake, context, small_module):
    fake.fail("cuModuleLoadDataEx", "NO_BINARY_FOR_GPU")
    with pytest.raises(EngineError, match="no kernel image is available for execution"):
        Kernels(context, small_module)
    assert fake.leaks() == []


def test_unknown_kernel_is_refused(kernels):
    words = "^cannot find kernel scal: cuModuleGetFunction failed: named symbol not found$"
    with pytest.raises(EngineError, match=words):
        kernels.function("scal", "PPif")


@pytest.mark.parametrize("signature", ["PP2i", "PO", "P P"])
def test_unknown_letters_in_a_signature_are_refused(kernels, signature):
    with pytest.raises(ValueError, match="has letters outside"):
        kernels.function("scale", signature)


def test_wrong_number_of_arguments_is_refused(fake, stream, kernels):
    scale = kernels.function("scale", "PPif")
    with pytest.raises(ValueError, match="kernel scale takes 4 arguments, not 3"):
        scale.launch(stream, GRID, BLOCK, 0, 0, 0)
    assert fake.calls["cuLaunchKernel"] == 0


def test_failed_launch_is_told_and_the_next_one_works(fake, stream, kernels, buffers):
    _, source, target = buffers
    scale = kernels.function("scale", "PPif")
    fake.fail("cuLaunchKernel", "LAUNCH_OUT_OF_RESOURCES")
    words = "^cannot launch kernel scale: cuLaunchKernel failed: too many resources requested"
    with pytest.raises(EngineError, match=words):
        scale.launch(stream, GRID, BLOCK, source.address, target.address, COUNT, 1.0)
    scale.launch(stream, GRID, BLOCK, source.address, target.address, COUNT, 1.0)
    stream.synchronize()


@pytest.mark.parametrize(
    ("grid", "block"), [((0, 1, 1), (1, 1, 1)), ((1, 1, 1), (1025, 1, 1)), ((1, 65536, 1), BLOCK)]
)
def test_grid_that_no_gpu_has_is_refused(stream, kernels, buffers, grid, block):
    scale = kernels.function("scale", "PPif")
    with pytest.raises(EngineError, match="cuLaunchKernel failed: invalid argument"):
        scale.launch(stream, grid, block, buffers[1].address, buffers[2].address, COUNT, 1.0)


def test_closed_kernels_are_unloaded_and_refused(fake, context, small_module, stream):
    kernels = Kernels(context, small_module)
    scale = kernels.function("scale", "PPif")
    kernels.close()
    kernels.close()
    assert not fake.modules
    for work in (
        lambda: kernels.function("scale", "PPif"),
        lambda: scale.launch(stream, GRID, BLOCK, 0, 0, 0, 0.0),
    ):
        with pytest.raises(RuntimeError, match=r"^this set of kernels is closed$"):
            work()


def test_kernel_that_writes_too_far_is_caught(fake, stream, kernels, buffers):
    overrun = kernels.function("overrun", "Pi")
    overrun.launch(stream, (1, 1, 1), (1, 1, 1), buffers[1].address, 4 * COUNT - 1)
    stream.synchronize()
    overrun.launch(stream, (1, 1, 1), (1, 1, 1), buffers[1].address, 4 * COUNT)
    with fake.expect_misuse("overrun: wrote beyond device memory"):
        stream.synchronize()
    with fake.expect_misuse("something wrote beyond device memory"):
        buffers[1].close()
