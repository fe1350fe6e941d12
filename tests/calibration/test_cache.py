from __future__ import annotations

import base64
import hashlib
import json
import zlib
from dataclasses import replace

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="needs the extra: pip install 'fcn-trt[export]'")

from fcn_trt.calibration.amax import METHODS, ZERO_AMAX, find_amax  # noqa: E402
from fcn_trt.calibration.cache import (  # noqa: E402
    CalibrationCache,
    TensorRange,
    calibration_sha256,
    network_sha256,
    read_calibration,
    require_made_for,
    write_calibration,
)
from fcn_trt.calibration.histogram import (  # noqa: E402
    MAX_COUNT,
    Histogram,
    pack_histogram,
)
from fcn_trt.errors import CalibrationError  # noqa: E402
from fcn_trt.network.contract import load_network  # noqa: E402
from fcn_trt.network.to_onnx import to_onnx  # noqa: E402
from fcn_trt.spec import ShapeRange  # noqa: E402


def range_of(values):
    histogram = Histogram()
    histogram.add(np.asarray(values, np.float32))
    maximum = histogram.maximum
    return TensorRange(maximum, maximum or ZERO_AMAX, histogram.halved())


@pytest.fixture
def cache():
    rng = np.random.default_rng(0)
    return CalibrationCache(
        model="fcn_r18-d8",
        weights="random (seed 0)",
        network_sha256="ab" * 32,
        mean=(123.675, 116.28, 103.53),
        std=(58.395, 57.12, 57.375),
        input_size=(64, 96),
        images=3,
        images_sha256="cd" * 32,
        images_name="straße",
        method="minmax",
        created="2026-11-21",
        made_by="fcn_trt 0",
        openvino="2026.4",
        tensors={
            "image": range_of(rng.standard_normal(5000)),
            "a: b": range_of(0.003 * np.maximum(rng.standard_normal(5000), 0)),
            "zeros": range_of(np.zeros(5)),
            "edge": range_of([1.0, 2.0]),
            "logits": TensorRange(7.5, 7.5, None),
        },
    )


@pytest.fixture
def path(cache, tmp_path):
    write_calibration(cache, tmp_path / "c.json")
    return tmp_path / "c.json"


def altered(path, change, *, sign=True):
    """Change the content of a cache; by default it states its right hash afterwards."""
    content = json.loads(path.read_text())
    change(content)
    if sign:
        content.pop("sha256")
        text = json.dumps(content, separators=(",", ":"))
        content["sha256"] = hashlib.sha256(text.encode()).hexdigest()
    path.write_text(json.dumps(content))
    return path


def test_what_is_read_is_what_was_written(cache, path):
    found = read_calibration(path)
    assert found.to_json() == cache.to_json() == path.read_text()
    for name in ("model", "mean", "input_size", "images", "images_name", "method", "created"):
        assert getattr(found, name) == getattr(cache, name)
    assert list(found.tensors) == list(cache.tensors)
    for name, tensor in cache.tensors.items():
        other = found.tensors[name]
        assert (other.maximum, other.amax) == (tensor.maximum, tensor.amax)
        if tensor.histogram is None:
            assert other.histogram is None
        else:
            assert other.histogram is not None
            assert other.histogram.limit == tensor.histogram.limit
            assert np.array_equal(other.histogram.counts, tensor.histogram.counts)


@pytest.mark.parametrize("method", METHODS)
def test_methods_see_in_the_file_what_they_saw_before(cache, path, method):
    found = read_calibration(path)
    assert found.amaxes(method) == cache.amaxes(method)
    assert found.amaxes(method)["image"] == find_amax(cache.tensors["image"].histogram, method)
    assert found.amaxes(method)["logits"] == 7.5
    changed = found.with_method(method)
    assert (changed.method, changed.amaxes()) == (method, found.amaxes(method))


def test_fp8_of_a_cache_made_with_mse_is_chosen_for_fp8(cache):
    mse = cache.with_method("mse")
    assert mse.amaxes(precision="fp8") == cache.amaxes("mse", "fp8") != mse.amaxes()
    assert cache.amaxes(precision="fp8") == cache.amaxes()


def test_imported_cache_has_no_other_method(cache):
    imported = replace(cache, method="imported", tensors={"a": TensorRange(2.0, 2.0, None)})
    assert imported.amaxes() == {"a": 2.0}
    with pytest.raises(CalibrationError, match="has no histograms, as it was imported, so mse can"):
        imported.amaxes("mse")


