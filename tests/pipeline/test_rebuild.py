"""Bundles that are built again from what they carry."""

from dataclasses import replace

import pytest

from fcn_trt.engine.bundle import PLAN_NAME, Bundle, load_bundle
from fcn_trt.engine.options import RTX_CAPABILITIES
from fcn_trt.engine.tensorrt.progress import BuildPhase
from fcn_trt.errors import BundleError, PlanError
from fcn_trt.machine import Gpu, Machine
from fcn_trt.pipeline import run as module
from fcn_trt.pipeline.plan import Compile, Plan
from fcn_trt.pipeline.run import Watcher, rebuild, run
from tests.plans import LIMITED, as_network, build_limited, without_time


@pytest.fixture
def machine(monkeypatch):
    """Let this machine have another GPU, or none."""

    def make(capability):
        gpu = capability and Gpu(
            name="RTX", compute_capability=capability, memory_bytes=1 << 34, integrated=False
        )
        monkeypatch.setattr(module, "this_machine", lambda: Machine(gpu=gpu))

    return make


@pytest.fixture
def rtx_bundle(rtx, tiny_network, tmp_path):
    return build_limited(tiny_network, tmp_path / "rtx")


def test_openvino_bundle_is_rebuilt_to_an_equal_one(tiny_network, tmp_path):
    first = run(Plan(source=as_network(tiny_network), compile=Compile()), tmp_path / "b").bundle
    again = rebuild(first)
    assert again.path == first.path
    assert without_time(again) == without_time(first)
    assert load_bundle(first.path) == again


def test_rtx_bundle_is_rebuilt_for_the_gpu_of_this_machine(rtx_bundle, machine):
    machine("8.9")
    phases: list[BuildPhase] = []
    again = rebuild(rtx_bundle, watcher=Watcher(on_phase=phases.append))
    assert again.manifest.compute_capabilities == ("8.9",)
    assert again.manifest.options == replace(LIMITED, compute_capabilities=("8.9",))
    assert load_bundle(rtx_bundle.path) == again
    assert phases


def test_rebuilt_bundle_is_no_longer_that_of_its_recipe(rtx_bundle, machine):
    machine("8.6")
    assert rebuild(rtx_bundle).manifest.inputs_sha256 == ""


@pytest.mark.exhaustive
def test_rtx_bundle_is_rebuilt_for_every_gpu_where_there_is_none(rtx_bundle, machine):
    machine(None)
    assert rebuild(rtx_bundle).manifest.compute_capabilities == RTX_CAPABILITIES


def test_rebuild_that_fails_leaves_the_bundle_as_it_was(rtx_bundle, machine):
    machine("8.7")  # a Jetson, which TensorRT-RTX does not compile for
    with pytest.raises(PlanError, match=r"does not compile for 8\.7"):
        rebuild(rtx_bundle)
    assert load_bundle(rtx_bundle.path) == rtx_bundle


def test_bundle_that_carries_no_network_cannot_be_rebuilt(rtx_bundle):
    files = {PLAN_NAME: rtx_bundle.manifest.files[PLAN_NAME]}
    bundle = Bundle(path=rtx_bundle.path, manifest=replace(rtx_bundle.manifest, files=files))
    with pytest.raises(BundleError, match=r"carries no network\.onnx; build the bundle again"):
        rebuild(bundle)
