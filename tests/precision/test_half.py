from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest

from fcn_trt.calibration.tensor_values import TensorValues
from fcn_trt.engine.openvino.builder import build_openvino, computes, openvino_core
from fcn_trt.errors import OnnxError
from fcn_trt.network.contract import (
    declare_ends,
    finish_network,
    image_shape,
    load_network,
    logits_shape,
)
from fcn_trt.network.to_onnx import to_onnx
from fcn_trt.precision.half import to_half
from fcn_trt.precision.quantize import quantize_network
from fcn_trt.runtime.segmenter import Segmenter
from fcn_trt.spec import ShapeRange
from tests.plans import as_network, save

FLOAT = onnx.TensorProto.FLOAT
TYPES = {"fp16": onnx.TensorProto.FLOAT16, "bf16": onnx.TensorProto.BFLOAT16}
HALF_STEP = {"fp16": 2**-11, "bf16": 2**-8}
"""Of a value: what rounding to nearest costs at most; 11 and 8 bits of mantissa."""

CLOSE = 0.08
"""Share of the largest logit that BF16's 8 bits may cost in 18 convolutions of random weights."""

ISLAND = (
    "backbone.layer2.0.conv1",
    "backbone.layer2.0.relu",
    "backbone.layer2.0.conv2",
    "backbone.layer2.0.downsample.0",
    "backbone.layer2.0.add",
)


@pytest.fixture
def fp32(tiny_network):
    return load_network(tiny_network)


def half_of(network, precision, keep=()):
    model, spec = network
    return to_half(model, spec, precision, keep=frozenset(keep))


@pytest.fixture(params=["fp16", "bf16"])
def precision(request):
    return request.param


@pytest.fixture
def half(fp32, precision):
    return half_of(fp32, precision)


def weights_of(model):
    return {t.name: t for t in model.graph.initializer}


def casts_of(model):
    return [(n.input[0], n.output[0]) for n in model.graph.node if n.op_type == "Cast"]


def types_of(model):
    values = (*model.graph.input, *model.graph.output, *model.graph.value_info)
    return {v.name: v.type.tensor_type.elem_type for v in values}


def logits_of(model, image, folder, hint="f32"):
    """Computed by OpenVINO in one type, or in those of the graph, which is the hint "dynamic"."""
    save(model, folder / "n.onnx")
    config = {"INFERENCE_PRECISION_HINT": hint}
    return openvino_core().compile_model(folder / "n.onnx", "CPU", config)(image)[0]


def difference(found, expected):
    """The largest one, as a share of the largest logit."""
    return np.abs(found - expected).max() / np.abs(expected).max()


def image_of(shape=(1, 3, 64, 96)):
    return np.random.default_rng(0).standard_normal(shape, np.float32)


