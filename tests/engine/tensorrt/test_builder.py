"""Building with the real TensorRT-RTX; what only a GPU can do is in tests/gpu."""

import os
import signal
import time
from dataclasses import replace

import pytest

from fcn_trt.cuda.nvrtc import kernel_sources_sha256
from fcn_trt.engine import bundle
from fcn_trt.engine.bundle import NETWORK_NAME, PLAN_NAME, load_bundle
from fcn_trt.engine.manifest import MANIFEST_NAME, Manifest
from fcn_trt.engine.options import RTX_CAPABILITIES, BuildOptions
from fcn_trt.engine.tensorrt.builder import (
    _kernel_capabilities,
    build_tensorrt,
    compile_tensorrt,
)
from fcn_trt.engine.tensorrt.device import Device
from fcn_trt.engine.tensorrt.library import TensorRtTarget
from fcn_trt.engine.tensorrt.progress import BuildPhase
from fcn_trt.errors import BundleError, EngineError, OnnxError, OutputError
from fcn_trt.files import write_atomic
from fcn_trt.spec import read_spec
from tests.plans import as_network
from tests.processes import end_of, start

pytestmark = pytest.mark.usefixtures("rtx")
KERNELS = ("decode", "overlay", "preprocess")
RTX: TensorRtTarget = "tensorrt-rtx"
TOLD = BuildOptions(compute_capabilities=("8.6", "12.0"))


def compiled_for_rtx(network, spec, **given):
    return compile_tensorrt(network.read_bytes(), spec, name=network, target=RTX, **given)


@pytest.fixture
def edited(tiny_network, tmp_path):
    """The tiny network with a change to its graph, whose spec still says what it was."""

    def edit(change):
        onnx = pytest.importorskip("onnx")
        model = onnx.load(tiny_network)
        change(model.graph)
        write_atomic(tmp_path / "edited.onnx", model.SerializeToString())
        return tmp_path / "edited.onnx"

    return edit


def test_bundle_holds_plan_network_and_what_they_are(tiny_network, tmp_path, rtx):
    bundle = build_tensorrt(as_network(tiny_network), tmp_path / "tiny", target=RTX, options=TOLD)
    manifest = bundle.manifest
    kernels = [f"{name}-{c}.cubin" for name in KERNELS for c in ("12.0", "8.6")]
    expected = sorted([*kernels, PLAN_NAME, MANIFEST_NAME, NETWORK_NAME])
    assert sorted(p.name for p in bundle.path.iterdir()) == expected
    assert (manifest.target, manifest.target_version) == (RTX, rtx.__version__)
    assert manifest.compute_capabilities == ("8.6", "12.0")
    assert manifest.options == TOLD
    assert bundle.read(PLAN_NAME)[:4] == b"vtrt"
    assert load_bundle(bundle.path) == bundle


def test_kernels_are_compiled_for_each_gpu_and_their_sources_are_known(tiny_network, tmp_path):
    bundle = build_tensorrt(as_network(tiny_network), tmp_path / "tiny", target=RTX, options=TOLD)
    assert bundle.manifest.kernels_sha256 == kernel_sources_sha256()
    found = {capability: bundle.kernels(capability) for capability in ("8.6", "8.9", "12.0")}
    assert found["8.6"] == found["8.9"] != found["12.0"]
    for kernels in found.values():
        assert set(kernels) == {f"{name}.cubin" for name in KERNELS}
        assert all(cubin.startswith(b"\x7fELF") for cubin in kernels.values())
    for capability in ("8.0", "7.5", "9.0"):
        with pytest.raises(BundleError, match=f"no kernels for compute capability {capability}; b"):
            bundle.kernels(capability)


def test_kernels_of_a_compatible_engine_are_for_each_generation_and_jetson(caplog, monkeypatch):
    options = BuildOptions(hardware_compatibility="ampere_plus")
    device = Device(name="RTX 3090", compute_capabilities=("8.6",), gpu=None)
    found = _kernel_capabilities(device, options)
    assert found == ["8.6", "8.0", "8.7", "9.0", "10.0", "11.0", "12.0"]
    assert _kernel_capabilities(device, BuildOptions()) == ["8.6"]
    older = ("7.5", "8.0", "8.6", "8.7", "8.9", "9.0")  # those of CUDA 12.6
    monkeypatch.setattr("fcn_trt.engine.tensorrt.builder.known_capabilities", lambda: older)
    assert _kernel_capabilities(device, options) == ["8.6", "8.0", "8.7", "9.0"]
    assert "this NVRTC does not compile for 10.0, 11.0, 12.0; left out" in caplog.text


