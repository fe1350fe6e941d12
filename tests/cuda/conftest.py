"""The fake driver for tests of the bookkeeping, and a context on it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator

import pytest

from fcn_trt.cuda.context import DeviceContext, primary_context
from tests.cuda.fake_driver import FakeGpu, installed_fake


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGpu]:
    """A fake GPU in place of PyCUDA and cuda-bindings; afterwards nothing may be left or wrong."""
    with installed_fake(monkeypatch) as gpu:
        yield gpu


@pytest.fixture
def integrated_fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGpu]:
    """As `fake`, in the processor's memory: like a Jetson's."""
    with installed_fake(monkeypatch, is_integrated=True) as gpu:
        yield gpu


@pytest.fixture
def context(fake: FakeGpu) -> DeviceContext:
    """The fake GPU's context."""
    return primary_context()


SMALL_KERNELS = r"""
#include <cstdint>
// What host_kernels.py makes of CUDA's sources has these signatures too.
extern "C" const char* host_scale(const unsigned* grid, const unsigned* block, void** arguments) {
    const int* from = *static_cast<const int**>(arguments[0]);
    int* to = *static_cast<int**>(arguments[1]);
    const int count = *static_cast<int*>(arguments[2]);
    const float factor = *static_cast<float*>(arguments[3]);
    for (unsigned i = 0; i < grid[0] * block[0]; ++i)
        if (i < static_cast<unsigned>(count)) to[i] = static_cast<int>(from[i] * factor);
    return nullptr;
}
extern "C" const char* host_overrun(const unsigned*, const unsigned*, void** arguments) {
    uint8_t* to = *static_cast<uint8_t**>(arguments[0]);
    to[*static_cast<int*>(arguments[1])] = 1;
    return nullptr;
}
"""


@pytest.fixture(scope="session")
def small_module(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What the fake loads in place of a cubin: two kernels compiled for the host."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("needs the C++ compiler g++")
    folder = tmp_path_factory.mktemp("small_kernels")
    source = folder / "small.cpp"
    source.write_text(SMALL_KERNELS)
    library = folder / "small.so"
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", source, "-o", library], check=True)
    return b"host:" + str(library).encode()
