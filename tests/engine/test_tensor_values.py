from __future__ import annotations

import numpy as np
import pytest

from fcn_trt.engine.tensor_maxima import tensor_maxima
from fcn_trt.engine.tensor_values import TensorValues
from fcn_trt.errors import EngineError
from fcn_trt.spec import read_spec

onnx = pytest.importorskip("onnx", reason="needs the extra: pip install 'fcn-trt[export]'")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")


def images_of(batch=1, size=(64, 96)):
    return 10 * np.random.default_rng(0).standard_normal((batch, 3, *size), np.float32)


def names_of(network):
    return ["image", *(n for node in onnx.load(network).graph.node for n in node.output)]


def values_of(network, wanted, images, **options):
    found = {}
    values = TensorValues(network, read_spec(network), wanted, **options)
    maxima = values.measure(images, lambda name, tensor: found.update({name: tensor.copy()}))
    return found, maxima, values.pieces


@pytest.fixture(scope="module")
def reference(tiny_network):
    """Every tensor, by another runtime."""
    model = onnx.load(tiny_network)
    names = names_of(tiny_network)[1:]
    for name in names[:-1]:
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, 1, None))
    session = onnxruntime.InferenceSession(model.SerializeToString())
    values = session.run(names, {"image": images_of()})
    return {"image": images_of(), **dict(zip(names, values, strict=True))}


def test_wanted_tensors_are_those_of_another_runtime(tiny_network, reference):
    found, maxima, _ = values_of(tiny_network, list(reference), images_of())
    assert maxima == {}
    assert list(found) == list(reference)
    for name, tensor in found.items():
        np.testing.assert_allclose(tensor, reference[name], rtol=1e-3, atol=1e-4)


def test_pieces_compute_the_same_as_the_whole(tiny_network):
    wanted = names_of(tiny_network)[::2]
    whole, maxima, one = values_of(tiny_network, wanted, images_of())
    found, same_maxima, pieces = values_of(tiny_network, wanted, images_of(), limit_bytes=1)
    assert one == 1
    assert pieces > 8  # between residual blocks and along the stem and the head
    assert found.keys() == whole.keys()
    for name, tensor in found.items():
        np.testing.assert_allclose(tensor, whole[name], rtol=1e-6, atol=1e-6)
    assert same_maxima == pytest.approx(maxima, rel=1e-6)


@pytest.mark.parametrize("limit_bytes", [1, 50_000, 1 << 28])
def test_what_is_not_wanted_has_its_largest_magnitude(tiny_network, limit_bytes):
    expected = tensor_maxima(tiny_network, read_spec(tiny_network))(images_of())
    wanted = names_of(tiny_network)[1:9:3]
    found, maxima, _ = values_of(tiny_network, wanted, images_of(), limit_bytes=limit_bytes)
    assert set(found) == set(wanted)
    assert maxima.keys() == expected.keys() - set(wanted)
    assert maxima == pytest.approx({name: expected[name] for name in maxima}, rel=1e-6)


def test_pieces_that_do_not_stay_compiled_compute_the_same(tiny_network, monkeypatch):
    wanted = names_of(tiny_network)[::3]
    kept = values_of(tiny_network, wanted, images_of(), limit_bytes=1)
    monkeypatch.setattr("fcn_trt.engine.tensor_values.KEPT_BYTES", 0)
    anew = values_of(tiny_network, wanted, images_of(), limit_bytes=1)
    assert kept[1] == anew[1]
    assert all(np.array_equal(kept[0][name], anew[0][name]) for name in wanted)


def test_second_run_sees_its_own_images(tiny_network):
    values = TensorValues(tiny_network, read_spec(tiny_network), ["logits"], limit_bytes=1)
    runs = []
    for images in (images_of(), 0 * images_of(), images_of()):
        values.measure(images, lambda _, tensor: runs.append(tensor.copy()))
    assert np.array_equal(runs[0], runs[2])
    assert not np.array_equal(runs[0], runs[1])


def test_tensor_that_is_not_there_is_refused(tiny_network):
    with pytest.raises(
        EngineError, match=r"tiny\.onnx has no tensor 'gone' any more once OpenVINO"
    ):
        TensorValues(tiny_network, read_spec(tiny_network), ["image", "gone"])


def test_images_of_another_shape_are_refused(tiny_network):
    values = TensorValues(tiny_network, read_spec(tiny_network), ["logits"])
    with pytest.raises(EngineError, match=r"OpenVINO .* cannot run .*tiny\.onnx: "):
        values.measure(images_of(size=(32, 32)), lambda *_: None)