def test_proof_says_that_only_the_typed_network_could_be_asked(tiny_network, tmp_path):
    proof = build_tensorrt(
        as_network(tiny_network), tmp_path / "tiny", target=RTX, options=TOLD
    ).manifest.precision_proven
    assert (proof.source, proof.convolutions) == ("network", {"fp32": 18})


def test_proof_counts_the_same_gmac_as_the_profile(tiny_network, tiny_model, tmp_path):
    from fcn_trt.engine.openvino.builder import compile_network

    spec = read_spec(tiny_network)
    found = compiled_for_rtx(tiny_network, spec, options=TOLD).precision_proven
    assert found.gmac == compile_network(as_network(tiny_network, spec)).proof.gmac


def test_engine_without_named_gpus_names_all_that_the_library_compiles_for(tiny_network):
    compiled = compiled_for_rtx(tiny_network, read_spec(tiny_network), options=BuildOptions())
    assert compiled.compute_capabilities == RTX_CAPABILITIES


def test_graph_that_is_not_what_its_spec_says_is_refused_and_its_layers_are_named(tiny_network):
    spec = replace(read_spec(tiny_network), precision="fp16")
    message = (
        r"fp16 was asked for, but TensorRT-RTX \S+ computes 18 of 18 convolutions in another type: "
        r"backbone\.\S+ \(fp32\), .* and 15 more; choose another precision"
    )
    with pytest.raises(EngineError, match=message):
        compiled_for_rtx(tiny_network, spec, options=TOLD)


class TestRefused:
    """Nothing is left under the bundle's name."""

    @pytest.fixture(autouse=True)
    def nothing_is_left(self, tmp_path):
        yield
        assert not (tmp_path / "out").exists()
        assert not list(tmp_path.glob(".out*"))

    def refusal(self, network, tmp_path, error=EngineError, options=TOLD):
        with pytest.raises(error) as refused:
            build_tensorrt(as_network(network), tmp_path / "out", target=RTX, options=options)
        assert "\n" not in str(refused.value)
        return str(refused.value)

    def test_file_that_is_no_onnx(self, tmp_path):
        (tmp_path / "n.onnx").write_bytes(b"hello, I am text")
        said = self.refusal(tmp_path / "n.onnx", tmp_path, OnnxError)
        assert said.endswith("n.onnx is not a whole ONNX file; export it again")

    def test_operator_that_the_library_does_not_take_by_its_node(self, edited, tmp_path):
        def change(graph):
            graph.node[5].op_type = "Det"

        network = edited(change)
        said = self.refusal(network, tmp_path)
        assert "does not take the operator Det of node 'backbone.stem.8'" in said
        assert said.startswith(f"{network} cannot become an engine: TensorRT-RTX ")

    def test_operator_that_nobody_knows_by_its_node(self, edited, tmp_path):
        def change(graph):
            graph.node[5].op_type = "Kaleidoscope"

        said = self.refusal(edited(change), tmp_path)
        assert "Kaleidoscope" in said
        assert "'backbone.stem.8'" in said

    def test_weights_of_another_type_than_the_image_by_their_node(self, edited, tmp_path):
        import numpy as np
        import onnx

        def change(graph):
            weight = graph.initializer[0]
            values = onnx.numpy_helper.to_array(weight).astype(np.float16)
            weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))

        assert "backbone." in self.refusal(edited(change), tmp_path)

    def test_gpu_that_lacks_the_type(self, tiny_network, tmp_path):
        from fcn_trt.precision.type_network import type_network

        type_network(as_network(tiny_network), tmp_path / "bf16.onnx", "bf16")
        options = BuildOptions(compute_capabilities=("7.5", "8.6"))
        said = self.refusal(tmp_path / "bf16.onnx", tmp_path, options=options)
        assert said.startswith("bf16 needs a GPU of compute capability 8.0 or more, but 7.5 was")

    def test_workspace_that_is_too_small(self, tiny_network, tmp_path):
        options = replace(TOLD, workspace_bytes=1)
        said = self.refusal(tiny_network, tmp_path, options=options)
        assert said.endswith("; raise the workspace limit")

    def test_compatibility_that_the_library_has_not(self, tiny_network, tmp_path):
        options = replace(TOLD, hardware_compatibility="ampere_plus")
        said = self.refusal(tiny_network, tmp_path, options=options)
        assert "does not know hardware_compatibility 'ampere_plus'; leave it out" in said

    def test_stripped_plan_without_a_gpu(self, tiny_network, tmp_path):
        said = self.refusal(tiny_network, tmp_path, options=replace(TOLD, strip=True))
        assert said.endswith("; a stripped plan needs a GPU to be built")


