"""Where Q/DQ stands, what the codes and scales are, and what the network then computes."""

from __future__ import annotations

import copy
import re
from dataclasses import replace
from itertools import pairwise

import ml_dtypes
import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="needs the extra: pip install 'fcn-trt[export]'")

from fcn_trt.errors import CalibrationError, OnnxError  # noqa: E402
from fcn_trt.network.contract import (  # noqa: E402
    declare_ends,
    finish_network,
    image_shape,
    load_network,
    logits_shape,
)
from fcn_trt.precision.qdq import convolution_names  # noqa: E402
from fcn_trt.precision.quantize import quantize_network  # noqa: E402

INT8, FP8 = onnx.TensorProto.INT8, onnx.TensorProto.FLOAT8E4M3FN
FLOAT = onnx.TensorProto.FLOAT


class Network:
    """A graph that is written node by node; every tensor is called after the node that makes it.

    Args:
        spec: Any spec, which is given the size and the stride of this graph.
        size: (height, width) of the input; the logits have an eighth.
    """

    def __init__(self, spec, size=(16, 24)):
        self.spec = replace(spec, input_size=size, stride=8)
        self.nodes, self.constants = [], []
        self.channels = {"image": 3}
        self.random = np.random.default_rng(0)

    def node(self, kind, name, *inputs, output=None, **attributes):
        made = onnx.helper.make_node(kind, inputs, [output or name], name=name, **attributes)
        self.nodes.append(made)
        known = [self.channels[i] for i in inputs if i in self.channels]
        self.channels[name] = sum(known) if kind == "Concat" else known[0]

    def constant(self, name, values):
        values = np.asarray(values, np.float32)
        self.constants.append(onnx.numpy_helper.from_array(values, name))

    def conv(self, name, source, channels=4, *, kernel=1, stride=1, output=None):
        shape = (channels, self.channels[source], kernel, kernel)
        self.constant(f"{name}.weight", self.random.standard_normal(shape))
        self.constant(f"{name}.bias", self.random.standard_normal(channels))
        inputs = (source, f"{name}.weight", f"{name}.bias")
        pads = [kernel // 2] * 4
        self.node("Conv", name, *inputs, strides=[stride] * 2, pads=pads, output=output)
        self.channels[name] = channels

    def stem(self):
        """To an eighth of the size, and 4 channels."""
        self.conv("stem", "image", kernel=3, stride=2)
        self.node("Relu", "stem.relu", "stem")
        pooling = {"kernel_shape": [3, 3], "strides": [4, 4], "pads": [1] * 4}
        self.node("MaxPool", "pool", "stem.relu", **pooling)

    def finish(self, source):
        """Add the classifier and return (model, spec)."""
        self.conv("classify", source, len(self.spec.classes), output="logits")
        graph = onnx.helper.make_graph(self.nodes, "test", [], [], self.constants)
        declare_ends(graph, image_shape(self.spec), logits_shape(self.spec))
        opset = onnx.helper.make_opsetid("", 17)
        model = onnx.helper.make_model(graph, opset_imports=[opset])
        return finish_network(model, self.spec), self.spec


@pytest.fixture
def network(tiny_network):
    """A new graph."""
    return Network(load_network(tiny_network)[1])


@pytest.fixture
def fp8_everywhere(monkeypatch):
    """FP8 of any number of channels: FP8 leaves most of so narrow a network in float."""
    monkeypatch.setattr("fcn_trt.precision.qdq.FP8_CHANNELS", 0)


@pytest.fixture
def fcn(network):
    """All that an FCN has, once: stem, both kinds of block, concatenation and classifier."""
    g = network
    g.stem()
    g.conv("block1.conv1", "pool", kernel=3)
    g.node("Relu", "block1.relu1", "block1.conv1")
    g.conv("block1.conv2", "block1.relu1", kernel=3)
    g.node("Add", "block1.add", "block1.conv2", "pool")
    g.node("Relu", "block1.relu2", "block1.add")
    g.conv("block2.conv1", "block1.relu2", 2)
    g.node("Relu", "block2.relu1", "block2.conv1")
    g.conv("block2.conv2", "block2.relu1", 2, kernel=3)
    g.node("Relu", "block2.relu2", "block2.conv2")
    g.conv("block2.conv3", "block2.relu2", 8)
    g.conv("block2.downsample", "block1.relu2", 8)
    g.node("Add", "block2.add", "block2.conv3", "block2.downsample")
    g.node("Relu", "block2.relu3", "block2.add")
    g.conv("head.conv", "block2.relu3", kernel=3)
    g.node("Relu", "head.relu", "head.conv")
    g.node("Concat", "head.cat", "block2.relu3", "head.relu", axis=1)
    g.conv("head.cat_conv", "head.cat", kernel=3)
    g.node("Relu", "head.cat_relu", "head.cat_conv")
    return g.finish("head.cat_relu")


def amaxes_of(model, value=4.0):
    """The same magnitude for every tensor that a node makes."""
    made = [name for node in model.graph.node for name in node.output]
    return dict.fromkeys(["image", *made], value)


def quantised(network, precision="int8", amaxes=None, **options):
    model, spec = network
    return quantize_network(model, spec, precision, amaxes or amaxes_of(model), **options)


def lines(model):
    """One line per node: operator, name, inputs, and output where that has another name."""
    found = []
    for node in model.graph.node:
        (output,) = node.output
        line = f"{node.op_type} {node.name}: {' '.join(node.input)}"
        found.append(line if output == node.name else f"{line} -> {output}")
    return found


def constants_of(model):
    return {t.name: t for t in model.graph.initializer}


def array(model, name):
    return onnx.numpy_helper.to_array(constants_of(model)[name])


def quantised_tensors(model):
    """What QuantizeLinear reads, in the order of the graph."""
    return [node.input[0] for node in model.graph.node if node.op_type == "QuantizeLinear"]


def inputs_of(model, name):
    return list(next(node for node in model.graph.node if node.name == name).input)


def scale_of(model, name):
    return float(array(model, f"{name}.scale"))


def least_half(wanted):
    """The least float16 that is not below each number; searched for among all there are."""
    halves = np.arange(1, 0x7C00, dtype=np.uint16).view(np.float16).astype(np.float64)
    return halves[np.searchsorted(halves, np.asarray(wanted, np.float64))].astype(np.float32)


def pair(name):
    """The Q and the DQ of an activation."""
    ends = f"{name}.scale {name}.zero_point"
    return [
        f"QuantizeLinear {name}.quantized: {name} {ends}",
        f"DequantizeLinear {name}.dequantized: {name}.quantized {ends}",
    ]


def weights(name):
    """The DQ of a convolution's weights."""
    name = f"{name}.weight"
    ends = f"{name}.quantized {name}.scale {name}.zero_point"
    return [f"DequantizeLinear {name}.dequantized: {ends}"]


@pytest.mark.usefixtures("fp8_everywhere")
@pytest.mark.parametrize("precision", ["int8", "fp8"])
def test_every_q_and_dq_stands_where_it_shall(fcn, precision):
    model, _ = quantised(fcn, precision)
    assert lines(model) == [
        *pair("image"),
        *weights("stem"),
        "Conv stem: image.dequantized stem.weight.dequantized stem.bias",
        "Relu stem.relu: stem",
        "MaxPool pool: stem.relu",
        *pair("pool"),
        *weights("block1.conv1"),
        "Conv block1.conv1: pool.dequantized block1.conv1.weight.dequantized block1.conv1.bias",
        "Relu block1.relu1: block1.conv1",
        *pair("block1.relu1"),
        *weights("block1.conv2"),
        "Conv block1.conv2: block1.relu1.dequantized block1.conv2.weight.dequantized "
        "block1.conv2.bias",
        "Add block1.add: block1.conv2 pool.dequantized",
        "Relu block1.relu2: block1.add",
        *pair("block1.relu2"),
        *weights("block2.conv1"),
        "Conv block2.conv1: block1.relu2.dequantized block2.conv1.weight.dequantized "
        "block2.conv1.bias",
        "Relu block2.relu1: block2.conv1",
        *pair("block2.relu1"),
        *weights("block2.conv2"),
        "Conv block2.conv2: block2.relu1.dequantized block2.conv2.weight.dequantized "
        "block2.conv2.bias",
        "Relu block2.relu2: block2.conv2",
        *pair("block2.relu2"),
        *weights("block2.conv3"),
        "Conv block2.conv3: block2.relu2.dequantized block2.conv3.weight.dequantized "
        "block2.conv3.bias",
        *weights("block2.downsample"),
        "Conv block2.downsample: block1.relu2.dequantized block2.downsample.weight.dequantized "
        "block2.downsample.bias",
        *pair("block2.downsample"),
        "Add block2.add: block2.conv3 block2.downsample.dequantized",
        "Relu block2.relu3: block2.add",
        *pair("block2.relu3"),
        *weights("head.conv"),
        "Conv head.conv: block2.relu3.dequantized head.conv.weight.dequantized head.conv.bias",
        "Relu head.relu: head.conv",
        "Concat head.cat: block2.relu3 head.relu",
        *pair("head.cat"),
        *weights("head.cat_conv"),
        "Conv head.cat_conv: head.cat.dequantized head.cat_conv.weight.dequantized "
        "head.cat_conv.bias",
        "Relu head.cat_relu: head.cat_conv",
        *pair("head.cat_relu"),
        *weights("classify"),
        "Conv classify: head.cat_relu.dequantized classify.weight.dequantized classify.bias "
        "-> logits",
    ]


def test_fp32_model_is_left_as_it_is(fcn):
    before = fcn[0].SerializeToString()
    quantised(fcn, keep={"stem"})
    assert fcn[0].SerializeToString() == before


@pytest.mark.usefixtures("fp8_everywhere")
def test_spec_says_the_precision_and_what_was_kept(fcn):
    _, spec = quantised(fcn)
    assert spec == replace(fcn[1], precision="int8", float_precision="fp32")
    _, spec = quantised(fcn, "fp8", keep={"classify", "stem"})
    assert list(spec.exceptions.items()) == [("stem", "fp32"), ("classify", "fp32")]
    assert (spec.precision, spec.float_precision) == ("fp8", "fp32")


@pytest.mark.usefixtures("fp8_everywhere")
@pytest.mark.parametrize(
    ("precision", "options", "opset", "ir"),
    [("int8", {}, 17, 8), ("int8", {"opset": 19}, 19, 9), ("fp8", {}, 19, 9)],
)
def test_opset_is_the_oldest_that_has_the_types(fcn, precision, options, opset, ir):
    model, _ = quantised(fcn, precision, **options)
    assert [o.version for o in model.opset_import] == [opset]
    assert model.ir_version == ir
    onnx.checker.check_model(model, full_check=True)


class TestAddition:
    """Which branch of a residual addition is quantised."""

    def add(self, network, *inputs):
        network.node("Add", "add", *inputs)
        return network.finish("add")

    def inputs_of_add(self, net, **options):
        return inputs_of(quantised(net, **options)[0], "add")

    @pytest.mark.parametrize("order", [1, -1])
    def test_skip_branch_in_either_order(self, network, order):
        network.stem()
        network.conv("conv", "pool", kernel=3)
        net = self.add(network, *("conv", "pool")[::order])
        assert self.inputs_of_add(net) == [*("conv", "pool.dequantized")[::order]]

    @pytest.mark.parametrize("order", [1, -1])
    @pytest.mark.parametrize("convs", [2, 3])
    def test_downsampling_is_the_shorter_way_in_either_order(self, network, order, convs):
        network.stem()
        network.conv("down", "pool")
        names = ["pool", *(f"conv{i}" for i in range(convs))]
        for source, name in pairwise(names):
            network.conv(name, source)
        net = self.add(network, *(names[-1], "down")[::order])
        assert self.inputs_of_add(net) == [*(names[-1], "down.dequantized")[::order]]

    @pytest.mark.parametrize("order", [1, -1])
    def test_only_convolutions_make_a_way_longer(self, network, order):
        """A ResNet-D pools before it downsamples."""
        network.stem()
        network.node("MaxPool", "smaller", "pool", kernel_shape=[1, 1])
        network.node("Relu", "smaller.relu", "smaller")
        network.conv("down", "smaller.relu")
        network.conv("conv1", "pool")
        network.conv("conv2", "conv1")
        net = self.add(network, *("conv2", "down")[::order])
        assert self.inputs_of_add(net) == [*("conv2", "down.dequantized")[::order]]

    def test_ways_are_measured_from_where_they_part(self, network):
        """The shorter way comes from a tensor that is itself behind more convolutions."""
        network.stem()
        network.conv("before", "pool")
        network.node("Add", "first", "before", "pool")
        network.conv("down", "first")
        network.conv("conv1", "first")
        network.conv("conv2", "conv1")
        net = self.add(network, "down", "conv2")
        assert self.inputs_of_add(net) == ["down.dequantized", "conv2"]

    def test_convolution_that_another_node_reads_too_is_not_fused(self, network):
        network.stem()
        network.conv("down", "pool")
        network.conv("conv1", "pool")
        network.conv("conv2", "conv1")
        network.node("Add", "add", "conv2", "down")
        network.node("Add", "again", "conv2", "add")
        model, _ = quantised(network.finish("again"))
        assert inputs_of(model, "add") == ["conv2.dequantized", "down"]

    def test_sum_of_no_convolution_is_left_alone(self, network):
        network.stem()
        network.conv("conv", "pool")
        network.node("Relu", "relu", "conv")
        net = self.add(network, "relu", "pool")
        assert self.inputs_of_add(net) == ["relu", "pool"]

    def test_sum_with_a_constant_is_left_alone(self, network):
        network.stem()
        network.conv("conv", "pool")
        network.constant("one", [1.0])
        net = self.add(network, "conv", "one")
        assert self.inputs_of_add(net) == ["conv", "one"]
        assert quantised_tensors(quantised(net)[0]) == ["image", "pool", "add"]

    def test_sum_behind_a_convolution_in_float_is_left_alone(self, network):
        network.stem()
        network.conv("conv", "pool")
        network.conv("down", "pool")
        network.conv("conv2", "conv")
        net = self.add(network, "conv2", "down")
        assert self.inputs_of_add(net, keep={"conv2"}) == ["conv2", "down"]
        # What the addition skips over may be in float.
        assert self.inputs_of_add(net, keep={"down"}) == ["conv2", "down.dequantized"]


def test_tensor_that_several_nodes_read_has_one_pair(network):
    network.stem()
    for name in ("conv1", "conv2"):
        network.conv(name, "pool")
    network.node("Add", "add1", "conv1", "pool")
    network.node("Mul", "product", "conv2", "add1")
    network.node("Add", "add2", "product", "pool")
    model, _ = quantised(network.finish("add2"))
    assert quantised_tensors(model) == ["image", "pool", "add2"]
    readers = [n.name for n in model.graph.node if "pool.dequantized" in n.input]
    assert readers == ["conv1", "conv2", "add1"]
    assert inputs_of(model, "add2") == ["product", "pool"]  # no convolution to be fused with


def test_weights_that_two_convolutions_share_are_there_once(network):
    network.stem()
    network.conv("conv1", "pool")
    network.conv("conv2", "conv1")
    network.nodes[-1].input[1] = "conv1.weight"
    network.constants = [t for t in network.constants if t.name != "conv2.weight"]
    model, _ = quantised(network.finish("conv2"))
    assert inputs_of(model, "conv1")[1] == inputs_of(model, "conv2")[1]
    assert [n.name for n in model.graph.node].count("conv1.weight.dequantized") == 1


class TestWeightsOfAKeptConvolution:
    """Two 1x1 convolutions of one weight; one of them is quantised."""

    IMAGE = np.random.default_rng(2).standard_normal((1, 3, 16, 24), np.float32)
    VALUES = np.random.default_rng(3).standard_normal((4, 4, 1, 1))

    @pytest.fixture
    def shared(self, network):
        network.stem()
        network.constant("shared.weight", self.VALUES)
        for name, source in (("conv1", "pool"), ("conv2", "conv1")):
            network.conv(name, source)
            network.nodes[-1].input[1] = "shared.weight"
        return network.finish("conv2")

    @pytest.mark.parametrize("kept", ["conv1", "conv2"])
    def test_are_there_in_float_beside_the_codes(self, shared, kept):
        model, spec = quantised(shared, keep={kept})
        (other,) = {"conv1", "conv2"} - {kept}
        assert spec.exceptions == {kept: "fp32"}
        assert inputs_of(model, kept)[1] == "shared.weight"
        assert inputs_of(model, other)[1] == "shared.weight.dequantized"
        constants = constants_of(model)
        assert constants["shared.weight"] == constants_of(shared[0])["shared.weight"]
        assert constants["shared.weight.quantized"].data_type == INT8
        unread = {name for name in constants if name.startswith("conv") and "weight" in name}
        assert unread == set()

    @pytest.mark.usefixtures("fp8_everywhere")
    @pytest.mark.parametrize("kept", ["conv1", "conv2"])
    @pytest.mark.parametrize(("precision", "largest"), [("int8", 127), ("fp8", 448)])
    def test_each_computes_with_its_own(self, shared, kept, precision, largest):
        pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")
        model, _ = quantised(shared, precision, amaxes_of(shared[0], 6.0), keep={kept})
        found = run_with_onnxruntime(model, self.IMAGE)
        full = self.VALUES[:, :, 0, 0].astype(np.float32)
        scale = least_half(np.abs(full).max(axis=1, keepdims=True) / np.float64(largest))
        kind = np.int8 if precision == "int8" else ml_dtypes.float8_e4m3fn
        codes = full / scale if precision == "fp8" else np.rint(full / scale)
        rounded = codes.astype(kind).astype(np.float32) * scale
        assert not np.allclose(rounded, full, rtol=1e-3)
        for name, source in (("conv1", "pool"), ("conv2", "conv1")):
            values = full if name == kept else rounded
            read = found[source if name == kept else f"{source}.dequantized"]
            bias = array(model, f"{name}.bias")[:, None, None]
            expected = np.einsum("oi,bihw->bohw", values, read) + bias
            np.testing.assert_allclose(found[name], expected, atol=1e-4)

    def test_go_where_nobody_reads_them(self, shared):
        assert "shared.weight" not in constants_of(quantised(shared)[0])


class TestWhatFp8Leaves:
    """More than 16 channels in and out and at most 32 taps: what TensorRT has FP8 kernels for."""

    @pytest.mark.parametrize(
        ("shape", "is_fp8"),
        [
            ((17, 17, 1, 1), True),
            ((16, 17, 1, 1), False),
            ((17, 16, 1, 1), False),
            ((512, 3, 3, 3), False),
            ((11, 512, 1, 1), False),
            ((19, 512, 1, 1), True),
            ((64, 1, 3, 3), False),  # a depthwise one
            ((64, 64, 5, 5), True),
            ((64, 64, 7, 7), False),
            ((64, 64, 4, 8), True),  # 32 taps
            ((64, 64, 3, 11), False),  # 33
        ],
    )
    @pytest.mark.parametrize("kind", ["Conv", "ConvTranspose"])
    def test_the_rule(self, kind, shape, is_fp8):
        node = onnx.helper.make_node(kind, ["x", "w"], ["y"], name="conv")
        weight = onnx.numpy_helper.from_array(np.zeros(shape, np.float32), "w")
        graph = onnx.helper.make_graph([node], "test", [], [], [weight])
        assert convolution_names(graph, "fp8") == (["conv"] if is_fp8 else [])
        assert convolution_names(graph, "int8") == ["conv"]

    LEFT = ("stem", "to16", "from16", "conv7", "classify")

    @pytest.fixture
    def wide(self, network):
        """A network of 17 channels, with 16 in one place, and 3 classes."""
        network.conv("stem", "image", 17, kernel=3, stride=8)
        network.conv("same", "stem", 17)
        network.conv("to16", "same", 16)
        network.conv("from16", "to16", 17)
        network.conv("conv5", "from16", 17, kernel=5)
        network.conv("conv7", "conv5", 17, kernel=7)
        network.conv("conv3", "conv7", 17, kernel=3)
        return network.finish("conv3")

    def test_is_in_the_spec_and_as_it_was(self, wide):
        model, spec = quantised(wide, "fp8")
        assert list(spec.exceptions.items()) == [(name, "fp32") for name in self.LEFT]
        assert quantised_tensors(model) == ["stem", "from16", "conv7"]
        for name in self.LEFT:
            assert inputs_of(model, name) == inputs_of(wide[0], name)
            weight = f"{name}.weight"
            assert constants_of(model)[weight] == constants_of(wide[0])[weight]
        for name in ("same", "conv5", "conv3"):
            assert inputs_of(model, name)[1] == f"{name}.weight.dequantized"
            assert constants_of(model)[f"{name}.weight.quantized"].data_type == FP8
            assert f"{name}.weight" not in constants_of(model)
        onnx.checker.check_model(model, full_check=True)

    def test_keep_leaves_more(self, wide):
        _, spec = quantised(wide, "fp8", keep={"same", "stem"})
        assert list(spec.exceptions) == ["stem", "same", *self.LEFT[1:]]

    def test_int8_quantises_all(self, wide):
        model, spec = quantised(wide)
        assert spec.exceptions == {}
        codes = [t.name for t in model.graph.initializer if t.data_type == INT8]
        assert len([name for name in codes if name.endswith(".weight.quantized")]) == 8

    def test_no_range_is_needed_for_what_only_they_read(self, wide):
        amaxes = amaxes_of(wide[0])
        for name in ("image", "same", "to16", "conv5", "conv3"):
            del amaxes[name]
        assert quantised(wide, "fp8", amaxes)[1].precision == "fp8"

    def test_network_that_is_all_too_narrow_is_refused(self, fcn):
        message = "fcn_r18-d8 has no convolution left to quantise; ask for fp16 instead"
        with pytest.raises(OnnxError, match=message):
            quantised(fcn, "fp8")


class TestConcatenation:
    def test_its_inputs_and_its_output_have_the_largest_scale(self, fcn):
        model, _ = fcn
        amaxes = amaxes_of(model) | {"block2.relu3": 1.0, "head.relu": 6.0, "head.cat": 5.0}
        found, _ = quantised(fcn, amaxes=amaxes)
        wanted = float(least_half(6 / 127))
        assert scale_of(found, "head.cat") == scale_of(found, "block2.relu3") == wanted
        assert scale_of(found, "block2.relu2") == float(least_half(4 / 127))
        assert "head.relu.scale" not in constants_of(found)  # nothing else reads it

    def test_range_of_an_input_that_is_not_quantised_may_be_unknown(self, fcn):
        amaxes = amaxes_of(fcn[0])
        del amaxes["head.relu"]
        found, _ = quantised(fcn, amaxes=amaxes | {"head.cat": 5.0})
        assert scale_of(found, "head.cat") == float(least_half(5 / 127))

    @pytest.mark.parametrize("order", [1, -1])
    def test_two_that_share_a_tensor_have_one_scale(self, network, order):
        """Also where a third one joins two groups that had nothing in common."""
        network.stem()
        for i in range(4):
            network.conv(f"conv{i}", "pool")
        pairs = [("conv0", "conv1"), ("conv2", "conv3"), ("conv1", "conv2")][::order]
        sums = [f"cat_conv{i}" for i in range(3)]
        for i, inputs in enumerate(pairs):
            network.node("Concat", f"cat{i}", *inputs, axis=1)
            network.conv(sums[i], f"cat{i}")
        network.node("Sum", "sum", *sums)
        net = network.finish("sum")
        found, _ = quantised(net, amaxes=amaxes_of(net[0]) | {"conv3": 9.0})
        scales = {scale_of(found, f"cat{i}") for i in range(3)}
        assert scales == {float(least_half(9 / 127))}
        assert scale_of(found, "pool") == float(least_half(4 / 127))

    def test_one_whose_result_stays_in_float_changes_no_scale(self, fcn):
        amaxes = amaxes_of(fcn[0]) | {"block2.relu3": 1.0}
        found, _ = quantised(fcn, amaxes=amaxes, keep={"head.cat_conv"})
        assert scale_of(found, "block2.relu3") == float(least_half(1 / 127))


@pytest.fixture
def stem_only(network):
    """Make the weights of the stem, (4, 3, 3, 3), what a test wants."""

    def make(values):
        network.stem()
        network.constants = network.constants[1:]
        network.constant("stem.weight", values)
        return network.finish("pool")

    return make


class TestWeights:
    def test_codes_and_scales_by_hand(self, stem_only):
        """Scales that float16 has: 1, 1/2, 1 of 127 and the least for a channel of zeros."""
        values = np.zeros((4, 3, 3, 3))
        values[0, 0, 0] = [127, -127, 2.5]
        values[1, 1, 1] = [63.5, 0.25, -0.75]
        values[2, 2, 2] = [-127, 126.4, 0.6]
        found, _ = quantised(stem_only(values))
        np.testing.assert_array_equal(array(found, "stem.weight.scale"), [1, 0.5, 1, 2**-24])
        assert "stem.weight" not in constants_of(found)
        codes = array(found, "stem.weight.quantized")
        assert codes.dtype == np.int8
        assert codes.shape == (4, 3, 3, 3)
        assert codes[0, 0, 0].tolist() == [127, -127, 2]  # halves go to even
        assert codes[1, 1, 1].tolist() == [127, 0, -2]
        assert codes[2, 2, 2].tolist() == [-127, 126, 1]
        assert np.count_nonzero(codes) == 8
        zeros = array(found, "stem.weight.zero_point")
        assert (zeros.dtype, zeros.tolist()) == (np.int8, [0] * 4)

    @pytest.mark.usefixtures("fp8_everywhere")
    def test_fp8_codes_by_hand(self, stem_only):
        """E4M3 has 4 significant bits: 17 lies between 16 and 18 and goes to the even one."""
        values = np.zeros((4, 3, 3, 3))
        values[0, 0, 0] = [448, 17, -19]
        values[1, 1, 1] = [-224, 2**-10, 2**-12]
        found, _ = quantised(stem_only(values), "fp8")
        scales = array(found, "stem.weight.scale")
        np.testing.assert_array_equal(scales, [1, 0.5, 2**-24, 2**-24])
        stored = constants_of(found)["stem.weight.quantized"]
        assert stored.data_type == constants_of(found)["stem.weight.zero_point"].data_type == FP8
        codes = np.frombuffer(stored.raw_data, ml_dtypes.float8_e4m3fn).reshape(4, 3, 3, 3)
        assert codes[0, 0, 0].astype(float).tolist() == [448, 16, -20]
        # The least FP8 is 2^-9; half of it goes to zero, as that is even.
        assert codes[1, 1, 1].astype(float).tolist() == [-448, 2**-9, 0]
        assert stored.raw_data[:3] == bytes([0x7E, 0x58, 0xDA])

    @pytest.mark.usefixtures("fp8_everywhere")
    @pytest.mark.parametrize(("precision", "largest"), [("int8", 127), ("fp8", 448)])
    def test_scale_is_rounded_up_to_float16_so_that_nothing_is_clipped(
        self, fcn, precision, largest
    ):
        found, _ = quantised(fcn, precision)
        checked = 0
        for name in convolution_names(fcn[0].graph, "int8"):
            values = array(fcn[0], f"{name}.weight")
            wanted = np.abs(values).max(axis=(1, 2, 3)) / np.float64(largest)
            scales = array(found, f"{name}.weight.scale")
            np.testing.assert_array_equal(scales, least_half(wanted))
            assert (scales * np.float64(largest) >= np.abs(values).max(axis=(1, 2, 3))).all()
            checked += scales.size
        assert checked > 40

    def test_stored_weights_are_near_those_of_the_model(self, fcn):
        found, _ = quantised(fcn)
        for name in convolution_names(fcn[0].graph, "int8"):
            scale = array(found, f"{name}.weight.scale")[:, None, None, None]
            restored = array(found, f"{name}.weight.quantized") * scale
            error = np.abs(restored - array(fcn[0], f"{name}.weight"))
            assert (error <= scale * 0.5000001).all()

    def test_transposed_convolution_has_its_output_channels_on_axis_1(self, network):
        network.stem()
        values = np.zeros((4, 2, 2, 2))
        values[:, 0] = 127
        values[3, 1] = 254
        network.constant("up.weight", values)
        network.node("ConvTranspose", "up", "pool", "up.weight", strides=[2, 2])
        network.channels["up"] = 2
        network.conv("back", "up", stride=2)
        found, _ = quantised(network.finish("back"))
        np.testing.assert_array_equal(array(found, "up.weight.scale"), [1, 2])
        np.testing.assert_array_equal(array(found, "up.weight.quantized")[:, 0], 127)
        codes = array(found, "up.weight.quantized")
        assert codes[:, 1].max(axis=(1, 2)).tolist() == [0, 0, 0, 127]
        (node,) = (n for n in found.graph.node if n.name == "up.weight.dequantized")
        assert [(a.name, a.i) for a in node.attribute] == [("axis", 1)]

    def test_weights_that_a_node_computes_stay_in_float(self, network):
        network.stem()
        network.conv("conv", "pool")
        network.nodes.insert(
            -1, onnx.helper.make_node("Neg", ["conv.weight"], ["minus"], name="minus")
        )
        network.nodes[-1].input[1] = "minus"
        model, spec = quantised(network.finish("conv"))
        assert inputs_of(model, "conv") == ["pool", "minus", "conv.bias"]
        assert spec.exceptions == {"conv": "fp32"}

    def test_biases_stay_as_they_are(self, fcn):
        found, _ = quantised(fcn)
        biases = [name for name in constants_of(fcn[0]) if name.endswith(".bias")]
        assert len(biases) == len(convolution_names(fcn[0].graph, "int8"))
        for name in biases:
            assert constants_of(found)[name] == constants_of(fcn[0])[name]


class TestActivations:
    @pytest.mark.usefixtures("fp8_everywhere")
    @pytest.mark.parametrize(
        ("precision", "largest", "kind"), [("int8", 127, INT8), ("fp8", 448, FP8)]
    )
    def test_scale_is_amax_over_the_largest_code_rounded_up_to_float16(
        self, fcn, precision, largest, kind
    ):
        names = amaxes_of(fcn[0])
        amaxes = {name: 0.37 * 1.7**i for i, name in enumerate(names)}
        amaxes |= dict.fromkeys(("block2.relu3", "head.relu", "head.cat"), 77.0)
        found, _ = quantised(fcn, precision, amaxes)
        for name in quantised_tensors(found):
            assert scale_of(found, name) == float(least_half(amaxes[name] / largest))
            zero = constants_of(found)[f"{name}.zero_point"]
            assert (zero.data_type, list(zero.dims), zero.raw_data) == (kind, [], b"\0")
            assert constants_of(found)[f"{name}.scale"].data_type == FLOAT

    def test_tensor_that_is_almost_zero_has_the_least_scale(self, fcn):
        found, _ = quantised(fcn, amaxes=amaxes_of(fcn[0]) | {"pool": 1e-30})
        assert scale_of(found, "pool") == 2**-24

    def test_largest_scale_that_float16_has(self, fcn):
        amaxes = amaxes_of(fcn[0]) | {"pool": 65504.0 * 127}
        assert scale_of(quantised(fcn, amaxes=amaxes)[0], "pool") == 65504

    def test_weights_beyond_it_are_refused(self, stem_only):
        values = np.full((4, 3, 3, 3), 65505.0 * 127)
        with pytest.raises(
            OnnxError, match=r"'stem\.weight' is too large to be quantised: its sca"
        ):
            quantised(stem_only(values))

    @pytest.mark.parametrize("amax", [65505.0 * 127, 1e30, 1e300])
    def test_tensor_beyond_it_is_refused(self, fcn, amax):
        message = "'pool' is too large to be quantised: its scale is beyond float16; check the wei"
        with pytest.raises(OnnxError, match=message):
            quantised(fcn, amaxes=amaxes_of(fcn[0]) | {"pool": amax})

    def test_range_that_is_not_known_is_named(self, fcn):
        amaxes = amaxes_of(fcn[0])
        for name in ("pool", "head.cat"):
            del amaxes[name]
        message = "the calibration does not say how large 'pool' gets; calibrate this network with"
        with pytest.raises(CalibrationError, match=message):
            quantised(fcn, amaxes=amaxes)

    def test_range_of_what_is_not_quantised_need_not_be_known(self, fcn):
        amaxes = amaxes_of(fcn[0])
        for name in ("logits", "stem", "stem.relu", "block1.conv2", "block1.add", "head.conv"):
            del amaxes[name]
        assert lines(quantised(fcn, amaxes=amaxes)[0]) == lines(quantised(fcn)[0])


class TestKeep:
    def test_kept_convolutions_have_neither_q_nor_dq(self, fcn):
        model, _ = quantised(fcn, keep={"stem", "classify"})
        assert inputs_of(model, "stem") == inputs_of(fcn[0], "stem")
        assert inputs_of(model, "classify") == inputs_of(fcn[0], "classify")
        assert not {"image", "head.cat_relu"} & set(quantised_tensors(model))
        for name in ("stem.weight", "classify.weight"):
            assert constants_of(model)[name] == constants_of(fcn[0])[name]
        others = set(lines(quantised(fcn)[0])) - set(lines(model))
        assert all(re.search(r"stem|classify|image|head\.cat_relu\.", line) for line in others)

    def test_kept_convolution_reads_the_tensor_that_others_read_quantised(self, fcn):
        model, _ = quantised(fcn, keep={"block2.downsample"})
        assert inputs_of(model, "block2.downsample")[0] == "block1.relu2"
        assert inputs_of(model, "block2.conv1")[0] == "block1.relu2.dequantized"

    def test_addition_may_be_kept_alone(self, fcn):
        model, spec = quantised(fcn, keep={"block2.add"})
        assert inputs_of(model, "block2.add") == ["block2.conv3", "block2.downsample"]
        assert inputs_of(model, "block1.add") == ["block1.conv2", "pool.dequantized"]
        assert inputs_of(model, "block2.conv3")[0] == "block2.relu2.dequantized"
        assert spec.exceptions == {}

    def test_name_that_there_is_not_is_refused(self, fcn):
        for name in ("conv9", "block1.relu1"):
            message = f"fcn_r18-d8 has no convolution '{name}' to keep in float"
            with pytest.raises(ValueError, match=message):
                quantised(fcn, keep={"stem", name})

    def test_nothing_left_to_quantise_is_refused(self, fcn):
        message = "fcn_r18-d8 has no convolution left to quantise; ask for fp16 instead"
        with pytest.raises(OnnxError, match=message):
            quantised(fcn, keep=frozenset(convolution_names(fcn[0].graph, "int8")))

    def test_what_is_not_fp32_is_refused(self, fcn):
        with pytest.raises(OnnxError, match="fcn_r18-d8 is int8 already; start from the FP32 ONNX"):
            quantised(quantised(fcn))


class Simulation:
    """The quantised network computed by torch from the FP32 module: rounding, then plain float32.

    Each step starts from what the ONNX network really had there, so that a number that lies between
    two codes cannot fall to different sides of it and hide behind what follows.

    Args:
        model: A loaded `Fcn` whose additions are `convolution branch + skip branch`.
        graph: Of its FP32 ONNX, with one node for each of the module's steps.
        amaxes: By tensor.
        precision: "int8" or "fp8".
    """

    def __init__(self, model, graph, amaxes, precision):
        from torch.fx.experimental.optimization import fuse

        self.traced = fuse(copy.deepcopy(model.module).double().eval()).float()
        steps = [step for step in self.traced.graph.nodes if step.op != "output"]
        self.names = dict(zip(steps, ["image", *(n.output[0] for n in graph.node)], strict=True))
        self.amaxes = dict(amaxes)
        self.precision = precision
        cat = next(step for step in steps if self.names[step] == "decode_head.cat")
        shared = [self.names[step] for step in (cat, *cat.all_input_nodes)]
        self.amaxes |= dict.fromkeys(shared, max(amaxes[name] for name in shared))

    def fake(self, values, amax):
        """Values rounded to codes and back, with one scale or one for each channel of axis 0.

        QuantizeLinear uses the code -128, too; weights do not reach it.
        """
        import torch

        largest = {"int8": 127.0, "fp8": 448.0}[self.precision]
        scale = torch.from_numpy(np.asarray(least_half(np.asarray(amax, np.float64) / largest)))
        if scale.ndim:
            scale = scale[:, None, None, None]
        codes = (values / scale).clamp(-128.0 if largest == 127 else -largest, largest)
        if self.precision == "int8":
            return codes.round() * scale
        return codes.to(torch.float8_e4m3fn).float() * scale

    def expected(self, step, values):
        """What a step makes of the tensors that the network had before it."""
        import torch

        module = self.traced.get_submodule(step.target) if step.op == "call_module" else None
        read = [(values[self.names[s]], self.amaxes[self.names[s]]) for s in step.all_input_nodes]
        if isinstance(module, torch.nn.Conv2d):
            weight = module.weight.detach()
            largest = weight.abs().amax(dim=(1, 2, 3)).numpy()
            weight = self.fake(weight, largest)
            return module._conv_forward(self.fake(*read[0]), weight, module.bias.detach())
        if module is not None:
            return module(read[0][0])
        if self.names[step] == "decode_head.cat":
            return torch.cat([tensor for tensor, _ in read], dim=1)
        return read[0][0] + self.fake(*read[1])


def run_with_onnxruntime(model, image):
    """Every tensor of a graph, without any optimisation."""
    import onnxruntime

    everything = onnx.ModelProto()
    everything.CopyFrom(model)
    del everything.graph.output[:]
    names = [n.output[0] for n in model.graph.node if n.op_type != "QuantizeLinear"]
    everything.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(everything.SerializeToString(), options)
    return dict(zip(names, session.run(None, {"image": image}), strict=True))


@pytest.mark.usefixtures("fp8_everywhere")
@pytest.mark.parametrize("name", ["fcn_r18-d8", "fcn_r50-d8"])
@pytest.mark.parametrize("precision", ["int8", "fp8"])
def test_onnxruntime_computes_what_torch_does_with_rounded_tensors(make_model, name, precision):
    import torch

    from fcn_trt.network.to_onnx import to_onnx

    model = make_model(name)
    net = to_onnx(model, size=(40, 48))
    image = np.random.default_rng(1).standard_normal((1, 3, 40, 48), np.float32)
    found = run_with_onnxruntime(net[0], image) | {"image": image}
    # Less than what occurs, so that some values are clipped.
    amaxes = {name: float(np.abs(values).max()) * 0.8 for name, values in found.items()}
    amaxes["decode_head.convs.1.relu"] *= 3  # read by the concatenation only
    found = run_with_onnxruntime(quantised(net, precision, amaxes)[0], image) | {"image": image}
    simulation = Simulation(model, net[0].graph, amaxes, precision)
    tensors = {name: torch.from_numpy(values) for name, values in found.items()}
    for step, name in simulation.names.items():
        if name == "image":
            continue
        expected = simulation.expected(step, tensors).detach().numpy()
        largest = np.abs(expected).max()
        np.testing.assert_allclose(found[name], expected, atol=1e-5 * largest, err_msg=name)
    assert len(simulation.names) == len(net[0].graph.node) + 1
