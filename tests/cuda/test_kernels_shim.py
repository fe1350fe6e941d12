"""The shim that stands in for CUDA on the host is right itself."""

from __future__ import annotations

import numpy as np
import pytest

from tests.cuda.host_kernels import HostKernel, compile_for_host, kernel_names

SOURCE = """
#include <device.cuh>
extern "C" __global__ void widen(const unsigned short* from, float* to) {
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    to[i] = half_to_float(from[i]);
}
extern "C" __global__ void narrow(const float* from, unsigned short* to) {
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    to[i] = float_to_half(from[i]);
}
extern "C" __global__ void places(int* to, unsigned width, unsigned height) {
    const unsigned x = blockIdx.x * blockDim.x + threadIdx.x;
    const unsigned y = blockIdx.y * blockDim.y + threadIdx.y;
    const unsigned z = blockIdx.z * blockDim.z + threadIdx.z;
    to[(z * height + y) * width + x] += gridDim.x * 100 + gridDim.y * 10 + gridDim.z;
}
extern "C" __global__ void misaligned(unsigned char* to) { store_vector<unsigned>(to + 2, 0); }
"""


@pytest.fixture(scope="module")
def kernel():
    library = compile_for_host(SOURCE, "shim")
    return lambda name: HostKernel(library, name)


def test_every_half_is_widened_as_by_numpy(kernel):
    bits = np.arange(1 << 16, dtype=np.uint16)
    found = np.empty(len(bits), np.float32)
    kernel("widen").launch(
        (256, 1, 1), (256, 1, 1), bits.ctypes.data, found.ctypes.data, signature="PP"
    )
    np.testing.assert_array_equal(found, bits.view(np.float16).astype(np.float32))


def test_floats_are_narrowed_as_by_numpy(kernel):
    """Every half, what lies halfway to the next, its neighbours, and numbers beyond."""
    halves = np.arange(1 << 15, dtype=np.uint16).view(np.float16)[:0x7C00].astype(np.float32)
    middle = (halves[1:] + halves[:-1]) / 2
    near = [np.nextafter(middle, np.float32(side)) for side in (-np.inf, np.inf)]
    beyond = np.array([65519, 65520, 65521, 1e30, np.inf, 1e-30, 0], np.float32)
    values = np.concatenate([halves, middle, *near, beyond])
    values = np.concatenate([values, -values])
    values = np.append(values, np.zeros(-len(values) % 256, np.float32))
    found = np.empty(len(values), np.uint16)
    kernel("narrow").launch(
        (len(values) // 256, 1, 1),
        (256, 1, 1),
        values.ctypes.data,
        found.ctypes.data,
        signature="PP",
    )
    with np.errstate(over="ignore"):
        expected = values.astype(np.float16)
    np.testing.assert_array_equal(found, expected.view(np.uint16))
    nan = np.full(1, np.nan, np.float32)
    kernel("narrow").launch(
        (1, 1, 1), (1, 1, 1), nan.ctypes.data, found.ctypes.data, signature="PP"
    )
    assert np.isnan(found[:1].view(np.float16)).all()


def test_each_thread_of_each_block_runs_once(kernel):
    found = np.zeros((6, 20, 21), np.int32)
    kernel("places").launch((3, 4, 2), (7, 5, 3), found.ctypes.data, 21, 20, signature="PII")
    assert (found == 342).all()


def test_vector_that_is_not_aligned_is_an_error_as_on_a_gpu(kernel):
    memory = np.zeros(16, np.uint64)
    with pytest.raises(RuntimeError, match="an access of 4 bytes is not aligned"):
        kernel("misaligned").launch((1, 1, 1), (1, 1, 1), memory.ctypes.data, signature="P")


def test_kernels_are_found_by_their_names():
    assert kernel_names(SOURCE) == ["widen", "narrow", "places", "misaligned"]