class TestWholeNetwork:
    def test_every_weight_is_half_and_rounded_to_nearest(self, fp32, half, precision):
        originals = weights_of(fp32[0])
        typed = weights_of(half[0])
        assert list(typed) == list(originals)
        for name, tensor in typed.items():
            assert tensor.data_type == TYPES[precision]
            values = onnx.numpy_helper.to_array(tensor).astype(np.float32)
            original = onnx.numpy_helper.to_array(originals[name])
            # Below its normal numbers FP16 has steps of 2^-24.
            np.testing.assert_allclose(values, original, rtol=HALF_STEP[precision], atol=2**-25)

    def test_everything_between_the_two_casts_is_half(self, half, precision):
        model, _ = half
        onnx.checker.check_model(model, full_check=True)
        ends = [("image", f"image.{precision}"), (f"logits.{precision}", "logits")]
        assert casts_of(model) == ends
        assert [model.graph.node[i].op_type for i in (0, -1)] == ["Cast", "Cast"]
        types = types_of(model)
        assert types.pop("image") == types.pop("logits") == FLOAT
        assert set(types) == {name for n in model.graph.node[:-1] for name in n.output}
        assert set(types.values()) == {TYPES[precision]}

    def test_fp16_keeps_the_opset_and_bf16_takes_the_first_that_has_it(self, half, precision):
        expected = {"fp16": 17, "bf16": 22}[precision]
        assert [o.version for o in half[0].opset_import] == [expected]

    def test_spec_says_the_precision_and_nothing_else_changes(
        self, fp32, half, precision, tmp_path
    ):
        assert half[1] == replace(fp32[1], precision=precision)
        save(half[0], tmp_path / "n.onnx")
        assert load_network(tmp_path / "n.onnx")[1] == half[1]

    def test_fp32_model_is_left_as_it_is(self, fp32, precision):
        before = fp32[0].SerializeToString()
        half_of(fp32, precision, keep=ISLAND)
        assert fp32[0].SerializeToString() == before

    def test_file_is_half_as_large(self, fp32, half):
        assert half[0].ByteSize() < 0.6 * fp32[0].ByteSize()

    def test_what_is_not_fp32_is_refused(self, half, precision):
        message = f"fcn_r18-d8 is {precision} already; start from the FP32 ONNX"
        with pytest.raises(OnnxError, match=message):
            half_of(half, precision)

    def test_dynamic_shapes_stay_dynamic(self, tiny_model, precision, tmp_path):
        shapes = ShapeRange(min_size=(33, 64), max_size=(128, 128), min_batch=1, max_batch=3)
        model, spec = half_of(to_onnx(tiny_model, size=(64, 96), dynamic=shapes), precision)
        assert spec.dynamic == shapes
        for shape in ((1, 3, 33, 64), (3, 3, 128, 128)):
            static = to_onnx(tiny_model, size=shape[2:], batch=shape[0])
            expected = logits_of(half_of(static, precision)[0], image_of(shape), tmp_path)
            found = logits_of(model, image_of(shape), tmp_path)
            assert difference(found, expected) < CLOSE

    def test_computed_in_float32_its_logits_are_close(self, fp32, half, tmp_path):
        """The typed graph itself, on any CPU: only what rounding of weights and tensors costs."""
        expected = logits_of(fp32[0], image_of(), tmp_path)
        found = logits_of(half[0], image_of(), tmp_path)
        assert found.dtype == np.float32
        assert 0 < difference(found, expected) < CLOSE

    def test_openvino_runs_it_in_its_type_and_its_labels_agree(
        self, half, precision, tiny_bundle, make_frame, tmp_path
    ):
        if not computes(precision):
            pytest.skip(f"needs a CPU that computes {precision}")
        save(half[0], tmp_path / "n.onnx")
        bundle = build_openvino(as_network(tmp_path / "n.onnx"), tmp_path / "bundle")
        assert bundle.manifest.precision_proven.convolutions == {precision: 18}
        frame = make_frame((128, 192))
        with Segmenter.load(bundle.path) as typed, Segmenter.load(tiny_bundle.path) as full:
            assert (typed.segment(frame) == full.segment(frame)).mean() > 0.9
            logits = full.logits([frame])
            assert 0 < difference(typed.logits([frame]), logits) < CLOSE


class TestKeptNodes:
    def test_casts_stand_around_the_island_and_not_around_its_nodes(self, fp32, precision):
        model, _ = half_of(fp32, precision, keep=ISLAND)
        before, after = "backbone.layer1.0.relu.2", "backbone.layer2.0.add"
        assert casts_of(model) == [
            ("image", f"image.{precision}"),
            (before, f"{before}.fp32"),
            (after, f"{after}.{precision}"),
            (f"logits.{precision}", "logits"),
        ]
        types, weights = types_of(model), weights_of(model)
        for node in model.graph.node:
            if node.op_type != "Cast":
                expected = FLOAT if node.name in ISLAND else TYPES[precision]
                assert types[node.output[0]] == expected
                assert {weights[n].data_type for n in node.input if n in weights} <= {expected}

    def test_no_cast_reads_a_cast_however_islands_lie(self, fp32, precision):
        names = [node.name for node in fp32[0].graph.node]
        for seed in range(8):
            chosen = np.random.default_rng(seed).random(len(names)) < 0.4
            keep = frozenset(n for n, is_kept in zip(names, chosen, strict=True) if is_kept)
            model, spec = half_of(fp32, precision, keep=keep)
            onnx.checker.check_model(model, full_check=True)
            sources, targets = zip(*casts_of(model), strict=True)
            assert not set(sources) & set(targets)
            assert len(set(sources)) == len(sources)  # one Cast per tensor, however many read it
            assert set(spec.exceptions) == keep

    @pytest.mark.parametrize(
        ("keep", "ends"),
        [
            ("backbone.stem.0", ["backbone.stem.0", "logits"]),
            ("decode_head.conv_seg", ["image", "decode_head.conv_cat.relu"]),
        ],
    )
    def test_kept_ends_need_no_cast_of_image_or_logits(self, fp32, precision, keep, ends):
        model, _ = half_of(fp32, precision, keep=[keep])
        casts = [source.removesuffix(f".{precision}") for source, _ in casts_of(model)]
        assert casts == ends

    def test_network_that_is_kept_whole_has_no_cast(self, fp32, precision, tmp_path):
        names = frozenset(node.name for node in fp32[0].graph.node)
        model, spec = half_of(fp32, "fp16", keep=names)
        assert casts_of(model) == []
        assert set(spec.exceptions.values()) == {"fp32"}
        assert model.graph.node == fp32[0].graph.node

    def test_spec_names_them_in_the_order_of_the_graph(self, fp32, precision):
        _, spec = half_of(fp32, precision, keep=ISLAND)
        in_order = [n.name for n in fp32[0].graph.node if n.name in ISLAND]
        assert list(spec.exceptions.items()) == [(name, "fp32") for name in in_order]

    def test_node_that_there_is_not_is_refused(self, fp32, precision):
        with pytest.raises(ValueError, match="fcn_r18-d8 has no node 'conv9' to keep in FP32"):
            half_of(fp32, precision, keep=["conv9", *ISLAND])

    def test_openvino_computes_them_in_fp32_and_the_bundle_proves_it(
        self, fp32, precision, tmp_path
    ):
        if not computes(precision):
            pytest.skip(f"needs a CPU that computes {precision}")
        model, _ = half_of(fp32, precision, keep=ISLAND)
        save(model, tmp_path / "n.onnx")
        bundle = build_openvino(as_network(tmp_path / "n.onnx"), tmp_path / "bundle")
        assert bundle.manifest.precision_proven.convolutions == {precision: 23, "fp32": 3}


