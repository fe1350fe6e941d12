"""What a made-up machine is told about a made-up bundle; nothing here touches a GPU."""

import shlex
from dataclasses import replace

import pytest

from fcn_trt.cuda.nvrtc import kernel_sources_sha256
from fcn_trt.engine.bundle import Bundle
from fcn_trt.engine.manifest import FileRecord, Manifest, Proof
from fcn_trt.engine.openvino.builder import computes
from fcn_trt.engine.options import BuildOptions
from fcn_trt.engine.preflight import Obstacle, obstacle, require_runs_here
from fcn_trt.errors import BundleError
from fcn_trt.machine import Gpu, Machine
from fcn_trt.spec import read_spec

ORIN = Gpu(name="Orin", compute_capability="8.7", memory_bytes=8 << 30, integrated=True)
H200 = Gpu(name="H200", compute_capability="9.0", memory_bytes=140 << 30, integrated=False)

UNLIMITED = BuildOptions()

KERNEL = FileRecord(size_bytes=1, sha256="0" * 64)
RUNNING = {"pycuda": "2026.1", "cuda_bindings": "13.5.0"}


def machine(gpu, **libraries):
    libraries = RUNNING | libraries
    return Machine(
        gpu=gpu,
        gpu_problem="" if gpu else "libcuda.so.1 is missing",
        cuda=None,
        driver=None,
        jetson_linux=None,
        jetpack=None,
        power_mode=None,
        board=None,
        libraries={name.replace("a_b", "a-b"): text for name, text in libraries.items()},
    )


@pytest.fixture
def bundle(tiny_network, tmp_path):
    """A bundle for an Orin with TensorRT 10.3.0; only its manifest is looked at."""

    def make(*, options=UNLIMITED, kernels=("8.0", "8.7", "9.0", "12.0"), **changes):
        manifest = Manifest(
            format=3,
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
            kernels_sha256=kernel_sources_sha256(),
            checks=(),
            files={f"decode-{each}.cubin": KERNEL for each in kernels},
        )
        return Bundle(path=tmp_path / "orin", manifest=replace(manifest, **changes))

    return make


def test_bundle_runs_where_gpu_and_release_are_right(bundle):
    assert obstacle(bundle(), machine(ORIN, tensorrt="10.3.0")) is None
    require_runs_here(bundle(), machine(ORIN, tensorrt="10.3.0"))


@pytest.mark.parametrize(
    ("there", "missing"), [("pycuda", "cuda-bindings"), ("cuda_bindings", "PyCUDA")]
)
def test_what_running_on_a_gpu_needs_is_named(bundle, monkeypatch, there, missing):
    monkeypatch.setattr(f"{__name__}.RUNNING", {there: "13.0"})
    found = obstacle(bundle(), machine(ORIN, tensorrt="10.3.0"))
    reason = f"running on a GPU needs {missing}; pip install 'fcn-trt[cuda]'"
    assert found == Obstacle(reason=reason, is_cured_by_rebuild=False)


@pytest.mark.parametrize("kernels", [(), ("8.9", "9.0"), ("7.5",)])
def test_bundle_without_kernels_for_the_gpu_is_built_again(bundle, kernels):
    found = obstacle(bundle(kernels=kernels), machine(ORIN, tensorrt="10.3.0"))
    assert found is not None
    assert found.is_cured_by_rebuild
    assert found.reason.startswith("it carries no kernels for sm_87, this machine has sm_87 with ")
    assert "run `fcn-trt build " in found.reason


def test_bundle_with_kernels_of_another_release_is_built_again(bundle):
    found = obstacle(bundle(kernels_sha256="0" * 64), machine(ORIN, tensorrt="10.3.0"))
    assert found is not None
    assert found.is_cured_by_rebuild
    assert found.reason.startswith("its kernels are those of another release (fcn_trt 0.1.0), this")


@pytest.mark.parametrize(
    ("kernels", "here", "runs"),
    [
        ("8.0", "8.9", True),
        ("8.6", "8.6", True),
        ("8.7", "8.7", True),
        ("8.9", "8.6", False),
        ("8.6", "8.7", False),
        ("8.7", "8.9", False),
        ("8.6", "9.0", False),
    ],
)
def test_kernels_of_an_earlier_gpu_of_the_generation_do_but_for_jetsons(
    bundle, kernels, here, runs
):
    options = BuildOptions(hardware_compatibility="ampere_plus")
    made = bundle(options=options, kernels=(kernels,))
    gpu = replace(ORIN, compute_capability=here)
    assert (obstacle(made, machine(gpu, tensorrt="10.3.0")) is None) == runs


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


