import json
from dataclasses import replace

import numpy as np
import pytest

from fcn_trt.errors import OnnxError
from fcn_trt.spec import METADATA_KEY, ShapeRange, Spec, parse_size, read_spec
from fcn_trt.type_adapter import type_adapter


@pytest.fixture
def spec():
    return Spec(
        model="fcn_r50-d8",
        family="mmsegmentation",
        weights="last.pth",
        labels="custom",
        classes=("road", "ciel é"),
        palette=("#010203", "#ff8000"),
        mean=(123.675, 116.28, 103.53),
        std=(58.395, 57.12, 57.375),
        input_size=(97, 161),
        batch=1,
        stride=8,
        align_corners=True,
        precision="fp32",
        logits_type="float32",
        source_sha256="ab" * 32,
        licence="",
    )


@pytest.fixture
def shapes():
    """A range that the spec's own shape lies in, at one of its limits even."""
    return ShapeRange(min_size=(97, 64), max_size=(512, 1024), min_batch=1, max_batch=4)


@pytest.fixture
def written(tmp_path):
    """Write a real ONNX file with this metadata and this many float32 weights; returns its path."""
    onnx = pytest.importorskip("onnx", reason="needs the extra: pip install 'fcn-trt[export]'")

    def write(metadata, weights=10, **fields):
        values = np.arange(weights, dtype=np.float32)
        tensor = onnx.numpy_helper.from_array(values, "w")
        image = onnx.helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, [weights])
        logits = onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, [weights])
        node = onnx.helper.make_node("Add", ["image", "w"], ["logits"])
        graph = onnx.helper.make_graph([node], "g", [image], [logits], [tensor])
        model = onnx.helper.make_model(graph, producer_name="fcn_trt", **fields)
        onnx.helper.set_model_props(model, metadata)
        path = tmp_path / "m.onnx"
        onnx.save(model, path)
        return path

    return write


class TestSpec:
    def test_json_round_trip_is_exact(self, spec):
        text = spec.to_json()
        assert type_adapter(Spec).validate_json(text) == spec
        assert list(json.loads(text)) == list(spec.to_dict())

    def test_dict_round_trip_is_exact(self, spec):
        assert Spec(**spec.to_dict()) == spec

    @pytest.mark.parametrize(
        ("size", "stride", "logits"),
        [((97, 161), 8, (13, 21)), ((96, 160), 8, (12, 20)), ((1, 1), 16, (1, 1))],
    )
    def test_logits_size_is_rounded_up(self, size, stride, logits, spec):
        assert replace(spec, input_size=size, stride=stride).logits_size == logits

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"batch": 0}, "must all be at least 1"),
            ({"stride": 0}, "must all be at least 1"),
            ({"input_size": (0, 8)}, "must all be at least 1"),
            ({"input_size": (8, 16385)}, "input_size 8x16385 is too large; 16384 is the most"),
            ({"batch": 65537}, "batch 65537 is too large; 65536 is the most"),
            ({"std": (1.0, 0.0, 1.0)}, "must be positive in each channel"),
            ({"classes": ("a",)}, "1 classes but 2 colours"),
            ({"palette": ("red", "blue")}, "'red' is not of the form #rrggbb"),
        ],
    )
    def test_what_cannot_be_is_refused(self, change, message, spec):
        with pytest.raises(ValueError, match=message):
            replace(spec, **change)

    def test_range_and_exceptions_survive_json_and_dict(self, spec, shapes):
        dynamic = replace(spec, dynamic=shapes, exceptions={"conv": "fp32", "add": "bf16"})
        for text in (dynamic.to_json(), json.dumps(dynamic.to_dict())):
            assert type_adapter(Spec).validate_json(text) == dynamic

    def test_what_was_written_before_there_were_ranges_is_read(self, spec):
        content = spec.to_dict()
        del content["dynamic"], content["exceptions"]
        assert type_adapter(Spec).validate_json(json.dumps(content)) == spec

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"min_size": (98, 64)}, "range of 98 to 512; min_size must not be more than size"),
            (
                {"max_size": (512, 160)},
                "width 161 .* of 64 to 160; max_size must not be less than size",
            ),
            ({"min_batch": 2}, "batch 1 .* of 2 to 4; min_batch must not be more than batch"),
            ({"max_batch": 0}, "batch 1 .* of 1 to 0; max_batch must not be less than batch"),
            ({"min_size": (0, 64)}, "height 97 is not within its range of 0 to 512"),
            ({"min_batch": 0}, "of 0 to 4; min_batch must be at least 1 and at most batch"),
        ],
    )
    def test_range_without_the_spec_s_own_shape_is_refused(self, change, message, spec, shapes):
        with pytest.raises(ValueError, match=message):
            replace(spec, dynamic=replace(shapes, **change))

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"min_size": (16385, 64)}, "min_size 16385x64 is too large; 16384 is the most"),
            ({"max_size": (512, 16385)}, "max_size 512x16385 is too large"),
            ({"min_batch": 65537}, "min_batch 65537 is too large; 65536 is the most"),
            ({"max_batch": 999999999999}, "max_batch 999999999999 is too large"),
        ],
    )
    def test_range_that_no_network_takes_is_refused(self, change, message, shapes):
        with pytest.raises(ValueError, match=message):
            replace(shapes, **change)

    def test_largest_shape_is_taken(self, spec):
        most = (16384, 16384)
        shapes = ShapeRange(min_size=most, max_size=most, min_batch=1, max_batch=65536)
        assert replace(spec, input_size=most, batch=65536, dynamic=shapes).dynamic == shapes

    def test_range_of_one_shape_is_allowed(self, spec):
        one = ShapeRange(min_size=(97, 161), max_size=(97, 161), min_batch=1, max_batch=1)
        assert replace(spec, dynamic=one).dynamic == one