class TestWeights:
    def test_weight_beyond_fp16_keeps_its_node_and_no_other(self, fp32):
        model, spec = fp32
        name = "backbone.layer3.0.conv1"
        values = onnx.numpy_helper.to_array(weights_of(model)[f"{name}.weight"]).copy()
        values.flat[0] = -65520
        weights_of(model)[f"{name}.weight"].raw_data = values.tobytes()
        typed, typed_spec = to_half(model, spec, "fp16")
        assert typed_spec.exceptions == {name: "fp32"}
        kept = weights_of(typed)[f"{name}.weight"]
        np.testing.assert_array_equal(onnx.numpy_helper.to_array(kept), values)
        assert to_half(model, spec, "bf16")[1].exceptions == {}

    def test_largest_fp16_is_no_exception(self, fp32):
        model, spec = fp32
        tensor = model.graph.initializer[0]
        values = onnx.numpy_helper.to_array(tensor).copy()
        values.flat[0] = 65504
        tensor.raw_data = values.tobytes()
        assert to_half(model, spec, "fp16")[1].exceptions == {}

    def test_weight_that_both_types_need_is_there_twice(self, fp32, precision):
        model, spec = fp32
        first, second = (n for n in model.graph.node if n.name.startswith("backbone.layer1.0.conv"))
        second.input[1:] = first.input[1:]
        typed, _ = to_half(model, spec, precision, keep=frozenset([second.name]))
        weights = weights_of(typed)
        name = first.input[1]
        assert weights[name].data_type == TYPES[precision]
        assert weights[f"{name}.fp32"].data_type == FLOAT
        np.testing.assert_array_equal(
            onnx.numpy_helper.to_array(weights[f"{name}.fp32"]),
            onnx.numpy_helper.to_array(weights_of(model)[name]),
        )


