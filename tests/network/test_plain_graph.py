"""What exporters and tools wrap around a network, undone or refused by name."""

from __future__ import annotations

from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from fcn_trt.errors import OnnxError
from fcn_trt.network.import_onnx import import_onnx
from tests.network.user_files import FRAMES, SIZE, UserFile, agreement, normalised, our_labels, up


def full(net, x):
    return up(net(x))


def node_of(model, kind):
    return next(node for node in model.graph.node if node.op_type == kind)


def insert_behind(model, kind, *nodes):
    """Put nodes behind the first one of a kind; they read "x" and make "y"."""
    node = node_of(model, kind)
    old = node.output[0]
    for reader in model.graph.node:
        reader.input[:] = ["y" if name == old else name for name in reader.input]
    for added in nodes:
        added.input[:] = [old if name == "x" else name for name in added.input]
    at = list(model.graph.node).index(node) + 1
    for added in reversed(nodes):
        model.graph.node.insert(at, added)


def add_constant(model, name, values):
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))


def as_function(model):
    """The last node as a function of its own, as torch.onnx.dynamo_export wrote them."""
    last = model.graph.node[-1]
    inside = helper.make_node("Resize", ["x", "", "s", ""], ["y"])
    sizes = list(last.input)
    if len(sizes) == 4:
        inside = helper.make_node("Resize", ["x", "", "", "s"], ["y"])
    inside.attribute.extend(last.attribute)
    function = helper.make_function(
        "pkg.torch", "upsample", ["x", "s"], ["y"], [inside], [helper.make_opsetid("", 17)]
    )
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("pkg.torch", 1))
    call = helper.make_node("upsample", [sizes[0], sizes[-1]], last.output, domain="pkg.torch")
    model.graph.node.remove(last)
    model.graph.node.append(call)


def nested_functions(model):
    """A function that calls another, with a constant inside."""
    constant = helper.make_node("Constant", [], ["two"], value_float=2.0)
    double = helper.make_node("Mul", ["x", "two"], ["y"])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    inner = helper.make_function("own", "Double", ["x"], ["y"], [constant, double], opsets)
    calls = [
        helper.make_node("Double", ["x"], ["t"], domain="own"),
        helper.make_node("Double", ["t"], ["y"], domain="own"),
    ]
    outer = helper.make_function("own", "Quadruple", ["x"], ["y"], calls, opsets)
    model.functions.extend([inner, outer])
    model.opset_import.append(helper.make_opsetid("own", 1))
    insert_behind(model, "Conv", helper.make_node("Quadruple", ["x"], ["y"], domain="own"))


def function_of_another_opset(model):
    """Its axes are attributes, which in the file's own opset are inputs."""
    inside = helper.make_node("Squeeze", ["x"], ["t"], axes=[0])
    back = helper.make_node("Unsqueeze", ["t"], ["y"], axes=[0])
    opset = helper.make_opsetid("", 12)
    model.functions.append(helper.make_function("own", "F", ["x"], ["y"], [inside, back], [opset]))
    model.opset_import.append(helper.make_opsetid("own", 1))
    insert_behind(model, "Conv", helper.make_node("F", ["x"], ["y"], domain="own"))


def weights_to(numpy_type):
    """Weights of another type, and Casts behind the input and before the output."""

    def change(model):
        graph, kind = model.graph, helper.np_dtype_to_tensor_dtype(np.dtype(numpy_type))
        for tensor in graph.initializer:
            if tensor.data_type == TensorProto.FLOAT and tensor.dims and tensor.dims[0] > 2:
                values = numpy_helper.to_array(tensor).astype(numpy_type)
                tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
        for node in graph.node:
            node.input[:] = ["first" if name == "input" else name for name in node.input]
        resize = node_of(model, "Resize")
        logits = resize.input[0]
        resize.input[0] = "last"
        at = list(graph.node).index(resize)
        graph.node.insert(at, helper.make_node("Cast", [logits], ["last"], to=TensorProto.FLOAT))
        graph.node.insert(0, helper.make_node("Cast", ["input"], ["first"], to=kind))
        del graph.value_info[:]

    return change


