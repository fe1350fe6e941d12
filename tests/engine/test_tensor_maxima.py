from __future__ import annotations

import numpy as np
import pytest

from fcn_trt.engine.tensor_maxima import tensor_maxima
from fcn_trt.errors import EngineError
from fcn_trt.spec import ShapeRange, read_spec

onnx = pytest.importorskip("onnx", reason="needs the extra: pip install 'fcn-trt[export]'")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")


@pytest.fixture
def expected(tiny_network):
    """Each tensor's largest magnitude, by another runtime that writes all tensors out."""

    def compute(images):
        model = onnx.load(tiny_network)
        names = [name for node in model.graph.node for name in node.output]
        for name in names[:-1]:
            model.graph.output.append(onnx.helper.make_tensor_value_info(name, 1, None))
        session = onnxruntime.InferenceSession(model.SerializeToString())
        values = dict(zip(names, session.run(names, {"image": images}), strict=True))
        return {name: float(np.abs(v).max()) for name, v in {"image": images, **values}.items()}

    return compute


def images_of(batch=1, seed=0):
    return 10 * np.random.default_rng(seed).standard_normal((batch, 3, 64, 96), np.float32)


def test_every_tensor_of_the_file_is_measured(tiny_network, expected):
    measure = tensor_maxima(tiny_network, read_spec(tiny_network))
    for seed in range(2):
        found = measure(images_of(seed=seed))
        assert found == pytest.approx(expected(images_of(seed=seed)), rel=1e-4)


def test_negative_values_count_as_much_as_positive_ones(tiny_network):
    image = np.zeros((1, 3, 64, 96), np.float32)
    image[0, 1, 5, 5] = -1e6
    measure = tensor_maxima(tiny_network, read_spec(tiny_network))
    assert measure(image)["image"] == 1e6


def test_dynamic_network_is_measured_at_the_shape_it_is_optimised_for(
    tiny_model, expected, tmp_path
):
    from fcn_trt.export.network import save_network
    from fcn_trt.export.to_onnx import to_onnx

    shapes = ShapeRange(min_size=(33, 64), max_size=(128, 128), min_batch=1, max_batch=3)
    model, spec = to_onnx(tiny_model, size=(64, 96), batch=2, dynamic=shapes)
    save_network(model, tmp_path / "n.onnx")
    found = tensor_maxima(tmp_path / "n.onnx", spec)(images_of(batch=2))
    one, other = (expected(image[None]) for image in images_of(batch=2))
    largest = {name: max(one[name], other[name]) for name in one}
    assert found == pytest.approx(largest, rel=1e-4)


def test_file_that_openvino_cannot_read_is_refused(tiny_network, tmp_path):
    (tmp_path / "odd.onnx").write_bytes(b"not an onnx file")
    with pytest.raises(EngineError, match=r"OpenVINO .* cannot compile .*odd\.onnx: "):
        tensor_maxima(tmp_path / "odd.onnx", read_spec(tiny_network))


def test_images_of_another_shape_are_refused(tiny_network):
    measure = tensor_maxima(tiny_network, read_spec(tiny_network))
    with pytest.raises(EngineError, match=r"OpenVINO .* cannot run .*tiny\.onnx: "):
        measure(np.zeros((1, 3, 32, 32), np.float32))