def test_counts_are_kept_whatever_their_size(cache, tmp_path):
    counts = np.zeros(2048, np.int64)
    counts[[0, 255, 1024, 2047]] = [MAX_COUNT, 1, 256, 1 << 40]
    tensor = TensorRange(0.99999, 0.5, Histogram(counts, 1.0, 0.99999))
    write_calibration(replace(cache, tensors={"x": tensor}), tmp_path / "x.json")
    found = read_calibration(tmp_path / "x.json").tensors["x"].histogram
    assert found is not None
    assert np.array_equal(found.counts, counts)


def test_cache_that_differs_in_its_day_only_is_left_as_it_is(cache, path):
    before = path.read_bytes()
    write_calibration(replace(cache, created="2027-01-01"), path)
    assert path.read_bytes() == before
    write_calibration(replace(cache, created="2027-01-01", images=4), path)
    assert read_calibration(path).created == "2027-01-01"


def test_cache_of_the_largest_model_is_under_two_megabytes(cache, tmp_path):
    """fcn_resnet101 has 139 such tensors; counts are those of 200 images at 1024x2048."""
    rng = np.random.default_rng(0)
    shape = np.histogram(np.abs(rng.standard_normal(1_000_000)), 2048, (0, 5.5))[0]
    tensors = {}
    for number in range(139):
        counts = shape * 20_000 + rng.integers(0, 20_000, 2048) + 1
        tensors[f"backbone.layer3.{number}.conv1"] = TensorRange(
            3.999, 3.9, Histogram(counts, 4.0, 3.999)
        )
    write_calibration(replace(cache, tensors=tensors), tmp_path / "large.json")
    assert 500_000 < (tmp_path / "large.json").stat().st_size < 2_000_000


def set_tensor(**changes):
    return lambda content: content["tensors"]["image"].update(changes)


def packed(planes):
    return base64.b64encode(zlib.compress(planes, 9)).decode()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(format=2), "has format 2, but this version reads format 1"),
        (lambda c: c.update(extra=1), "not valid at extra"),
        (lambda c: c.pop("mean"), "not valid at mean"),
        (lambda c: c.update(images="3"), "not valid at images"),
        (lambda c: c.update(method="guess"), "not valid at method"),
        (lambda c: c["tensors"]["image"].update(more=1), r"not valid at tensors\.image\.more"),
        (set_tensor(amax=-1.0), "not valid at image: amax -1.0 is not positive"),
        (set_tensor(amax=0.0), "not valid at image: amax 0.0 is not positive"),
        (set_tensor(amax=1e9), "not valid at image: amax .* at most"),
        (set_tensor(amax=float("nan")), "is damaged or no calibration cache"),
        (set_tensor(amax=float("inf")), "is damaged or no calibration cache"),
        (set_tensor(maximum=-1.0), "maximum -1.0 is not a magnitude"),
        (set_tensor(maximum=1e300, amax=1.0), "is not a magnitude"),
        (set_tensor(maximum=1e6), "bins where its maximum needs"),
        (set_tensor(counts="%%%"), "its histogram cannot be unpacked"),
        (set_tensor(counts="AAAA"), "its histogram cannot be unpacked"),
        (set_tensor(counts=""), "does not unpack to 2048 bins at most"),
        (set_tensor(counts=packed(b"")), "has no bins"),
        (set_tensor(counts=packed(b"1234567")), "does not unpack to 2048 bins"),
        (set_tensor(counts=packed(bytes(8 * 2049))), "does not unpack to 2048 bins"),
        (set_tensor(counts=packed(bytes(1 << 27))), "does not unpack to 2048 bins"),
        (set_tensor(counts=packed(b"\xff" * 8 * 2000)), "more than 1125899906842624 values in one"),
    ],
)
def test_file_that_is_not_exactly_a_cache_is_refused(path, change, message):
    with pytest.raises(CalibrationError, match=message) as refusal:
        read_calibration(altered(path, change))
    assert "\n" not in str(refusal.value)
    assert "calibrate again with `fcn-trt calibrate`" in str(refusal.value)


def test_one_changed_number_is_noticed(path):
    change = set_tensor(amax=1.0)
    with pytest.raises(CalibrationError, match="was altered: its content does not have the SHA"):
        read_calibration(altered(path, change, sign=False))


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"[" * 100_000, b'{"format": 1}', b"\xff"])
def test_damaged_file_is_refused(path, data):
    path.write_bytes(data)
    with pytest.raises(CalibrationError, match=r"is damaged or no calibration|was altered"):
        read_calibration(path)