@pytest.mark.parametrize("version", ["10.3.0.30", "10.3.0.30-1+cuda12.5", "10.3"])
def test_release_is_compared_as_far_as_both_sides_state_it(bundle, version):
    assert obstacle(bundle(), machine(ORIN, tensorrt=version)) is None


def test_release_of_debian_is_compared_without_what_is_no_number(bundle):
    plan = bundle(target_version="10.3.0.30.7")
    here = machine(ORIN, tensorrt="10.3.0.30-1+cuda12.5")
    assert obstacle(plan, here) is None


def test_command_keeps_the_limits_and_quotes_the_path(bundle, tmp_path):
    options = BuildOptions(
        workspace_bytes=1 << 29,
        tactic_bytes=1 << 30,
        optimization_level=0,
        version_compatible=True,
        hardware_compatibility="same_compute_capability",
        strip=True,
    )
    plan = replace(bundle(options=options), path=tmp_path / "my orin")
    found = obstacle(plan, machine(H200, tensorrt="11.4.0.106"))
    assert found is not None
    command = found.reason.split("`")[1]
    path = tmp_path / "my orin"
    assert shlex.split(command) == [
        *("fcn-trt", "build", f"{path}/network.onnx", "--target", "tensorrt", "--out", str(path)),
        *("--workspace", "536870912", "--tactic-memory", "1073741824"),
        *("--optimization-level", "0", "--version-compatible"),
        *("--hardware-compatibility", "same_compute_capability", "--strip"),
    ]
    assert found.is_cured_by_rebuild


class TestRebuildThatWouldFail:
    """It is not advised."""

    def refused(self, plan, here):
        found = obstacle(plan, here)
        assert found is not None
        assert not found.is_cured_by_rebuild
        assert "--rebuild" not in found.reason
        return found.reason

    @pytest.mark.parametrize("gpu", [H200, ORIN])
    def test_for_a_gpu_that_rtx_does_not_know(self, bundle, gpu):
        plan = bundle(
            target="tensorrt-rtx", target_version="1.7.1.116", compute_capabilities=("8.6",)
        )
        reason = self.refused(plan, machine(gpu, tensorrt_rtx="1.7.1.116"))
        assert reason.endswith(
            ", but TensorRT-RTX is for compute capability 7.5, 8.0, 8.6, 8.9, 12.0, 12.1 only; run "
            "it on such a GPU"
        )

    @pytest.mark.parametrize("target", ["tensorrt", "tensorrt-rtx"])
    def test_for_a_gpu_that_lacks_the_type(self, bundle, target):
        plan = bundle(target=target, target_version="10.3.0")
        spec = replace(plan.manifest.spec, precision="bf16")
        plan = replace(plan, manifest=replace(plan.manifest, spec=spec))
        turing = replace(H200, compute_capability="7.5")
        reason = self.refused(plan, machine(turing, tensorrt="10.3.0", tensorrt_rtx="10.3.0"))
        assert reason.endswith(
            "this machine has sm_75 with 10.3.0, which does not compute bf16; build it as fp16"
        )

    @pytest.mark.parametrize("version", ["8.6.2", "9.3.0", "12.0.0", "unknown"])
    def test_with_a_release_that_is_not_supported(self, bundle, version):
        plan = bundle(options=BuildOptions(version_compatible=True))
        reason = self.refused(plan, machine(H200, tensorrt=version))
        assert reason.endswith(
            f"sm_90 with {version}, but only 10.0 to 11.x are supported; `fcn-trt doctor` says "
            "what helps"
        )


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
    for version in ("10.0.1", "11.0.0"):
        found = obstacle(plan, machine(ORIN, tensorrt=version))
        assert found is not None
        assert found.is_cured_by_rebuild
        assert "--version-compatible`" in found.reason


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


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_cpu_bundle_whose_type_is_not_computed_does_not_run(bundle, tiny_network, precision):
    if computes(precision):
        pytest.skip(f"this CPU computes {precision}")
    spec = replace(read_spec(tiny_network), precision=precision)
    found = obstacle(bundle(target="openvino", spec=spec))
    assert found is not None
    assert found.reason.startswith(f"it is {precision}, which this CPU (")
