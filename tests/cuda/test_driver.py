"""Loading the libraries, and their errors in one sentence."""

from __future__ import annotations

import importlib
import inspect
import re
import sys

import pytest

from fcn_trt.cuda.context import primary_context
from fcn_trt.cuda.driver import cuda_errors, load_driver, require_success
from fcn_trt.cuda.memory import DeviceBuffer
from fcn_trt.cuda.stream import Stream
from fcn_trt.errors import EngineError, MissingExtraError
from tests.cuda.fake_driver import fake_modules
from tests.cuda.fake_gpu import FakeGpu


@pytest.fixture
def unloaded(monkeypatch):
    load_driver.cache_clear()
    yield monkeypatch
    load_driver.cache_clear()


@pytest.mark.parametrize("missing", ["pycuda.driver", "cuda.bindings.driver"])
def test_missing_library_is_told_with_what_installs_it(unloaded, missing):
    for name, module in fake_modules(FakeGpu()).items():
        unloaded.setitem(sys.modules, name, None if name == missing else module)
    with pytest.raises(MissingExtraError, match=r"pip install 'fcn-trt\[cuda\]'.*fcn-trt doctor"):
        load_driver()


def test_both_libraries_are_loaded_once(unloaded):
    modules = fake_modules(FakeGpu())
    for name, module in modules.items():
        unloaded.setitem(sys.modules, name, module)
    driver = load_driver()
    assert driver.cuda is modules["pycuda.driver"]
    assert driver.graphs is modules["cuda.bindings.driver"]
    assert load_driver() is driver


@pytest.mark.parametrize("kind", ["Error", "MemoryError", "LogicError", "LaunchError"])
def test_pycuda_errors_become_one_sentence(fake, kind):
    error = getattr(load_driver().cuda, kind)
    said = "cuModuleLoadDataEx failed: device kernel image is invalid - error :\n bad\n\0\0"
    with pytest.raises(EngineError) as caught, cuda_errors("load kernels"):
        raise error(said)
    assert str(caught.value) == (
        "cannot load kernels: cuModuleLoadDataEx failed: device kernel image is invalid - "
        "error : bad"
    )
    assert isinstance(caught.value.__cause__, error)


def test_other_errors_pass_through(fake):
    with pytest.raises(ZeroDivisionError), cuda_errors("divide"):
        _ = 1 / 0


def test_kept_error_keeps_no_object_of_the_refused_call(fake):
    """PyCUDA destroys a stream with its last reference, which a kept traceback would be."""
    context = primary_context()
    stream, buffer = Stream(context), DeviceBuffer(context, 4)
    fake.fail("cuMemsetD8Async", "INVALID_VALUE")
    with pytest.raises(EngineError) as kept:
        buffer.fill_zero(stream)
    buffer.close()
    stream.close()
    assert fake.leaks() == []
    assert kept.value.__cause__ is not None


def test_status_of_cuda_bindings_is_named_and_explained(fake):
    status = load_driver().graphs.CUresult.CUDA_ERROR_OUT_OF_MEMORY
    with pytest.raises(
        EngineError, match=r"^cannot record: CUDA_ERROR_OUT_OF_MEMORY: out of memory$"
    ):
        require_success((status, None), "record")
    success = load_driver().graphs.CUresult.CUDA_SUCCESS
    assert require_success((success, 7), "record") == 7
    assert require_success((success,), "record") is None


def test_fake_has_the_signatures_of_cuda_bindings():
    """Each function and constant of the fake is in the real library, with the same arguments."""
    real = pytest.importorskip("cuda.bindings.driver", reason="needs cuda-bindings")
    fake = fake_modules(FakeGpu())["cuda.bindings.driver"]
    functions = [name for name in vars(fake) if re.match(r"cu[A-Z]", name)]
    assert len(functions) >= 10
    for name in functions:
        arguments = getattr(real, name).__doc__.splitlines()[0].partition("(")[2].rstrip(")")
        names = [a.split(":")[0].split()[-1] for a in arguments.split(",") if a.strip()]
        assert list(inspect.signature(getattr(fake, name)).parameters) == names, name
    for status in fake.CUresult:
        assert int(getattr(real.CUresult, status.name)) == int(status), status
    for name, value in vars(fake.CUstreamCaptureMode).items():
        assert int(getattr(real.CUstreamCaptureMode, name)) == value
    for name, value in vars(fake.CUevent_flags).items():
        assert int(getattr(real.CUevent_flags, name)) == value
    assert int(real.CUstream(5)) == 5
    assert int(real.CUcontext(5)) == 5


def test_fake_has_the_names_of_pycuda():
    real = pytest.importorskip("pycuda.driver", reason="needs PyCUDA", exc_type=ImportError)
    fake = importlib.import_module("tests.cuda.fake_driver").fake_modules(FakeGpu())
    for name in vars(fake["pycuda.driver"]):
        if not name.startswith("_"):
            assert hasattr(real, name), name
