"""Q/DQ in graphs that other exporters write: nothing folded, and any names."""

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="needs the extra: pip install 'fcn-trt[export]'")

from onnx import helper, numpy_helper  # noqa: E402

from fcn_trt.labels import label_set  # noqa: E402
from fcn_trt.network.import_onnx import import_onnx  # noqa: E402
from fcn_trt.precision.qdq import concatenated, convolution_names, find_qdq_nodes  # noqa: E402
from fcn_trt.precision.quantize import quantize_network  # noqa: E402

CHANNELS = 24


def conv(name, source, *, inputs=CHANNELS, outputs=CHANNELS, bias=()):
    """A 3x3 convolution and its weights."""
    values = np.random.default_rng(len(name)).normal(0, 0.1, (outputs, inputs, 3, 3))
    weights = numpy_helper.from_array(values.astype(np.float32), f"{name}.w")
    node = helper.make_node("Conv", [source, weights.name, *bias], [name], name=name, pads=[1] * 4)
    return node, weights


def vector(name, value, shape=(CHANNELS,)):
    return numpy_helper.from_array(np.full(shape, value, np.float32), name)


def graph(nodes, constants):
    ends = [("image", 3), ("logits", 11)]
    shapes = [helper.make_tensor_value_info(n, 1, [1, c, 16, 16]) for n, c in ends]
    return helper.make_graph(nodes, "g", shapes[:1], shapes[1:], constants)


def residual(behind):
    """A block whose convolution c2 is followed by other nodes before its addition."""
    first, w0 = conv("c0", "image", inputs=3)
    second, w2 = conv("c2", "r0")
    last, w3 = conv("logits", "r2", outputs=11)
    nodes = [first, helper.make_node("Relu", ["c0"], ["r0"], name="r0"), second]
    extra, constants = behind
    nodes += [
        *extra,
        helper.make_node("Add", [extra[-1].output[0] if extra else "c2", "r0"], ["s"], name="add"),
        helper.make_node("Relu", ["s"], ["r2"], name="r2"),
        last,
    ]
    return graph(nodes, [w0, w2, w3, *constants])


NORMALISED = (
    [
        helper.make_node(
            "BatchNormalization", ["c2", *(f"bn.{k}" for k in "gbmv")], ["b2"], name="b2"
        )
    ],
    [vector(f"bn.{k}", value) for k, value in zip("gbmv", (1, 0.1, 0, 1), strict=True)],
)
BIASED = (
    [helper.make_node("Add", ["c2", "bias"], ["b2"], name="b2")],
    [vector("bias", 0.5, (1, CHANNELS, 1, 1))],
)


@pytest.mark.parametrize("behind", [([], []), NORMALISED, BIASED], ids=["none", "bn", "bias"])
def test_what_is_not_folded_into_a_convolution_is_part_of_it(behind):
    found = residual(behind)
    names = convolution_names(found, "int8")
    assert find_qdq_nodes(found, set(names), set()).skips == {"add": 1}
    assert find_qdq_nodes(found, set(names) - {"c2"}, set()).skips == {}


def test_what_somebody_else_reads_is_no_part_of_a_convolution():
    found = residual(BIASED)
    found.node.append(helper.make_node("Relu", ["c2"], ["else"], name="else"))
    assert find_qdq_nodes(found, set(convolution_names(found, "int8")), set()).skips == {}


@pytest.mark.parametrize("between", [(), ("Relu",), ("MaxPool",), ("Relu", "MaxPool")])
def test_concatenation_is_found_behind_what_q_commutes_with(between):
    nodes = [helper.make_node("Concat", ["a", "b"], ["cat"], axis=1, name="cat")]
    for index, kind in enumerate(between):
        options = {"kernel_shape": [1, 1]} if kind == "MaxPool" else {}
        source = nodes[-1].output[0]
        nodes.append(helper.make_node(kind, [source], [f"t{index}"], name=f"t{index}", **options))
    tensors = {"a", "b", *(node.output[0] for node in nodes)}
    assert concatenated(graph(nodes, []), [nodes[-1].output[0]]) == [tensors]
    assert concatenated(graph(nodes, []), ["a"]) == []


def test_names_of_an_imported_network_are_not_taken_again(tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    first, w0 = conv("y", "half", inputs=3)
    last, w3 = conv("last", "r", outputs=11)
    constants = [w0, w3, vector("y.scale", -0.5, ()), vector("r.quantized", 7.0, ())]
    nodes = [
        helper.make_node("Mul", ["image", "y.scale"], ["half"], name="half"),
        first,
        helper.make_node("Relu", ["y"], ["r"], name="r.dequantized"),
        last,
        helper.make_node("Add", ["last", "r.quantized"], ["out"], name="r.scale"),
    ]
    made = graph(nodes, constants)
    made.output[0].name = "out"
    opset = helper.make_opsetid("", 17)
    onnx.save(helper.make_model(made, opset_imports=[opset], ir_version=8), tmp_path / "m.onnx")
    imported = import_onnx(tmp_path / "m.onnx", size=(16, 16), labels=label_set("camvid"))
    model, spec = imported.model, imported.spec
    amaxes = {name: 4.0 for node in model.graph.node for name in (*node.input, *node.output)}
    quantised, _ = quantize_network(model, spec, "int8", amaxes)
    names = [name for node in quantised.graph.node for name in node.output]
    names += [tensor.name for tensor in quantised.graph.initializer]
    assert len(names) == len(set(names))
    image = np.random.default_rng(0).normal(0, 1, (1, 3, 16, 16)).astype(np.float32)
    exact, rounded = (
        runtime.InferenceSession(m.SerializeToString(), providers=["CPUExecutionProvider"]).run(
            None, {"image": image}
        )[0]
        for m in (model, quantised)
    )
    assert np.abs(rounded - exact).mean() < 0.02 * np.abs(exact).mean()
