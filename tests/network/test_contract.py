from dataclasses import replace

import onnx
import pytest

from fcn_trt.errors import OnnxError, OutputError
from fcn_trt.network.contract import (
    declare_ends,
    finish_network,
    image_shape,
    load_network,
    logits_shape,
    save_network,
)
from fcn_trt.network.load import load_onnx
from fcn_trt.spec import METADATA_KEY, ShapeRange, read_spec
from tests.plans import save


@pytest.fixture
def network(tiny_network):
    """(model, spec) of the tiny network, to be spoilt."""
    return load_network(tiny_network)


def test_network_on_disk_keeps_the_contract(tiny_network):
    model, spec = load_network(tiny_network)
    onnx.checker.check_model(model, full_check=True)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 17)]
    assert (model.ir_version, model.producer_name) == (8, "fcn_trt")
    (image,), (logits,) = model.graph.input, model.graph.output
    for value, name, shape in (
        (image, "image", (1, 3, 64, 96)),
        (logits, "logits", (1, 3, 8, 12)),
    ):
        assert value.name == name
        assert value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
        assert tuple(d.dim_value for d in value.type.tensor_type.shape.dim) == shape
    assert [p.key for p in model.metadata_props] == [METADATA_KEY]
    assert spec == read_spec(tiny_network)


def test_every_tensor_has_its_shape(network):
    model, _ = network
    shapes = {v.name: v.type.tensor_type.shape.dim for v in model.graph.value_info}
    for node in model.graph.node:
        if node.output[0] != "logits":
            assert all(dim.dim_value > 0 for dim in shapes[node.output[0]])


def test_network_comes_back_as_it_was_saved(network, tmp_path):
    model, spec = network
    save(model, tmp_path / "n.onnx")
    assert load_network(tmp_path / "n.onnx") == (model, spec)


def test_finishing_twice_changes_nothing(network):
    model, spec = network
    before = model.SerializeToString()
    assert finish_network(model, spec).SerializeToString() == before


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"batch": 2}, r"\(1, 3, 64, 96\).*but its spec says.*\(2, 3, 64, 96\)"),
        ({"input_size": (64, 88)}, r"\(1, 3, 64, 96\).*but its spec says.*\(1, 3, 64, 88\)"),
        ({"stride": 16}, r"\(1, 3, 8, 12\).*but its spec says.*\(1, 3, 4, 6\)"),
        (
            {"classes": ("a", "b"), "palette": ("#000000", "#ffffff")},
            r"\(1, 3, 8, 12\).*but its spec says.*\(1, 2, 8, 12\)",
        ),
    ],
)
def test_graph_of_other_shapes_than_its_spec_is_refused(network, change, found):
    model, spec = network
    with pytest.raises(OnnxError, match=rf"the graph of fcn_r18-d8 has .*{found}"):
        finish_network(model, replace(spec, **change))


class TestDynamicShapes:
    @pytest.fixture
    def spec(self, network):
        """The network's spec, with a range around its shape."""
        shapes = ShapeRange(min_size=(33, 64), max_size=(128, 128), min_batch=1, max_batch=3)
        return replace(network[1], dynamic=shapes)

    def test_sides_that_may_vary_have_names(self, network, spec):
        model, _ = network
        declare_ends(model.graph, image_shape(spec), logits_shape(spec))
        model = finish_network(model, spec)
        onnx.checker.check_model(model, full_check=True)
        assert image_shape(spec) == ("batch", 3, "height", "width")
        assert logits_shape(spec) == ("batch", 3, "logits_height", "logits_width")
        for value, shape in (
            (model.graph.input[0], image_shape(spec)),
            (model.graph.output[0], logits_shape(spec)),
        ):
            dims = value.type.tensor_type.shape.dim
            assert tuple(d.dim_param or d.dim_value for d in dims) == shape

    @pytest.mark.parametrize(
        ("change", "image", "logits"),
        [
            ({"max_batch": 1}, (1, 3, "height", "width"), (1, 3, "logits_height", "logits_width")),
            (
                {"min_size": (64, 64), "max_size": (64, 128)},
                ("batch", 3, 64, "width"),
                ("batch", 3, 8, "logits_width"),
            ),
            (
                {"min_size": (64, 96), "max_size": (64, 96)},
                ("batch", 3, 64, 96),
                ("batch", 3, 8, 12),
            ),
        ],
    )
    def test_sides_whose_limits_are_equal_stay_numbers(self, network, spec, change, image, logits):
        spec = replace(spec, dynamic=replace(spec.dynamic, **change))
        assert (image_shape(spec), logits_shape(spec)) == (image, logits)
        model, _ = network
        declare_ends(model.graph, image, logits)
        finish_network(model, spec)

    def test_static_graph_is_refused(self, network, spec):
        with pytest.raises(OnnxError, match=r"has .*\(1, 3, 64, 96\).*, but its spec says .*'bat"):
            finish_network(network[0], spec)

    def test_graph_with_another_stride_is_refused(self, network, spec):
        spec = replace(spec, stride=16)
        declare_ends(network[0].graph, image_shape(spec), logits_shape(spec))
        message = r"cannot be dynamic, so export it at one shape: .*\(1, 3, 5, 8\).*\(1, 3, 3, 4\)"
        with pytest.raises(OnnxError, match=message):
            finish_network(network[0], spec)

    def test_graph_that_fixes_a_shape_inside_is_refused(self, network, spec):
        graph = network[0].graph
        shape = onnx.helper.make_tensor("shape", onnx.TensorProto.INT64, [4], [1, -1, 8, 12])
        graph.initializer.append(shape)
        last = graph.node[-1]
        last.output[0] = "open"
        graph.node.append(onnx.helper.make_node("Reshape", ["open", "shape"], ["logits"]))
        declare_ends(graph, image_shape(spec), logits_shape(spec))
        with pytest.raises(OnnxError, match="fcn_r18-d8 cannot be dynamic, so export it at one"):
            finish_network(network[0], spec)


