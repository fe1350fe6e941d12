"""Small graphs that ask for more memory or time than there is."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from fcn_trt.errors import OnnxError
from fcn_trt.network.import_onnx import import_onnx
from tests.plans import save

SIZE = (64, 64)
node = helper.make_node


def constant(name, values, kind=np.int64):
    return numpy_helper.from_array(np.array(values, kind), name)


WEIGHT = constant("w", np.ones((21, 3, 1, 1)), np.float32)
CONV = node("Conv", ["image", "w"], ["c"])


def model(nodes, *constants, functions=()):
    made = helper.make_model(
        helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, [1, 3, 64, 64])],
            [helper.make_tensor_value_info("out", onnx.TensorProto.FLOAT, None)],
            [WEIGHT, *constants],
        ),
        opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("f", 1)],
        ir_version=8,
    )
    made.functions.extend(functions)
    return made


def chain(first, count, make):
    """`count` nodes, each of what the one before it makes, up to "out"."""
    names = [first, *(f"t{i}" for i in range(count - 1)), "out"]
    return [make(a, b) for a, b in pairwise(names)]


def behind(kind, *shape, **attributes):
    """Logits, and a node that makes them larger by a constant."""
    inputs = ["c", "", "", "s"] if kind == "Resize" else ["c", "s"]
    return model([CONV, node(kind, inputs, ["out"], **attributes)], constant("s", shape))


def weight_of(*nodes, shape=(150_000_000, 3, 1, 1)):
    """A convolution whose weight is computed from a constant."""
    one = constant("one", np.ones((1, 3, 1, 1)), np.float32)
    return model([*nodes, node("Conv", ["image", "x"], ["out"])], one, constant("s", shape))


def added(made, *constants):
    return model([*made, CONV, node("Add", ["c", "x"], ["out"])], *constants)


def scalars(*values):
    return [constant(name, value) for name, value in zip("abd", values, strict=True)]


def function(name, *calls):
    names = ["x", *(f"z{i}" for i in range(len(calls) - 1)), "y"]
    body = [
        node(kind, [a], [b], domain="" if kind == "Relu" else "f")
        for kind, a, b in zip(calls, names[:-1], names[1:], strict=True)
    ]
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]
    return helper.make_function("f", name, ["x"], ["y"], body, imports)


def calling(*functions):
    return model([CONV, node("A0", ["c"], ["out"], domain="f")], functions=functions)


def depends_on_pixels():
    return [
        CONV,
        node("ReduceMax", ["c"], ["m"], keepdims=0),
        node("Cast", ["m"], ["i"], to=onnx.TensorProto.INT64),
        node("Unsqueeze", ["i", "z"], ["u"]),
        node("Concat", ["o", "o", "u", "u"], ["s"], axis=0),
        node("Expand", ["c", "s"], ["out"]),
    ]


def loop():
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        [node("Identity", ["ci"], ["co"]), node("Concat", ["v", "v"], ["y"], axis=2)],
        "body",
        [info("i", 7, []), info("ci", 9, []), info("v", 1, None)],
        [info("co", 9, []), info("y", 1, None)],
    )
    return node("Loop", ["n", "", "c"], ["out"], body=body)


COMPUTED = "makes more of its constants than is computed"
LARGE = r"numbers of an image of 1x3x64x64 at node \w+ '.*; export the network up to its logits"
RANGE = [node("Range", ["a", "b", "d"], ["r"]), node("Cast", ["r"], ["x"], to=1)]
NOISE = [node("RandomNormal", [], ["x"], shape=[1, 21, 100_000, 100_000])]
EYE = [node("ConstantOfShape", ["s"], ["v"]), node("EyeLike", ["v"], ["x"])]


BOMBS = {
    "Expand": (behind("Expand", 10**6, 21, 64, 64), LARGE),
    "Tile": (behind("Tile", 1, 1, 10_000, 10_000), LARGE),
    "Resize": (behind("Resize", 1, 21, 10**5, 10**5, mode="linear"), LARGE),
    "Pad": (behind("Pad", 0, 0, 0, 0, 0, 0, 10**6, 10**6), LARGE),
    "Range": (added(RANGE, *scalars(0, 1 << 40, 1)), LARGE),
    "RandomNormal": (added(NOISE), LARGE),
    "EyeLike": (added(EYE, constant("s", [1 << 20, 1 << 20])), COMPUTED),
    "Expand of a constant": (weight_of(node("Expand", ["one", "s"], ["x"])), COMPUTED),
    "Tile of a constant": (weight_of(node("Tile", ["one", "s"], ["x"])), COMPUTED),
    "ConstantOfShape": (weight_of(node("ConstantOfShape", ["s"], ["x"])), COMPUTED),
    "many constants": (
        weight_of(*(node("Expand", ["one", "s"], [f"x{i}"]) for i in range(2000)), shape=[1, 3000]),
        "reads what no node before it makes",
    ),
    "Concat with itself": (
        model([CONV, *chain("c", 40, lambda a, b: node("Concat", [a, a], [b], axis=2))]),
        LARGE,
    ),
    "shapes with themselves": (
        model(
            [
                node("Shape", ["image"], ["t"]),
                *chain("t", 18, lambda a, b: node("Concat", [a, a], [b], axis=0)),
            ]
        ),
        "lists of more than 262144 integers",
    ),
    "before the network": (
        model(
            [
                *chain("image", 30, lambda a, b: node("Concat", [a, a], [b], axis=0))[:-1],
                node("Conv", ["t28", "w"], ["out"]),
            ]
        ),
        LARGE,
    ),
    "a size of what is seen": (
        model(depends_on_pixels(), constant("z", 0), constant("o", [1])),
        "whose size its image alone does not say, at node Expand",
    ),
    "a function of itself": (calling(function("A0", "A0")), "that calls itself, 'f.A0'"),
    "functions of each other": (
        calling(function("A0", "A1"), function("A1", "A0")),
        "has a function that calls itself",
    ),
    "doubling functions": (
        calling(
            *(function(f"A{i}", f"A{i + 1}", f"A{i + 1}") for i in range(30)),
            function("A30", "Relu"),
        ),
        "more than the 5000 nodes",
    ),
    "deep functions": (
        calling(*(function(f"A{i}", f"A{i + 1}") for i in range(200)), function("A200", "Relu")),
        "call each other 50 deep",
    ),
    "nodes of one name": (
        model([CONV, *chain("c", 6000, lambda a, b: node("Relu", [a], [b], name="x"))]),
        "more than the 5000 nodes",
    ),
    "a loop": (model([CONV, loop()], constant("n", 60)), "control flow at node Loop"),
    "a cycle": (
        model([node("Cast", ["b"], ["out"], to=1), node("Dropout", ["out"], ["b"])]),
        "is not sound at node Cast 'out'",
    ),
    "Identity of nothing": (model([node("Identity", [], ["out"])]), "Identity 'out', which has 0"),
    "Constant of nothing": (
        added([node("Constant", [], ["x"])]),
        "Constant 'x', which has 0 inputs, 1 outputs and 0 attributes",
    ),
    "Constant of two": (
        added([node("Constant", [], ["x"], value_int=1, value_float=1.0)]),
        "Constant 'x', which has 0 inputs, 1 outputs and 2 attributes",
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_what_is_too_large_is_refused_before_it_is_computed(name, tmp_path):
    made, reason = BOMBS[name]
    save(made, tmp_path / "user.onnx")
    tracemalloc.start()
    try:
        with pytest.raises(OnnxError, match=reason):
            import_onnx(tmp_path / "user.onnx", size=SIZE)
        assert tracemalloc.get_traced_memory()[1] < 100 << 20
    finally:
        tracemalloc.stop()


def ends_badly(nodes, *constants):
    """With a resize behind that is refused once everything before it was gone through."""
    resize = node("Resize", ["out", "", "", "s"], ["end"], mode="cubic")
    made = model([*nodes, resize], *constants, constant("s", [1, 21, 128, 128]))
    made.graph.output[0].name = "end"
    return made


def one(name="z"):
    return constant(name, 1, np.float32)


@pytest.mark.parametrize(
    "made",
    [
        ends_badly([CONV, *chain("c", 1500, lambda a, b: node("Identity", [a], [b]))]),
        ends_badly([CONV, *chain("c", 60, lambda a, b: node("Add", [a, a], [b]))]),
        ends_badly([CONV, *chain("c", 1000, lambda a, b: node("Mul", [a, "z"], [b]))], one()),
        ends_badly(
            [
                *chain("image", 1000, lambda a, b: node("Add", [a, "z"], [b]))[:-1],
                node("Conv", ["t998", "w"], ["out"]),
            ],
            one(),
        ),
    ],
    ids=["copies", "diamonds", "behind the logits", "before the network"],
)
def test_long_graphs_are_gone_through_once(made, tmp_path):
    save(made, tmp_path / "user.onnx")
    with pytest.raises(OnnxError, match="resizes its logits with mode cubic"):
        import_onnx(tmp_path / "user.onnx", size=SIZE)
