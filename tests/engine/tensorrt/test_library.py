import sys
import types

import pytest

from fcn_trt.engine.tensorrt.library import (
    Log,
    limit_capabilities,
    load_library,
    scratch_bytes,
)
from fcn_trt.errors import EngineError, MissingExtraError


def installed(monkeypatch, version):
    """A stand-in for a release that cannot be installed here: a module with a version, no more."""
    module = types.ModuleType("tensorrt")
    vars(module)["__version__"] = version
    monkeypatch.setitem(sys.modules, "tensorrt", module)


def test_rtx_is_loaded_with_its_version(rtx):
    library = load_library("tensorrt-rtx")
    assert library.version == rtx.__version__
    assert library.name == f"TensorRT-RTX {library.version}"
    assert library.trt is rtx


@pytest.mark.parametrize(
    ("target", "module", "name"),
    [("tensorrt", "tensorrt", "TensorRT"), ("tensorrt-rtx", "tensorrt_rtx", "TensorRT-RTX")],
)
def test_missing_library_is_said_with_what_helps(monkeypatch, target, module, name):
    monkeypatch.setitem(sys.modules, module, None)
    message = rf"{name} cannot be loaded \(.*\); `fcn-trt doctor` says how to install it"
    with pytest.raises(MissingExtraError, match=message):
        load_library(target)


@pytest.mark.parametrize("version", ["8.6.2.3", "12.0.0"])
def test_release_that_is_not_supported_is_refused(monkeypatch, version):
    installed(monkeypatch, version)
    message = rf"TensorRT {version} is installed, but this package takes 10\.0 to 11\.x; .*JetPack"
    with pytest.raises(EngineError, match=message):
        load_library("tensorrt")


@pytest.mark.parametrize("version", ["10.0.1", "10.3.0", "11.4.0.106"])
def test_release_that_is_supported_is_taken(monkeypatch, version):
    installed(monkeypatch, version)
    assert load_library("tensorrt").version == version


def test_compute_capability_that_rtx_lacks_is_refused_with_those_it_has(rtx):
    builder = rtx.Builder(Log().logger(rtx))
    config = builder.create_builder_config()
    message = r"does not compile for compute capability 8\.7; it knows 7\.5, 8\.0, 8\.6, 8\.9"
    with pytest.raises(EngineError, match=message):
        limit_capabilities(rtx, config, ("8.6", "8.7"))


def test_compute_capabilities_are_set_in_order(rtx):
    builder = rtx.Builder(Log().logger(rtx))
    config = builder.create_builder_config()
    limit_capabilities(rtx, config, ("12.0", "8.6"))
    assert config.num_compute_capabilities == 2
    assert config.get_compute_capability(0) == rtx.ComputeCapability.SM120
    assert config.get_compute_capability(1) == rtx.ComputeCapability.SM86


def test_scratch_memory_is_read_where_each_release_has_it():
    old = types.SimpleNamespace(device_memory_size=3)
    new = types.SimpleNamespace(device_memory_size=3, device_memory_size_v2=5)
    assert (scratch_bytes(old), scratch_bytes(new)) == (3, 5)
    with pytest.raises(EngineError, match="does not say how much memory an engine needs"):
        scratch_bytes(types.SimpleNamespace())


def test_library_that_compiles_for_the_gpu_it_finds_cannot_be_told_another():
    trt, config = types.SimpleNamespace(), types.SimpleNamespace()
    with pytest.raises(EngineError, match="compiles for the GPU it finds"):
        limit_capabilities(trt, config, ("8.6",))


class TestLog:
    def test_first_error_is_the_reason_on_one_line(self):
        log = Log()
        log.record("all is well", is_error=False)
        log.record("first\n  went wrong", is_error=True)
        log.record("so this failed", is_error=True)
        assert log.reason() == "first went wrong"

    def test_what_is_logged_wherever_there_is_no_gpu_is_the_last_reason_to_give(self):
        log = Log()
        assert log.reason() == "it gave no reason"
        log.record("IBuilder::x: Error Code 1: catchCudaError: cudaError 35", is_error=True)
        assert log.reason().endswith("cudaError 35")
        log.record("went wrong", is_error=True)
        assert log.reason() == "went wrong"

    def test_library_itself_logs_into_it(self, rtx):
        log = Log()
        builder = rtx.Builder(log.logger(rtx))
        network, config = builder.create_network(0), builder.create_builder_config()
        assert builder.build_serialized_network(network, config) is None
        assert log.errors