def half_from_end_to_end(model):
    weights_to(np.float16)(model)
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT16


def casts_around_a_layer(model):
    """As autocast leaves them."""
    insert_behind(
        model,
        "Relu",
        helper.make_node("Cast", ["x"], ["half"], to=TensorProto.FLOAT16),
        helper.make_node("Cast", ["half"], ["y"], to=TensorProto.FLOAT),
    )


def weights_stored_in_half(model):
    """A smaller file that computes in float32."""
    conv = node_of(model, "Conv")
    tensor = next(t for t in model.graph.initializer if t.name == conv.input[1])
    tensor.CopyFrom(
        numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), "half")
    )
    cast = helper.make_node("Cast", ["half"], [conv.input[1]], to=TensorProto.FLOAT)
    model.graph.node.insert(0, cast)


def weights_in_another_order(model):
    """As Keras keeps them: height, width, inputs, outputs."""
    conv = node_of(model, "Conv")
    tensor = next(t for t in model.graph.initializer if t.name == conv.input[1])
    values = numpy_helper.to_array(tensor).transpose(2, 3, 1, 0)
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), "hwio"))
    node = helper.make_node("Transpose", ["hwio"], [conv.input[1]], perm=[3, 2, 0, 1])
    model.graph.node.insert(0, node)


def names_of_ours(model):
    """Tensors inside that are called as the ends of ours."""
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [RENAMED.get(name, name) for name in names]
    for tensor in model.graph.initializer:
        tensor.name = RENAMED.get(tensor.name, tensor.name)


RENAMED = {"/net/net.0/Conv_output_0": "image", "net.0.weight": "logits"}


def foreign_auxiliary_output(model):
    node = helper.make_node("Inverse", ["input"], ["aux"], domain="com.microsoft")
    model.graph.node.append(node)
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    model.graph.output.append(helper.make_tensor_value_info("aux", TensorProto.FLOAT, None))


def dropout_of_inference(model):
    add_constant(model, "ratio", np.float32(0.5))
    add_constant(model, "off", np.bool_(False))
    node = helper.make_node("Dropout", ["x", "ratio", "off"], ["y"])
    insert_behind(model, "Relu", node)


def spelled_domain(model):
    for node in model.graph.node:
        node.domain = "ai.onnx"
    model.opset_import[0].domain = "ai.onnx"


def infinite_limits(model):
    for name, limit in (("low", -np.inf), ("high", np.inf)):
        add_constant(model, name, np.float32(limit))
    insert_behind(model, "Conv", helper.make_node("Clip", ["x", "low", "high"], ["y"]))


PLAIN = {
    "a function": as_function,
    "functions in functions": nested_functions,
    "half precision inside": weights_to(np.float16),
    "half precision from end to end": half_from_end_to_end,
    "casts around a layer": casts_around_a_layer,
    "weights stored in half precision": weights_stored_in_half,
    "weights in another order": weights_in_another_order,
    "tensors called as ours": names_of_ours,
    "a dropout of inference": dropout_of_inference,
    "the domain spelled out": spelled_domain,
    "infinite limits": infinite_limits,
}


@pytest.mark.parametrize("name", PLAIN)
def test_what_is_wrapped_around_a_network_is_undone(name, tmp_path):
    case = UserFile(wrapped=full, change=PLAIN[name])
    path = case.write(tmp_path / "user.onnx")
    found = import_onnx(path, size=SIZE)
    if name == "half precision from end to end":
        case = replace(case, feed=lambda frame: normalised(frame).astype(np.float16))
    theirs = case.labels(path)
    least = 0.995 if "half" in name or "casts" in name else 0.9995
    assert agreement(our_labels(found, [SIZE] * len(theirs)), theirs) >= least
    assert agreement([found.source.label_map(frame) for frame in FRAMES], theirs) >= 0.9995
    kinds = {node.op_type for node in found.model.graph.node}
    assert kinds <= {"Conv", "Relu", "Mul", "Squeeze", "Unsqueeze", "Clip"}
    assert len(found.model.functions) == 0
    types = {tensor.data_type for tensor in found.model.graph.initializer}
    assert types <= {TensorProto.FLOAT, TensorProto.INT64}