def test_version_compatible_plan_is_built(tiny_network):
    options = replace(TOLD, version_compatible=True)
    compiled = compiled_for_rtx(tiny_network, read_spec(tiny_network), options=options)
    assert compiled.plan


def test_folder_of_somebody_else_is_left_alone(tiny_network, tmp_path):
    (tmp_path / "photo.jpg").write_text("mine")
    with pytest.raises(BundleError, match=r"holds files that are no bundle's, such as photo\.jpg"):
        build_tensorrt(as_network(tiny_network), tmp_path, target=RTX, options=TOLD)


def test_folder_that_cannot_be_written_is_said(tiny_network, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        build_tensorrt(
            as_network(tiny_network), tmp_path / "file" / "out", target=RTX, options=TOLD
        )


class TestPlan:
    @pytest.fixture
    def bundle(self, tiny_network, tmp_path):
        return build_tensorrt(as_network(tiny_network), tmp_path / "tiny", target=RTX, options=TOLD)

    @pytest.mark.parametrize("keep", [0, 64, -1])
    def test_truncated_plan_is_refused_before_use(self, bundle, keep):
        (bundle.path / PLAN_NAME).write_bytes((bundle.path / PLAN_NAME).read_bytes()[:keep])
        with pytest.raises(BundleError, match=r"engine\.plan was altered: it has \d+ bytes"):
            load_bundle(bundle.path)

    def test_plan_whose_manifest_was_edited_is_refused(self, bundle):
        path = bundle.path / MANIFEST_NAME
        path.write_text(path.read_text().replace('"12.0"', '"12.1"'))
        with pytest.raises(BundleError, match=r"manifest\.json was altered"):
            load_bundle(bundle.path)

    def test_missing_plan_is_refused(self, bundle):
        (bundle.path / PLAN_NAME).unlink()
        with pytest.raises(BundleError, match=r"engine\.plan cannot be read"):
            load_bundle(bundle.path)


class TestStopped:
    def test_phases_are_reported_from_their_start_to_their_end(self, tiny_network):
        phases: list[BuildPhase] = []
        compiled_for_rtx(
            tiny_network,
            read_spec(tiny_network),
            options=TOLD,
            on_phase=phases.append,
        )
        first, last = phases[0], phases[-1]
        assert (first.parent, first.done) == (None, 0)
        assert (last.name, last.done) == (first.name, last.total)
        assert any(phase.parent == first.name for phase in phases)
        assert all(0 <= phase.done <= phase.total for phase in phases)

    def test_ctrl_c_stops_the_builder_and_leaves_nothing(self, tiny_network, tmp_path):
        whole: list[BuildPhase] = []
        phases: list[BuildPhase] = []
        spec = read_spec(tiny_network)
        compiled_for_rtx(tiny_network, spec, options=TOLD, on_phase=whole.append)
        before = signal.signal(signal.SIGINT, signal.default_int_handler)

        def interrupt(phase):
            phases.append(phase)
            if len(phases) == 3:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.05)  # let the main thread hear it before the builder goes on

        try:
            with pytest.raises(KeyboardInterrupt):
                build_tensorrt(
                    as_network(tiny_network),
                    tmp_path / "out",
                    target=RTX,
                    options=TOLD,
                    on_phase=interrupt,
                )
        finally:
            signal.signal(signal.SIGINT, before)
        assert list(tmp_path.iterdir()) == []
        assert len(phases) < len(whole) / 2

    def test_killed_build_leaves_nothing_under_the_final_name(self, tiny_network, tmp_path):
        killed = start(_be_killed_before_the_manifest, tiny_network, tmp_path / "out")
        assert end_of(killed) == -signal.SIGKILL
        assert not (tmp_path / "out").exists()
        build_tensorrt(as_network(tiny_network), tmp_path / "out", target=RTX, options=TOLD)
        load_bundle(tmp_path / "out")