def test_truncated_or_missing_file_is_refused(path, tmp_path):
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CalibrationError, match="is damaged or no calibration cache"):
        read_calibration(path)
    with pytest.raises(CalibrationError, match=r"gone\.json cannot be read: No such file"):
        read_calibration(tmp_path / "gone.json")


def test_sha256_is_of_the_file(path):
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert calibration_sha256(path) == calibration_sha256(path.read_bytes()) == digest


def test_histogram_has_one_text(cache):
    histogram = cache.tensors["image"].histogram
    assert pack_histogram(histogram) == pack_histogram(
        Histogram(histogram.counts.copy(), histogram.limit, histogram.maximum)
    )


SHAPES = ShapeRange(min_size=(33, 64), max_size=(128, 128), min_batch=1, max_batch=3)


def test_network_is_the_same_at_every_size_and_batch(tiny_model):
    networks = [
        to_onnx(tiny_model, size=(64, 96))[0],
        to_onnx(tiny_model, size=(33, 65), batch=2)[0],
        to_onnx(tiny_model, size=(64, 96), dynamic=SHAPES)[0],
    ]
    assert len({network_sha256(network) for network in networks}) == 1


def changed_weight(model):
    tensor = model.graph.initializer[5]
    values = onnx.numpy_helper.to_array(tensor).copy()
    values.flat[0] += 1e-3
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))


def changed_stride(model):
    conv = model.graph.node[0]
    next(a for a in conv.attribute if a.name == "strides").ints[0] = 1


def changed_input(model):
    add = next(node for node in model.graph.node if node.op_type == "Add")
    add.input[1] = add.input[0]


@pytest.mark.parametrize("change", [changed_weight, changed_stride, changed_input])
def test_network_that_computes_something_else_is_another_one(tiny_model, change):
    model, _ = to_onnx(tiny_model, size=(64, 96))
    before = network_sha256(model)
    change(model)
    assert network_sha256(model) != before


def with_reshape(sizes, *, as_node=False):
    make = onnx.helper
    constant = onnx.numpy_helper.from_array(np.array(sizes, np.int64), "sizes")
    nodes = [make.make_node("Reshape", ["image", "sizes"], ["y"], name="r")]
    if as_node:
        nodes.insert(0, make.make_node("Constant", [], ["sizes"], name="c", value=constant))
    graph = make.make_graph(nodes, "g", [], [], [] if as_node else [constant])
    return make.make_model(graph)


@pytest.mark.parametrize("as_node", [False, True])
def test_constant_that_only_says_a_size_is_no_part_of_the_identity(as_node):
    one, other = (with_reshape([1, side], as_node=as_node) for side in (6, 24))
    assert network_sha256(one) == network_sha256(other)
    other.graph.node.append(onnx.helper.make_node("Add", ["sizes", "sizes"], ["z"], name="a"))
    one.graph.node.append(other.graph.node[-1])
    assert network_sha256(one) != network_sha256(other)


def test_cache_of_its_own_network_is_taken_and_another_refused(
    cache, tiny_network, make_model, tmp_path
):
    model, spec = load_network(tiny_network)
    own = replace(cache, network_sha256=network_sha256(model), mean=spec.mean, std=spec.std)
    require_made_for(own, tmp_path / "c.json", model, spec)
    other, other_spec = to_onnx(make_model(seed=1), size=(64, 96))
    with pytest.raises(CalibrationError, match=r"c\.json was made for another network, fcn_r18-d8"):
        require_made_for(own, tmp_path / "c.json", other, other_spec)


@pytest.mark.parametrize("name", ["mean", "std"])
def test_cache_of_other_preprocessing_is_refused(cache, tiny_network, tmp_path, name):
    model, spec = load_network(tiny_network)
    own = replace(cache, network_sha256=network_sha256(model), mean=spec.mean, std=spec.std)
    odd = (1.0, 2.0, 3.0)
    other = replace(spec, mean=odd) if name == "mean" else replace(spec, std=odd)
    sentence = rf"c\.json was made with {name} \[.*\], but this .* has {name} \[1\.0, 2\.0, 3\.0\]"
    with pytest.raises(CalibrationError, match=sentence):
        require_made_for(own, tmp_path / "c.json", model, other)