@pytest.mark.parametrize("change", [function_of_another_opset, weights_to(np.float64)])
def test_so_is_what_onnx_runtime_does_not_run(change, tmp_path):
    case = UserFile(wrapped=full)
    case.write(tmp_path / "plain.onnx")
    theirs = case.labels(tmp_path / "plain.onnx")
    found = replace(case, change=change).take(tmp_path / "user.onnx")
    assert agreement(our_labels(found, [SIZE] * len(theirs)), theirs) >= 0.9995
    with pytest.raises(OnnxError, match=r"user\.onnx cannot be run by ONNX Runtime, to compare"):
        found.source.label_map(FRAMES[0])


def test_what_the_output_does_not_need_may_be_anything(tmp_path):
    path = UserFile(wrapped=full, change=foreign_auxiliary_output).write(tmp_path / "user.onnx")
    assert import_onnx(path, size=SIZE, output="output").spec.stride == 4


@pytest.mark.parametrize(
    ("kind", "name"), [(np.float16, "FLOAT16"), (ml_dtypes.bfloat16, "BFLOAT16")]
)
def test_other_float_types_are_said(kind, name, tmp_path, caplog):
    caplog.set_level("INFO", "fcn_trt")
    UserFile(wrapped=full, change=weights_to(kind)).take(tmp_path / "user.onnx")
    assert f"user.onnx has weights of {name}, which become FLOAT" in caplog.text


def foreign_operator(model):
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    node_of(model, "Conv").domain = "com.microsoft"


def plug_in(model):
    model.opset_import.append(helper.make_opsetid("mmdeploy", 1))
    insert_behind(model, "Relu", helper.make_node("Grid", ["x"], ["y"], "grid", domain="mmdeploy"))


def quantised_weights(model):
    add_constant(model, "q", np.zeros((8, 3, 3, 3), np.int8))
    add_constant(model, "scale", np.float32(0.1))
    conv = node_of(model, "Conv")
    model.graph.node.insert(
        0, helper.make_node("DequantizeLinear", ["q", "scale"], [conv.input[1]])
    )
    name = conv.input[1]
    kept = [tensor for tensor in model.graph.initializer if tensor.name != name]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


def integer_convolution(model):
    node_of(model, "Conv").op_type = "ConvInteger"


def foreign_quantisation(model):
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    conv = node_of(model, "Conv")
    conv.op_type, conv.domain = "QLinearAdd", "com.microsoft"


def branch(model):
    branches = {
        f"{name}_branch": helper.make_graph(
            [helper.make_node("Identity", ["first"], [name])],
            name,
            [],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)],
        )
        for name in ("then", "else")
    }
    add_constant(model, "choice", np.bool_(True))
    insert_behind(
        model,
        "Relu",
        helper.make_node("Identity", ["x"], ["first"]),
        helper.make_node("If", ["choice"], ["y"], "choose", **branches),
    )


def loop(model):
    body = helper.make_graph(
        [helper.make_node(k, [k + "in"], [k + "out"]) for k in ("Identity", "Relu")],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("Identityin", TensorProto.BOOL, []),
            helper.make_tensor_value_info("Reluin", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("Identityout", TensorProto.BOOL, []),
            helper.make_tensor_value_info("Reluout", TensorProto.FLOAT, None),
        ],
    )
    add_constant(model, "times", np.int64(3))
    insert_behind(model, "Relu", helper.make_node("Loop", ["times", "", "x"], ["y"], body=body))


def scan(model):
    insert_behind(model, "Relu", helper.make_node("Scan", ["x"], ["y"], "rows"))


def dropout_of_training(model):
    dropout_of_inference(model)
    off = next(t for t in model.graph.initializer if t.name == "off")
    off.CopyFrom(numpy_helper.from_array(np.bool_(True), "off"))