class TestResize:
    @pytest.fixture
    def resizing(self, fp32):
        """The tiny network with a Resize by 0.85693 and back in front of its classifier."""
        model, spec = fp32
        graph, make = model.graph, onnx.helper.make_node
        classifier = graph.node[-1]
        source = classifier.input[0]
        for name, values in {
            "down": np.array([1, 1, 0.85693, 0.85693], np.float32),
            "one": np.array([1, 1], np.float32),
            "two": np.array([2.0], np.float32),
        }.items():
            graph.initializer.append(onnx.numpy_helper.from_array(values, name))
        nodes = [
            make("Resize", [source, "", "down"], ["small"], name="shrink", mode="linear"),
            # Scales from shapes, as exporters write a Resize back to the size of another tensor.
            make("Shape", [source], ["wanted"], start=2),
            make("Shape", ["small"], ["had"], start=2),
            make("Cast", ["wanted"], ["wanted.float"], to=FLOAT),
            make("Cast", ["had"], ["had.float"], to=FLOAT),
            make("Div", ["wanted.float", "had.float"], ["ratio"]),
            make("Concat", ["one", "ratio"], ["up"], axis=0),
            make("Resize", ["small", "", "up"], ["back"], name="enlarge", mode="linear"),
        ]
        graph.node.remove(classifier)
        graph.node.extend([*nodes, classifier])
        graph.node[-1].input[0] = "back"
        declare_ends(graph, image_shape(spec), logits_shape(spec))
        return finish_network(model, spec), spec

    def test_scales_stay_float32_and_so_does_what_computes_them(
        self, resizing, precision, tmp_path
    ):
        model, spec = half_of(resizing, precision)
        assert spec.exceptions == {}
        types, weights = types_of(model), weights_of(model)
        assert weights["down"].data_type == FLOAT
        for name in ("wanted.float", "had.float", "ratio", "up"):
            assert types[name] == FLOAT
        assert types["small"] == types["back"] == TYPES[precision]
        expected = logits_of(resizing[0], image_of(), tmp_path)
        found = logits_of(model, image_of(), tmp_path)
        assert difference(found, expected) < CLOSE

    def test_cast_of_the_graph_s_own_gets_the_type(self, fp32, precision):
        """A Cast from integers into the features, not into scales."""
        model, spec = fp32
        graph, make = model.graph, onnx.helper.make_node
        classifier = graph.node[-1]
        zero = onnx.numpy_helper.from_array(np.zeros(1, np.int64), "zero")
        graph.initializer.append(zero)
        nodes = [
            make("Cast", ["zero"], ["zero.float"], to=FLOAT),
            make("Add", [classifier.input[0], "zero.float"], ["sum"], name="shift"),
        ]
        graph.node.remove(classifier)
        graph.node.extend([*nodes, classifier])
        graph.node[-1].input[0] = "sum"
        typed, _ = to_half(finish_network(model, spec), spec, precision)
        assert types_of(typed)["zero.float"] == TYPES[precision]


CODES = {"int8": onnx.TensorProto.INT8, "fp8": onnx.TensorProto.FLOAT8E4M3FN}


@pytest.fixture(params=["int8", "fp8"])
def code(request):
    return request.param


