"""What a made-up machine is told about a made-up bundle; nothing here touches a GPU."""

from dataclasses import replace

import pytest

from fcn_trt.engine.bundle import Bundle
from fcn_trt.engine.preflight import Obstacle, obstacle, require_runs_here
from fcn_trt.errors import BundleError
from fcn_trt.machine import Gpu, Machine
from fcn_trt.manifest import Manifest, Proof
from fcn_trt.options import BuildOptions
from fcn_trt.spec import read_spec

ORIN = Gpu(name="Orin", compute_capability="8.7", memory_bytes=8 << 30, integrated=True)
H200 = Gpu(name="H200", compute_capability="9.0", memory_bytes=140 << 30, integrated=False)

UNLIMITED = BuildOptions()


def machine(gpu, **libraries):
    return Machine(
        gpu=gpu,
        gpu_problem="" if gpu else "libcuda.so.1 is missing",
        cuda=None,
        driver=None,
        jetson_linux=None,
        jetpack=None,
        power_mode=None,
        board=None,
        libraries=libraries,
    )


@pytest.fixture
def bundle(tiny_network, tmp_path):
    """A bundle for an Orin with TensorRT 10.3.0; only its manifest is looked at."""

    def make(*, options=UNLIMITED, **changes):
        manifest = Manifest(
            format=2,
            created="2026-01-31T12:00:00+00:00",
            built_by="fcn_trt 0.1.0",
            spec=read_spec(tiny_network),
            target="tensorrt",
            target_version="10.3.0",
            device="Orin",
            compute_capabilities=("8.7",),
            options=options,
            precision_asked="fp16",
            precision_proven=Proof(source="engine", convolutions={"fp16": 26}, gmac={"fp16": 1.0}),
            scratch_bytes=None,
            calibration_sha256=None,
            inputs_sha256="",
            files={},
        )
        return Bundle(path=tmp_path / "orin", manifest=replace(manifest, **changes))

    return make


def test_bundle_runs_where_gpu_and_release_are_those_it_was_built_for(bundle):
    assert obstacle(bundle(), machine(ORIN, tensorrt="10.3.0")) is None
    require_runs_here(bundle(), machine(ORIN, tensorrt="10.3.0"))


def test_both_sides_and_the_command_that_rebuilds_are_named(bundle, tmp_path):
    here = machine(H200, tensorrt="11.4.0.106")
    path = tmp_path / "orin"
    sentence = (
        "built for sm_87 with TensorRT 10.3.0, this machine has sm_90 with 11.4.0.106: run "
        f"`fcn-trt build {path}/network.onnx --target tensorrt --out {path}`, or add --rebuild"
    )
    assert obstacle(bundle(), here) == Obstacle(reason=sentence, is_cured_by_rebuild=True)
    with pytest.raises(BundleError) as refusal:
        require_runs_here(bundle(), here)
    assert str(refusal.value) == f"{path} cannot run here: {sentence}"


@pytest.mark.parametrize(
    ("gpu", "version"), [(H200, "10.3.0"), (ORIN, "10.3.1"), (ORIN, "10.13.3.9"), (ORIN, "9.3.0")]
)
def test_another_gpu_or_release_is_an_obstacle(bundle, gpu, version):
    found = obstacle(bundle(), machine(gpu, tensorrt=version))
    here = f"this machine has sm_{gpu.compute_capability.replace('.', '')} with {version}"
    assert found is not None
    assert here in found.reason


def test_release_is_compared_as_far_as_both_sides_state_it(bundle):
    assert obstacle(bundle(), machine(ORIN, tensorrt="10.3.0.30")) is None


def test_machine_without_gpu_is_said_with_the_reason(bundle):
    assert obstacle(bundle(), machine(None, tensorrt="10.3.0")) == Obstacle(
        reason="built for sm_87 with TensorRT 10.3.0, this machine has no GPU (libcuda.so.1 is "
        "missing); run it on one that has",
        is_cured_by_rebuild=False,
    )


def test_missing_library_is_said_with_where_help_is(bundle):
    found = obstacle(bundle(), machine(ORIN, tensorrt_rtx="1.7.1.116"))
    assert found is not None
    assert not found.is_cured_by_rebuild
    assert found.reason.endswith(
        "this machine has no TensorRT; `fcn-trt doctor` says how to install it"
    )


def test_version_compatible_plan_runs_with_later_releases_of_its_major(bundle):
    plan = bundle(options=BuildOptions(version_compatible=True))
    assert obstacle(plan, machine(ORIN, tensorrt="10.13.3.9")) is None
    assert obstacle(plan, machine(ORIN, tensorrt="10.0.1")) is not None
    assert obstacle(plan, machine(ORIN, tensorrt="11.0.0")) is not None


def test_hardware_compatible_plan_runs_on_ampere_and_later(bundle):
    plan = bundle(
        options=BuildOptions(hardware_compatibility="ampere_plus"), compute_capabilities=("8.6",)
    )
    turing = replace(H200, compute_capability="7.5")
    assert obstacle(plan, machine(H200, tensorrt="10.3.0")) is None
    found = obstacle(plan, machine(turing, tensorrt="10.3.0"))
    assert found is not None
    assert "sm_75" in found.reason


def test_rtx_plan_runs_on_each_gpu_it_was_compiled_for(bundle):
    plan = bundle(
        target="tensorrt-rtx", target_version="1.7.1.116", compute_capabilities=("8.6", "12.0")
    )
    blackwell = replace(H200, compute_capability="12.0")
    assert obstacle(plan, machine(blackwell, tensorrt_rtx="1.7.1.116")) is None
    found = obstacle(plan, machine(H200, tensorrt_rtx="1.7.1.116"))
    assert found is not None
    assert found.reason.startswith(
        "built for sm_86, sm_120 with TensorRT-RTX 1.7.1.116, this machine has"
    )


def test_cpu_bundle_runs_wherever_its_type_is_computed(bundle, tiny_network):
    spec = read_spec(tiny_network)
    assert obstacle(bundle(target="openvino", spec=spec)) is None
    found = obstacle(bundle(target="openvino", spec=replace(spec, precision="fp8")))
    assert found is not None
    assert found.reason.startswith("it is fp8, which this CPU (")