class TestReadSpec:
    def test_spec_is_found_in_a_real_file(self, spec, written):
        assert read_spec(written({METADATA_KEY: spec.to_json()})) == spec

    def test_spec_is_found_beside_other_metadata_and_megabytes(self, spec, written):
        metadata = {"author": "me", METADATA_KEY: spec.to_json(), "": "empty key", "empty": ""}
        path = written(metadata, weights=1_500_000, doc_string="d" * 1000, model_version=2**40)
        assert path.stat().st_size > 6_000_000
        assert read_spec(path) == spec

    def test_truncated_file_is_refused_at_every_length(self, spec, written):
        path = written({METADATA_KEY: spec.to_json()})
        data = path.read_bytes()
        for length in range(len(data)):
            path.write_bytes(data[:length])
            with pytest.raises(OnnxError, match=r"m\.onnx"):
                read_spec(path)

    def test_truncated_large_file_is_refused(self, spec, written):
        path = written({METADATA_KEY: spec.to_json()}, weights=1_500_000)
        data = path.read_bytes()
        for length in np.linspace(0, len(data) - 1, 40).astype(int):
            path.write_bytes(data[:length])
            with pytest.raises(OnnxError, match=r"m\.onnx"):
                read_spec(path)

    def test_altered_bytes_are_read_or_refused_and_never_crash(self, spec, written):
        path = written({METADATA_KEY: spec.to_json()})
        data, dice = path.read_bytes(), np.random.default_rng(0)
        refused = 0
        for _ in range(600):
            altered = bytearray(data)
            altered[dice.integers(len(data))] = dice.integers(256)
            path.write_bytes(altered)
            try:
                read_spec(path)
            except OnnxError:
                refused += 1
        assert refused > 60

    @pytest.mark.parametrize(
        "data",
        [
            b"# Not an ONNX file\n",
            b"\x0b",  # a group, which ONNX has none of
            b"\x08" + b"\xff" * 11,  # a number that does not end
            b"\x09\x00",  # eight bytes, of which one is there
            b"\x0d\x00",  # four bytes, of which one is there
            b"\x72\x04\x0a\x02\xff\xfe",  # a key that is not UTF-8
        ],
    )
    def test_other_files_are_refused(self, data, tmp_path):
        path = tmp_path / "other.onnx"
        path.write_bytes(data)
        with pytest.raises(OnnxError, match=r"other\.onnx is not a whole ONNX file"):
            read_spec(path)

    def test_fixed_width_fields_are_passed_over(self, spec, written):
        path = written({METADATA_KEY: spec.to_json()})
        path.write_bytes(b"\xf9\x07" + bytes(8) + b"\xfd\x07" + bytes(4) + path.read_bytes())
        assert read_spec(path) == spec

    def test_model_without_a_spec_says_how_to_import_it(self, written):
        with pytest.raises(
            OnnxError, match=r"no 'fcn_trt\.spec' metadata; import it .*fcn-trt exp"
        ):
            read_spec(written({"author": "me"}))

    def test_missing_file_is_refused(self, tmp_path):
        with pytest.raises(OnnxError, match=r"nowhere\.onnx cannot be read: No such file"):
            read_spec(tmp_path / "nowhere.onnx")

    def test_folder_is_refused(self, tmp_path):
        with pytest.raises(OnnxError, match="cannot be read: it is a folder and no regular"):
            read_spec(tmp_path)

    @pytest.mark.parametrize(
        ("change", "where"),
        [
            ({"batch": "1"}, "batch"),
            ({"batch": 1.5}, "batch"),
            ({"batch": True}, "batch"),
            ({"align_corners": "yes"}, "align_corners"),
            ({"align_corners": 1}, "align_corners"),
            ({"input_size": [1]}, "input_size.1"),
            ({"input_size": [1, 2, 3]}, "input_size"),
            ({"mean": ["1", 2, 3]}, "mean.0"),
            ({"mean": [float("nan"), 2, 3]}, "its top level"),
            ({"std": [float("inf"), 2, 3]}, "its top level"),
            ({"classes": ["x"] * 200_000}, "its top level"),
            ({"batch": 2**63}, "its top level"),
            ({"classes": "ab"}, "classes"),
            ({"classes": [1, 2]}, "classes.0"),
            ({"precision": "int4"}, "precision"),
            ({"logits_type": "float64"}, "logits_type"),
            ({"licence": None}, "licence"),
            ({"extra": 1}, "extra"),
            ({"dynamic": {"min_size": [1, 2]}}, "dynamic.max_size"),
            ({"dynamic": {"max_sizes": [1, 2]}}, "dynamic.min_size"),
            ({"dynamic": "any"}, "dynamic"),
            ({"exceptions": {"conv": "int4"}}, "exceptions.conv"),
            ({"exceptions": ["conv"]}, "exceptions"),
            ({"batch": 0}, "its top level"),
            ({"palette": ["red", "blue"]}, "its top level"),
        ],
    )
    def test_spec_that_is_not_valid_is_refused_with_the_place(self, change, where, spec, written):
        path = written({METADATA_KEY: json.dumps(spec.to_dict() | change)})
        with pytest.raises(
            OnnxError, match=rf"has a spec that is not valid at {where}: "
        ) as caught:
            read_spec(path)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("name", ["model", "stride", "palette"])
    def test_missing_key_is_named(self, name, spec, written):
        content = spec.to_dict()
        del content[name]
        with pytest.raises(OnnxError, match=f"not valid at {name}: .*required"):
            read_spec(written({METADATA_KEY: json.dumps(content)}))

    @pytest.mark.parametrize("text", ["", "{", "[]", "null", "1"])
    def test_other_json_is_refused(self, text, written):
        with pytest.raises(OnnxError, match="has a spec that is not valid at its top level: "):
            read_spec(written({METADATA_KEY: text}))


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512x1024", (512, 1024)),
        ("1x1", (1, 1)),
        ("16384X16384", (16384, 16384)),
        ("007x8", (7, 8)),
    ],
)
def test_sizes_are_height_by_width(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    [
        *("", "x", "512", "512x", "x512", "512x1024x3", "0x10x", "5.5x6", "1e3x5", "-1x5", "+1x5"),
        *("1 x 5", " 1x5", "1x5\n", "axb", "512*1024", "512,1024", "\u0663x\u0663", "\u00b2x2"),
    ],
)
def test_text_that_is_no_size_is_refused(text):
    with pytest.raises(ValueError, match="is not HEIGHTxWIDTH in pixels, such as 512x1024"):
        parse_size(text)


@pytest.mark.parametrize("text", ["0x5", "5x0", "16385x1", "1x99999999"])
def test_sides_out_of_range_are_refused(text):
    with pytest.raises(ValueError, match=f"'{text}' has a side that is not between 1 and 16384"):
        parse_size(text)