def dropout_that_may_train(model):
    dropout_of_training(model)
    for node in (
        helper.make_node("Greater", ["sum", "ratio"], ["mode"]),
        helper.make_node("ReduceSum", ["input"], ["sum"], keepdims=0),
    ):
        model.graph.node.insert(0, node)
    node_of(model, "Dropout").input[2] = "mode"


def batch_norm_of_training(model):
    for name in ("s", "b", "m", "v"):
        add_constant(model, name, np.ones(8, np.float32))
    names = ["x", "s", "b", "m", "v"]
    node = helper.make_node("BatchNormalization", names, ["y", "m2", "v2"], training_mode=1)
    insert_behind(model, "Conv", node)


def weight_with(value):
    def change(model):
        name = node_of(model, "Conv").input[1]
        tensor = next(t for t in model.graph.initializer if t.name == name)
        values = numpy_helper.to_array(tensor).copy()
        values[0, 0, 0, 0] = value
        tensor.CopyFrom(numpy_helper.from_array(values, name))

    return change


def bias_beyond_half(model):
    """What was float32 once, and did not fit."""
    weights_to(np.float16)(model)
    name = node_of(model, "Conv").input[2]
    tensor = next(t for t in model.graph.initializer if t.name == name)
    values = numpy_helper.to_array(tensor).copy()
    values[0] = np.inf
    tensor.CopyFrom(numpy_helper.from_array(values, name))


def circle(model):
    first, last = model.graph.node[0], node_of(model, "Resize")
    first.input[0] = last.input[0]


def other_shape(model):
    tensor = next(t for t in model.graph.initializer if t.name == "net.0.weight")
    tensor.dims[0] = 7


def opset(version):
    def change(model):
        model.opset_import[0].version = version

    return change


REFUSED = {
    "an operator of others": (
        foreign_operator,
        r"com\.microsoft\.Conv at node '/net/.*before an optimiser wrote it",
    ),
    "a plug-in": (plug_in, r"mmdeploy\.Grid at node 'grid', which is none of ONNX's own; import"),
    "quantised weights": (
        quantised_weights,
        r"is quantised \(DequantizeLinear\); import the float",
    ),
    "an integer convolution": (integer_convolution, r"is quantised \(ConvInteger\); import the"),
    "quantised by others": (foreign_quantisation, r"is quantised \(QLinearAdd\); import the float"),
    "a branch": (branch, "has control flow at node If 'choose'.*; export it again"),
    "a loop": (loop, "has control flow at node Loop 'y'.*; export it again"),
    "a scan": (scan, "has control flow at node Scan 'rows'.*; export it again"),
    "a dropout of training": (
        dropout_of_training,
        r"in training mode: Dropout 'y' .*; export it again after model\.eval\(\)",
    ),
    "a dropout that may train": (
        dropout_that_may_train,
        r"in training mode: Dropout 'y' .*; export it again after model\.eval\(\)",
    ),
    "a batch norm of training": (
        batch_norm_of_training,
        r"in training mode: BatchNormalization 'y' .*; export it again after model\.eval\(\)",
    ),
    "NaN": (weight_with(np.nan), r"has NaN or Inf in its weight 'net\.0\.weight'; export"),
    "Inf": (weight_with(-np.inf), r"has NaN or Inf in its weight 'net\.0\.weight'; export"),
    "Inf of half precision": (bias_beyond_half, r"NaN or Inf in its weight 'net\.0\.bias'; export"),
    "a circle": (circle, "is not sound at node Conv '/net/.*, which reads what no node .*; export"),
    "a weight of another shape": (
        other_shape,
        r"which are 189 numbers, but it carries 216; fetch or export",
    ),
    "an old opset": (opset(6), r"\(opset 6\) cannot be brought to 17: .*; export it again"),
    "no opset": (opset(0), r"\(opset 0\) cannot be brought to 17: .*; export it again"),
    "a new opset": (opset(99), r"\(opset 99\) cannot be brought to 17: .*; export it again"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_undone_is_refused(name, tmp_path):
    change, message = REFUSED[name]
    with pytest.raises(OnnxError, match=message) as refusal:
        UserFile(wrapped=full, change=change).take(tmp_path / "user.onnx")
    assert "\n" not in str(refusal.value)
