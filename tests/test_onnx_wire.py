import time

import numpy as np
import pytest

from fcn_trt import onnx_wire
from fcn_trt.onnx_wire import MESSAGES, onnx_metadata, survey

onnx = pytest.importorskip("onnx")
helper, numpy_helper = onnx.helper, onnx.numpy_helper


def model_with(*tensors, **graph):
    names = [tensor.name for tensor in tensors]
    nodes = [helper.make_node("Sum", names, ["y"])]
    return helper.make_model(helper.make_graph(nodes, "g", [], [], list(tensors), **graph))


def tensor(values, name="w"):
    return numpy_helper.from_array(np.asarray(values), name)


def varint(number):
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    return bytes([*found, number])


def field(number, data):
    return varint(number << 3 | 2) + varint(len(data)) + data


def test_table_is_that_of_the_onnx_package():
    waiting, found = [onnx.ModelProto.DESCRIPTOR], {}
    while waiting:
        message = waiting.pop()
        if message.name not in found:
            inner = {f.number: f.message_type for f in message.fields}
            waiting += filter(None, inner.values())
            found[message.name] = {
                f.number: (inner[f.number].name if inner[f.number] else is_text(f), f.is_repeated)
                for f in message.fields
            }
    ours = {
        message: {number: (kind.removeprefix("*"), "*" in kind) for number, kind in fields.items()}
        for message, fields in MESSAGES.items()
    }
    assert ours == found


def is_text(described):
    return "text" if described.type == described.TYPE_STRING else "other"


@pytest.mark.parametrize(
    "values",
    [
        np.zeros((3, 0, 2), np.float32),
        np.float32(1),
        np.array([b"one", b"two"], object),
        np.arange(5, dtype=np.int8),
        np.ones(3, np.complex64),
        np.ones((2, 3), np.float16),
        np.array([True, False]),
    ],
)
def test_tensors_as_onnx_writes_them_are_taken(values):
    assert survey(model_with(tensor(values)).SerializeToString()).numbers == values.size


@pytest.mark.parametrize("kind", ["FLOAT16", "INT4", "UINT8", "DOUBLE", "UINT64", "COMPLEX128"])
def test_so_are_those_that_are_not_raw(kind):
    made = helper.make_tensor("w", getattr(onnx.TensorProto, kind), [5], [1, 0, 1, 1, 0])
    assert survey(model_with(made).SerializeToString()).numbers == 5


def claims(*dims):
    made = tensor(np.zeros(6, np.float32))
    made.ClearField("dims")
    made.dims.extend(dims)
    return model_with(made)


def in_two_fields():
    made = tensor(np.zeros(6, np.float32))
    made.float_data.append(1)
    return model_with(made)


def of_no_type():
    made = tensor(np.zeros(6, np.float32))
    made.data_type = 99
    return model_with(made)


def a_segment():
    made = tensor(np.zeros(6, np.float32))
    made.segment.end = 1 << 40
    return model_with(made)


def sparse():
    made = model_with(tensor([1]))
    made.graph.sparse_initializer.add(dims=[1 << 40])
    return made


def in_a_subgraph():
    inner = claims(1 << 40).graph
    made = model_with(tensor([1]))
    made.graph.node.append(helper.make_node("If", ["c"], ["z"], then_branch=inner))
    return made


def in_a_function():
    made = model_with(tensor([1]))
    constant = helper.make_node("Constant", [], ["z"], value=claims(7).graph.initializer[0])
    made.functions.append(helper.make_function("f", "F", [], ["z"], [constant], []))
    return made


def in_training():
    made = model_with(tensor([1]))
    made.training_info.add().algorithm.initializer.extend(claims(-6).graph.initializer)
    return made


def deep():
    graph = helper.make_graph([], "inner", [], [])
    for _ in range(30):
        node = helper.make_node("If", ["c"], ["z"], then_branch=graph)
        graph = helper.make_graph([node], "inner", [], [])
    made = model_with(tensor([1]))
    made.graph.node.extend(graph.node)
    return made