class TestQuantisedNetwork:
    """Its rest becomes FP16; codes and scales stay what they are."""

    KEPT = ("backbone.stem.0", "backbone.layer1.0.conv2", "decode_head.conv_seg")

    @pytest.fixture
    def quantised(self, fp32, code, tiny_network, monkeypatch):
        """Quantise all of the tiny network with the ranges of one image.

        FP8 would leave most of so narrow a network in float.
        """
        monkeypatch.setattr("fcn_trt.precision.qdq.FP8_CHANNELS", 0)
        model, spec = fp32
        amaxes = TensorValues(as_network(tiny_network, spec)).measure(image_of())

        def make(keep=(), opset=19):
            return quantize_network(model, spec, code, amaxes, keep=frozenset(keep), opset=opset)

        return make

    def test_scales_are_float16_and_equal_and_codes_are_the_same_bytes(self, quantised, code):
        full = weights_of(quantised(opset=17)[0])
        typed = weights_of(half_of(quantised(), "fp16")[0])
        assert set(typed) == set(full)
        kinds = {name: tensor.data_type for name, tensor in typed.items()}
        scales = [name for name in typed if name.endswith(".scale")]
        codes = [name for name in typed if kinds[name] == CODES[code]]
        assert len(scales) == 18 + 18  # activations, 3 of them skip branches, and weights
        assert {kinds[name] for name in set(typed) - set(codes)} == {TYPES["fp16"]}
        for name in scales:
            found, expected = (onnx.numpy_helper.to_array(w[name]) for w in (typed, full))
            np.testing.assert_array_equal(found.astype(np.float32), expected)
        for name in codes:
            assert typed[name] == full[name]

    def test_everything_between_the_two_casts_is_float16_or_codes(self, quantised, code):
        model, _ = half_of(quantised(), "fp16")
        onnx.checker.check_model(model, full_check=True)
        assert [o.version for o in model.opset_import] == [19]
        assert casts_of(model) == [("image", "image.fp16"), ("logits.fp16", "logits")]
        types = types_of(model)
        assert types.pop("image") == types.pop("logits") == FLOAT
        stored = {name for name, kind in types.items() if kind == CODES[code]}
        assert stored == {n.output[0] for n in model.graph.node if n.op_type == "QuantizeLinear"}
        assert {types[name] for name in set(types) - stored} == {TYPES["fp16"]}

    def test_spec_says_what_the_rest_is(self, fp32, quantised, code):
        _, spec = half_of(quantised(), "fp16")
        assert spec == replace(fp32[1], precision=code, float_precision="fp16")

    def test_convolutions_in_float_become_fp16_and_those_that_do_not_fit_stay_fp32(self, quantised):
        network = quantised(self.KEPT)
        assert set(network[1].exceptions.values()) == {"fp32"}
        model, spec = half_of(network, "fp16", keep=["backbone.layer1.0.conv2"])
        assert spec.exceptions == dict.fromkeys(self.KEPT, "fp16") | {
            "backbone.layer1.0.conv2": "fp32"
        }
        onnx.checker.check_model(model, full_check=True)
        types, weights = types_of(model), weights_of(model)
        for node in model.graph.node:
            if node.name in self.KEPT:
                kind = FLOAT if node.name == "backbone.layer1.0.conv2" else TYPES["fp16"]
                assert {weights[name].data_type for name in node.input[1:]} == {kind}
                assert types[node.output[0]] == kind
        before, after = "backbone.layer1.0.relu", "backbone.layer1.0.conv2"
        inner = [(before, f"{before}.fp32"), (after, f"{after}.fp16")]
        assert casts_of(model)[1:-1] == inner

    def test_what_fp8_has_no_kernels_for_becomes_fp16(self, fp32, tiny_network):
        model, spec = fp32
        amaxes = TensorValues(as_network(tiny_network, spec)).measure(image_of())
        model, spec = half_of(quantize_network(model, spec, "fp8", amaxes), "fp16")
        onnx.checker.check_model(model, full_check=True)
        assert {"backbone.stem.0", "decode_head.conv_seg"} < set(spec.exceptions)
        assert set(spec.exceptions.values()) == {"fp16"}
        weights = weights_of(model)
        convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
        for node in convolutions:
            if node.name in spec.exceptions:
                assert {weights[name].data_type for name in node.input[1:]} == {TYPES["fp16"]}
            else:
                assert weights[f"{node.name}.weight.quantized"].data_type == CODES["fp8"]
                assert f"{node.name}.weight" not in weights
        assert 0 < len(spec.exceptions) < len(convolutions)

    def test_weights_that_a_kept_convolution_reads_too_are_fp16_beside_the_codes(
        self, fp32, tiny_network
    ):
        model, spec = fp32
        amaxes = TensorValues(as_network(tiny_network, spec)).measure(image_of())
        first, second = (f"backbone.layer1.0.conv{i}" for i in (1, 2))
        (node,) = (n for n in model.graph.node if n.name == second)
        node.input[1] = f"{first}.weight"
        network = quantize_network(model, spec, "int8", amaxes, keep={second}, opset=19)
        typed, _ = half_of(network, "fp16")
        onnx.checker.check_model(typed, full_check=True)
        weights = weights_of(typed)
        assert weights[f"{first}.weight"].data_type == TYPES["fp16"]
        assert weights[f"{first}.weight.quantized"].data_type == CODES["int8"]
        assert np.isfinite(self.with_onnxruntime(typed)).all()

    def test_network_whose_rest_is_fp16_already_is_refused(self, quantised, code):
        with pytest.raises(OnnxError, match=f"fcn_r18-d8 is {code} already; start from the FP32"):
            half_of(half_of(quantised(), "fp16"), "fp16")

    def test_rest_cannot_be_bf16_which_would_round_the_scales(self, quantised, code):
        message = f"fcn_r18-d8 is {code}, whose rest can be fp16 or fp32 but not bf16"
        with pytest.raises(OnnxError, match=message):
            half_of(quantised(), "bf16")

    def test_it_is_as_near_fp32_as_with_a_float32_rest(self, fp32, quantised):
        """A value between two codes may fall to the other side, which is no worse on average."""
        full = self.with_onnxruntime(fp32[0])
        expected = self.with_onnxruntime(quantised()[0])
        found = self.with_onnxruntime(half_of(quantised(), "fp16")[0])
        assert not np.array_equal(found, expected)
        assert np.abs(found - full).mean() < 1.1 * np.abs(expected - full).mean()

    def with_onnxruntime(self, model):
        """Logits without any optimisation; each FP16 node is computed in FP32 and rounded."""
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(model.SerializeToString(), options)
        return session.run(None, {"image": image_of()})[0]
