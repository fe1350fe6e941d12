"""One way in for every target."""

import sys

import pytest

from fcn_trt.engine.build import build_engine, require_buildable
from fcn_trt.engine.bundle import load_bundle
from fcn_trt.engine.openvino.builder import computes
from fcn_trt.engine.options import BuildOptions
from fcn_trt.errors import EngineError, MissingExtraError
from fcn_trt.machine import this_machine
from tests.plans import LIMITED, as_network, build_limited, without_time


@pytest.fixture
def rtx_bundle(rtx, tiny_network, tmp_path):
    return build_limited(tiny_network, tmp_path / "rtx")


def test_openvino_bundle_is_that_of_its_builder(tiny_network, tiny_bundle, tmp_path):
    made = build_engine(
        as_network(tiny_network), tmp_path / "b", target="openvino", options=BuildOptions()
    )
    assert without_time(made) == without_time(tiny_bundle)


def test_rtx_bundle_keeps_its_limits_and_the_key_of_its_recipe(rtx_bundle):
    assert (rtx_bundle.manifest.target, rtx_bundle.manifest.options) == ("tensorrt-rtx", LIMITED)
    assert rtx_bundle.manifest.inputs_sha256 == "of a recipe"
    assert load_bundle(rtx_bundle.path) == rtx_bundle


@pytest.mark.parametrize(
    "options", [LIMITED, BuildOptions(strip=True), BuildOptions(timing_cache=False)]
)
def test_limits_of_a_device_are_refused_for_openvino(tiny_network, tmp_path, options):
    with pytest.raises(EngineError, match="are for TensorRT; leave them out for openvino"):
        build_engine(as_network(tiny_network), tmp_path / "b", target="openvino", options=options)
    assert list(tmp_path.iterdir()) == []


class TestRefusedBeforeLongWork:
    def test_what_can_be_built_is_not(self, rtx):
        require_buildable("openvino", "fp32", BuildOptions())
        require_buildable("tensorrt-rtx", "fp16", LIMITED)

    @pytest.mark.parametrize("precision", ["fp16", "bf16"])
    def test_type_that_this_cpu_does_not_compute(self, precision):
        if computes(precision):
            pytest.skip(f"this CPU computes {precision}")
        sentence = rf"{precision} was asked for, which OpenVINO .*; choose fp32"
        with pytest.raises(EngineError, match=sentence):
            require_buildable("openvino", precision, BuildOptions())

    def test_gpu_that_lacks_the_type(self):
        with pytest.raises(EngineError, match=r"fp8 needs a GPU of compute capability 8\.9 or mor"):
            require_buildable("tensorrt-rtx", "fp8", LIMITED)

    def test_library_that_is_not_installed(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
        with pytest.raises(MissingExtraError, match="TensorRT-RTX cannot be loaded"):
            require_buildable("tensorrt-rtx", "fp16", LIMITED)

    def test_tensorrt_without_a_gpu(self):
        if this_machine().gpu is not None:
            pytest.skip("needs a machine without a GPU")
        with pytest.raises(EngineError, match=r"this machine has none \(.*\); build it on that"):
            require_buildable("tensorrt", "fp16", BuildOptions())