def test_graph_that_mixes_types_is_refused(network):
    model, spec = network
    cast = onnx.helper.make_node("Cast", ["image"], ["half"], to=onnx.TensorProto.FLOAT16)
    model.graph.node[0].input[0] = "half"
    model.graph.node.insert(0, cast)
    with pytest.raises(OnnxError, match=r"the graph of fcn_r18-d8 is not sound: .+"):
        finish_network(model, spec)


def second_input(graph):
    graph.input.append(onnx.helper.make_tensor_value_info("mask", 1, (1,)))


def second_output(graph):
    name = graph.node[-2].output[0]
    graph.output.append(onnx.helper.make_tensor_value_info(name, 1, None))


def other_name(graph):
    graph.output[0].name = graph.node[-1].output[0] = "out"


@pytest.mark.parametrize("spoil", [second_input, second_output, other_name])
def test_other_inputs_and_outputs_are_refused(network, spoil):
    model, spec = network
    spoil(model.graph)
    with pytest.raises(OnnxError, match=r"the graph of fcn_r18-d8 has .*, but its spec says"):
        finish_network(model, spec)


def unknown_operator(graph):
    graph.node[3].op_type = "Kaleidoscope"


def missing_weight(graph):
    del graph.initializer[0]


def same_name_twice(graph):
    graph.node[1].output[0] = graph.node[0].output[0]


@pytest.mark.parametrize("spoil", [unknown_operator, missing_weight, same_name_twice])
def test_unsound_graph_is_refused_in_one_line(network, spoil):
    model, spec = network
    spoil(model.graph)
    with pytest.raises(OnnxError, match=r"the graph of fcn_r18-d8 is not sound: .+") as refusal:
        finish_network(model, spec)
    assert "\n" not in str(refusal.value)


class TestLoading:
    @pytest.mark.parametrize("load", [load_onnx, load_network])
    def test_missing_file_is_refused(self, tmp_path, load):
        with pytest.raises(OnnxError, match=r"gone\.onnx cannot be read"):
            load(tmp_path / "gone.onnx")

    @pytest.mark.parametrize("data", [b"", b"\x08\x07", b"not an onnx file", b"\xff" * 100])
    def test_file_that_is_no_onnx_is_refused(self, tmp_path, data):
        (tmp_path / "odd.onnx").write_bytes(data)
        with pytest.raises(OnnxError, match=r"odd\.onnx cannot be read as ONNX: "):
            load_onnx(tmp_path / "odd.onnx")

    def test_truncated_file_is_refused(self, tmp_path, tiny_network):
        data = tiny_network.read_bytes()
        (tmp_path / "cut.onnx").write_bytes(data[: len(data) // 2])
        with pytest.raises(OnnxError, match=r"cut\.onnx cannot be read as ONNX: "):
            load_onnx(tmp_path / "cut.onnx")
        with pytest.raises(OnnxError, match=r"cut\.onnx is not a whole ONNX file"):
            load_network(tmp_path / "cut.onnx")

    def test_external_weights_are_read(self, network, tmp_path):
        model, _ = network
        expected = model.SerializeToString()
        onnx.save(model, tmp_path / "n.onnx", save_as_external_data=True, size_threshold=0)
        assert (tmp_path / "n.onnx").stat().st_size < len(expected)
        weights = {t.name: t.raw_data for t in load_onnx(tmp_path / "n.onnx").graph.initializer}
        reread = onnx.load_from_string(expected).graph.initializer
        assert weights == {t.name: t.raw_data for t in reread}

    def test_missing_external_weights_are_refused(self, network, tmp_path):
        onnx.save(
            network[0],
            tmp_path / "n.onnx",
            save_as_external_data=True,
            location="n.weights",
            size_threshold=0,
        )
        (tmp_path / "n.weights").unlink()
        with pytest.raises(OnnxError, match=r"n\.onnx cannot be read as ONNX: .*n\.weights"):
            load_onnx(tmp_path / "n.onnx")


def test_network_that_cannot_be_written_leaves_nothing(network, tmp_path):
    with pytest.raises(OutputError, match=r"n\.onnx cannot be written: No such file"):
        save_network(network[0], network[1], tmp_path / "gone" / "n.onnx")
    assert list(tmp_path.iterdir()) == []