def _be_killed_before_the_manifest(network, out):
    class Killed(Manifest):
        def to_json(self):
            os.kill(os.getpid(), signal.SIGKILL)

    vars(bundle)["Manifest"] = Killed
    options = BuildOptions(compute_capabilities=("8.6",))
    build_tensorrt(as_network(network), out, target=RTX, options=options)


def _build_often(network, out):
    options = BuildOptions(compute_capabilities=("8.6",))
    for _ in range(5):
        build_tensorrt(as_network(network), out, target=RTX, options=options)


@pytest.mark.exhaustive  # tests/pipeline/test_run.py has two for the CPU
def test_two_builds_of_one_bundle_at_once_leave_a_whole_one(tiny_network, tmp_path):
    builds = [start(_build_often, tiny_network, tmp_path / "out") for _ in range(2)]
    assert [end_of(build) for build in builds] == [0, 0]
    load_bundle(tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_travels_is_what_was_compiled(tiny_network, tmp_path):
    """The file is replaced while the builder runs."""
    network = tmp_path / "m.onnx"
    network.write_bytes(tiny_network.read_bytes())
    bundle = build_tensorrt(
        as_network(network),
        tmp_path / "out",
        target=RTX,
        options=TOLD,
        on_phase=lambda _: network.write_bytes(b"of somebody else"),
    )
    assert bundle.network.read_bytes() == tiny_network.read_bytes()


def test_error_of_who_watches_stops_the_builder_and_is_raised(tiny_network, tmp_path):
    def complain(phase):
        raise LookupError("no more room on the screen")

    with pytest.raises(LookupError, match="no more room on the screen"):
        build_tensorrt(
            as_network(tiny_network), tmp_path / "out", target=RTX, options=TOLD, on_phase=complain
        )
    assert not (tmp_path / "out").exists()


def test_what_the_bindings_refuse_is_one_sentence(tiny_network, monkeypatch):
    limit = 1 << 80  # more than the library's own integer holds
    monkeypatch.setattr(BuildOptions, "__post_init__", lambda _: None)
    options = BuildOptions(compute_capabilities=("8.6",), workspace_bytes=limit)
    with pytest.raises(EngineError, match=r"TensorRT-RTX \S+ does not take .*tiny\.onnx: ") as said:
        compiled_for_rtx(tiny_network, read_spec(tiny_network), options=options)
    assert "\n" not in str(said.value)


@pytest.mark.parametrize("transposed", [False, True])
def test_groups_and_transposed_convolutions_count_in_both(tiny_network, tmp_path, transposed):
    onnx = pytest.importorskip("onnx")
    import numpy as np

    from fcn_trt.engine.openvino.builder import compile_network

    make = onnx.helper
    kind = "ConvTranspose" if transposed else "Conv"
    weights = [
        onnx.numpy_helper.from_array(np.ones(shape, np.float32), name)
        for name, shape in (("a", (6, 3, 3, 3)), ("b", (6, 1 if transposed else 3, 3, 3)))
    ]
    outputs = 2 if transposed else 4
    if not transposed:
        weights[1] = onnx.numpy_helper.from_array(np.ones((4, 3, 3, 3), np.float32), "b")
    graph = make.make_graph(
        [
            make.make_node("Conv", ["image", "a"], ["x"], name="first", pads=[1] * 4),
            make.make_node(kind, ["x", "b"], ["logits"], name="second", pads=[1] * 4, group=2),
        ],
        "net",
        [make.make_tensor_value_info("image", 1, (1, 3, 16, 16))],
        [make.make_tensor_value_info("logits", 1, (1, outputs, 16, 16))],
        weights,
    )
    path = tmp_path / "n.onnx"
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    spec = replace(read_spec(tiny_network), input_size=(16, 16))
    expected = round((256 * 6 * 27 + 256 * (6 * 9 if transposed else 4 * 27)) / 1e9, 6)
    for proof in (
        compile_network(as_network(path, spec)).proof,
        compiled_for_rtx(path, spec, options=TOLD).precision_proven,
    ):
        assert (proof.convolutions, proof.gmac) == ({"fp32": 2}, {"fp32": expected})
