"""What can be said of a plan without the GPU that it is for; tests/gpu runs some."""

from dataclasses import replace

import pytest

from fcn_trt.engine.bundle import PLAN_NAME, Bundle
from fcn_trt.engine.options import BuildOptions
from fcn_trt.engine.tensorrt.builder import build_tensorrt
from fcn_trt.engine.tensorrt.collector import collector_paused
from fcn_trt.engine.tensorrt.library import Log, load_library
from fcn_trt.engine.tensorrt.plan import deserialise, load_engine
from fcn_trt.errors import BundleError, EngineError
from fcn_trt.machine import this_machine
from tests.plans import as_network


@pytest.fixture
def library(rtx):
    return load_library("tensorrt-rtx")


@pytest.fixture(scope="session")
def bundle(rtx, tiny_network, tmp_path_factory):
    """The tiny network for sm_86. Read only."""
    options = BuildOptions(compute_capabilities=("8.6",))
    out = tmp_path_factory.mktemp("plan") / "tiny"
    return build_tensorrt(as_network(tiny_network), out, target="tensorrt-rtx", options=options)


@pytest.fixture
def refusal(library):
    """The sentence with which a plan is refused."""

    def refuse(plan: bytes, *, host_code: bool = False) -> str:
        with pytest.raises(EngineError) as refused, collector_paused():
            deserialise(library, plan, Log(), host_code=host_code)
        said = str(refused.value)
        assert said.startswith(f"{library.name} refuses the plan: ")
        assert said.endswith("; build the bundle again")
        assert "\n" not in said
        return said.removeprefix(f"{library.name} refuses the plan: ")

    return refuse


@pytest.fixture
def no_gpu():
    if this_machine().gpu is not None:
        pytest.skip("needs a machine without a GPU")


@pytest.mark.parametrize("host_code", [False, True])
@pytest.mark.parametrize("plan", [b"", b"no plan", b"vtrt" + bytes(1000)])
def test_what_is_no_plan_is_refused_with_the_librarys_reason(refusal, plan, host_code):
    assert not refusal(plan, host_code=host_code).startswith("it gave no reason")


@pytest.mark.parametrize("keep", [32, 5000, -1])
def test_truncated_plan_is_refused_with_the_librarys_reason(refusal, bundle, keep):
    assert not refusal(bundle.read(PLAN_NAME)[:keep]).startswith("it gave no reason")


def test_whole_plan_is_refused_without_a_driver(refusal, bundle, no_gpu):
    assert "cudaError" in refusal(bundle.read(PLAN_NAME))


def test_bundle_is_refused_as_its_plan_is(library, bundle, no_gpu):
    with pytest.raises(EngineError, match=r"refuses the plan: .*; build the bundle again"):
        load_engine(bundle)


def test_bundle_for_openvino_has_no_plan_to_load(tiny_bundle):
    with pytest.raises(EngineError) as refused:
        load_engine(tiny_bundle)
    assert str(refused.value) == (
        f"{tiny_bundle.path} is for openvino and holds no plan; build it for tensorrt"
    )


def test_plan_that_the_manifest_does_not_record_is_not_loaded(library, bundle):
    manifest = bundle.manifest
    files = {name: record for name, record in manifest.files.items() if name != PLAN_NAME}
    unrecorded = Bundle(path=bundle.path, manifest=replace(manifest, files=files))
    with pytest.raises(BundleError, match=r"carries no engine\.plan; build the bundle again"):
        load_engine(unrecorded)