REFUSED = {
    "too many numbers": (claims(1 << 40), r"shape \(1099511627776\), .* but it carries 6"),
    "too few numbers": (claims(2, 2), "which are 4 numbers, but it carries 6"),
    "a negative side": (claims(-2, -3), r"has the shape \(-2, -3\)"),
    "an overflowing product": (claims(1 << 62, 4), "but it carries 6"),
    "a side of 0": (claims(0), "are 0 numbers, but it carries 6"),
    "many sides": (claims(*[1] * 1000, 6), r"has the shape \(1, 1, .*, \.\.\.\)"),
    "two fields": (in_two_fields(), "has values in more than one field"),
    "no type": (of_no_type(), "has values of no type that ONNX has"),
    "a segment": (a_segment(), "is a segment of another"),
    "a sparse tensor": (sparse(), "has a sparse tensor"),
    "a subgraph": (in_a_subgraph(), "but it carries 6"),
    "a function": (in_a_function(), "which are 7 numbers, but it carries 6"),
    "training": (in_training(), r"has the shape \(-6\)"),
    "depth": (deep(), "more than 40 messages inside each other"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_claims_other_than_it_carries_is_refused(name):
    model, reason = REFUSED[name]
    with pytest.raises(ValueError, match=reason):
        survey(model.SerializeToString())


GRAPH = field(1, field(4, b"Relu"))
TENSOR = field(1, b"\x06") + b"\x10\x01" + field(9, bytes(24))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (field(7, GRAPH) * 2, "field 7 of a ModelProto twice"),
        (b"\xba\x80\x80\x00" + field(7, GRAPH)[1:] + field(7, GRAPH), "field 7 of a .* twice"),
        (field(7, field(5, TENSOR + field(9, bytes(24)))), "field 9 of a TensorProto twice"),
        (field(7, field(5, TENSOR + b"\x0d\x00\x00\x00\x00" + b"\x08\x02")), "carries 6"),
        (field(7, field(1, field(1, b"\xff"))), "can't decode byte 0xff"),
        (field(7, GRAPH) + b"\x07", "wire type 7"),
        (field(7, b"\x02\x00"), "one without a number"),
        (field(7, b"\x0a\x05ab"), "ends inside a field"),
        (b"\x08" + b"\xff" * 11, "more than ten bytes"),
        (b"\x08\xff", "ends inside a number"),
    ],
)
def test_bytes_that_parsers_read_differently_are_refused(data, reason):
    with pytest.raises(ValueError, match=reason):
        survey(data)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (field(7, b"\x5a\x00" * 600_000), "500000 fields"),
        (field(7, field(13, field(2, field(1, field(2, b"\x0a\x00" * 600_000))))), "500000 fi"),
        (field(7, field(1, b"") * 30_000), "20000 nodes"),
        (field(7, field(5, field(7, b"\x01" * (40 << 20)))), "more varints than the 33554432"),
    ],
)
def test_many_small_things_are_refused_before_they_are_objects(data, reason):
    before = time.process_time()
    with pytest.raises(ValueError, match=reason):
        survey(data)
    assert time.process_time() - before < 6


def test_limit_of_fields_is_one_for_all_messages(monkeypatch):
    data = model_with(*(tensor([1], f"w{i}") for i in range(30))).SerializeToString()
    survey(data)
    monkeypatch.setattr(onnx_wire, "MAX_FIELDS", 100)
    with pytest.raises(ValueError, match="more than the 100 fields"):
        survey(data)


def external(**entries):
    made = tensor(np.zeros(6, np.float32))
    made.ClearField("raw_data")
    made.data_location = onnx.TensorProto.EXTERNAL
    for key, value in entries.items():
        made.external_data.add(key=key, value=value)
    return made


def test_tensors_of_other_files_are_found_wherever_they_are():
    model = model_with(external(location="a"))
    inner = model_with(external(location="b", offset="8", length="24")).graph
    model.graph.node.append(helper.make_node("If", ["c"], ["z"], then_branch=inner))
    constant = helper.make_node("Constant", [], ["z"], value=external(location="c" * 300))
    model.functions.append(helper.make_function("f", "F", [], ["z"], [constant], []))
    model.training_info.add().initialization.initializer.append(external(location="d"))
    read = survey(model.SerializeToString()).external
    found = {(t.location[0], t.offset, t.size_bytes) for t in read}
    assert found == {("a", 0, 24), ("b", 8, 24), ("c", 0, 24), ("d", 0, 24)}


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ({"location": "a", "length": "25"}, "24 bytes by its shape, but 25 in another file"),
        ({"location": "a", "offset": "-1"}, "has an offset of '-1'"),
        ({"location": "a", "offset": "9" * 40}, "has an offset of '9999"),
    ],
)
def test_other_files_of_another_length_are_refused(entries, reason):
    with pytest.raises(ValueError, match=reason):
        survey(model_with(external(**entries)).SerializeToString())


def test_metadata_that_is_there_twice_is_refused():
    model = model_with(tensor([1]))
    for value in ("one", "two"):
        model.metadata_props.add(key="k", value=value)
    with pytest.raises(ValueError, match="has the metadata 'k' twice"):
        onnx_metadata(model.SerializeToString())


def joining(times, begin="w", operator="Concat"):
    """A graph that joins a list with itself so many times."""
    nodes = [helper.make_node("Shape", ["image"], ["shape"])]
    name = begin
    for index in range(times):
        nodes.append(helper.make_node(operator, [name, name], [f"l{index}"], axis=0))
        name = f"l{index}"
    return helper.make_model(helper.make_graph(nodes, "g", [], [], [tensor(np.arange(8))]))


@pytest.mark.parametrize("begin", ["w", "shape"])
def test_constants_that_are_joined_again_and_again_are_refused(begin):
    with pytest.raises(ValueError, match="it joins constants to more than the 16777216"):
        survey(joining(34, begin).SerializeToString())
    assert survey(joining(8, begin).SerializeToString()).nodes == 9


def test_what_depends_on_the_image_may_be_joined():
    assert survey(joining(34, "image").SerializeToString()).nodes == 35
