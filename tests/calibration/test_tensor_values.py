from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from fcn_trt.calibration.tensor_values import TensorValues
from fcn_trt.errors import EngineError
from fcn_trt.spec import ShapeRange, read_spec
from tests.plans import as_network

onnx = pytest.importorskip("onnx", reason="needs the extra: pip install 'fcn-trt[export]'")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")


def images_of(batch=1, seed=0):
    return 10 * np.random.default_rng(seed).standard_normal((batch, 3, 64, 96), np.float32)


def names_of(network):
    return ["image", *(n for node in onnx.load(network).graph.node for n in node.output)]


def values_of(network, wanted, images):
    found = {}
    values = TensorValues(as_network(network, read_spec(network)), wanted)
    return found, values.measure(images, lambda name, v: found.update({name: v.copy()}))


def maxima_of(tensors):
    return {name: float(np.abs(values).max()) for name, values in tensors.items()}


@pytest.fixture(scope="module")
def reference(tiny_network):
    """Every tensor of one image, by another runtime."""
    model = onnx.load(tiny_network)
    names = names_of(tiny_network)[1:]
    for name in names[:-1]:
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, 1, None))
    session = onnxruntime.InferenceSession(model.SerializeToString())

    def compute(images):
        return {
            "image": images,
            **dict(zip(names, session.run(names, {"image": images}), strict=True)),
        }

    return compute


def test_wanted_tensors_are_those_of_another_runtime(tiny_network, reference):
    expected = reference(images_of())
    found, maxima = values_of(tiny_network, list(expected), images_of())
    assert maxima == {}
    assert list(found) == list(expected)
    for name, tensor in found.items():
        np.testing.assert_allclose(tensor, expected[name], rtol=1e-3, atol=1e-4)


def test_no_tensor_is_held_until_the_end(tmp_path):
    """fcn_resnet50 at 1024x2048 takes 7.1 GB where they are, and 1.6 GB where they are not."""
    layers, size = 24, (512, 1024)  # 16 MiB each; every other one is shown
    weights = np.eye(8, 3, dtype=np.float32)[..., None, None], np.eye(8, dtype=np.float32)
    constants = {"first": weights[0], "next": weights[1][..., None, None]}
    names = ["image", *(f"t{layer}" for layer in range(layers - 1)), "logits"]
    nodes = []
    for source, target in itertools.pairwise(names):
        weight = "first" if source == "image" else "next"
        nodes.append(onnx.helper.make_node("Conv", [source, weight], [f"{target}.conv"]))
        nodes.append(onnx.helper.make_node("Elu", [f"{target}.conv"], [target], name=target))
    ends = [("image", 3), ("logits", 8)]
    graph = onnx.helper.make_graph(
        nodes,
        "chain",
        *([onnx.helper.make_tensor_value_info(name, 1, [1, c, *size])] for name, c in ends),
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opset = onnx.helper.make_opsetid("", 17)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8), tmp_path / "n")
    found = subprocess.run(
        [sys.executable, "-c", PEAK, tmp_path / "n", str(layers), *map(str, size)],
        capture_output=True,
        text=True,
        check=True,
    )
    shown, extra = map(int, found.stdout.split())
    assert shown == layers // 2
    assert extra < shown * 16 << 20 >> 1


PEAK = """
import re, sys
from pathlib import Path
from types import SimpleNamespace
import numpy as np
from fcn_trt.calibration.tensor_values import TensorValues
path, layers, *size = sys.argv[1:]
spec = SimpleNamespace(batch=1, input_size=tuple(map(int, size)), model="n")
network = SimpleNamespace(spec=spec, read_bytes=Path(path).read_bytes)
wanted = [f"t{layer}" for layer in range(0, int(layers), 2)]
def peak():
    return int(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1]) << 10
image = np.ones((1, 3, *map(int, size)), np.float32)
values = TensorValues(network, wanted)
before, shown = peak(), []
values.measure(image, lambda name, _: shown.append(name))
print(len(shown), peak() - before)
"""


@pytest.mark.parametrize("every", [1, 3, 1000])
def test_what_is_not_wanted_has_its_largest_magnitude(tiny_network, reference, every):
    expected = maxima_of(reference(images_of()))
    wanted = list(expected)[1::every] if every < 1000 else []
    found, maxima = values_of(tiny_network, wanted, images_of())
    assert set(found) == set(wanted)
    assert list(maxima) == [name for name in expected if name not in wanted]
    assert maxima == pytest.approx({name: expected[name] for name in maxima}, rel=1e-4)


def test_negative_values_count_as_much_as_positive_ones(tiny_network):
    image = np.zeros((1, 3, 64, 96), np.float32)
    image[0, 1, 5, 5] = -1e6
    assert (
        TensorValues(as_network(tiny_network, read_spec(tiny_network))).measure(image)["image"]
        == 1e6
    )


def test_dynamic_network_is_measured_at_the_shape_it_is_optimised_for(
    tiny_model, reference, tmp_path
):
    from fcn_trt.network.to_onnx import to_onnx
    from tests.plans import save

    shapes = ShapeRange(min_size=(33, 64), max_size=(128, 128), min_batch=1, max_batch=3)
    model, spec = to_onnx(tiny_model, size=(64, 96), batch=2, dynamic=shapes)
    save(model, tmp_path / "n.onnx")
    found = TensorValues(as_network(tmp_path / "n.onnx", spec)).measure(images_of(batch=2))
    one, other = (maxima_of(reference(image[None])) for image in images_of(batch=2))
    assert found == pytest.approx({name: max(one[name], other[name]) for name in one}, rel=1e-4)


def test_each_run_sees_its_own_images(tiny_network):
    values = TensorValues(as_network(tiny_network, read_spec(tiny_network)), ["backbone.stem.2"])
    runs = []
    maxima = [
        values.measure(images_of(seed=seed), lambda _, tensor: runs.append(tensor.copy()))
        for seed in (0, 1, 0)
    ]
    assert np.array_equal(runs[0], runs[2])
    assert not np.array_equal(runs[0], runs[1])
    assert maxima[0] == maxima[2] != maxima[1]


def test_what_the_caller_raises_comes_through_and_the_next_run_is_whole(tiny_network):
    class OwnError(RuntimeError):
        pass

    calls = []

    def refuse(name, _):
        calls.append(name)
        raise OwnError("enough")

    values = TensorValues(as_network(tiny_network, read_spec(tiny_network)), ["image", "logits"])
    with pytest.raises(OwnError, match="enough"):
        values.measure(images_of(), refuse)
    assert len(calls) == 1
    found = []
    values.measure(images_of(), lambda name, _: found.append(name))
    assert set(found) == {"image", "logits"}


def test_ctrl_c_within_a_run_ends_it(tiny_network):
    values = TensorValues(as_network(tiny_network, read_spec(tiny_network)), ["image"])
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            values.measure(images_of(), lambda *_: os.kill(os.getpid(), signal.SIGINT))
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("place", ["_Audience.take", "_Show.evaluate"])
def test_ctrl_c_anywhere_in_our_operation_ends_the_run_alone(tiny_network, monkeypatch, place):
    def interrupt(*_):
        raise KeyboardInterrupt

    values = TensorValues(as_network(tiny_network, read_spec(tiny_network)), ["image"])
    monkeypatch.setattr(f"fcn_trt.calibration.tensor_values.{place}", interrupt)
    with pytest.raises(KeyboardInterrupt):
        values.measure(images_of())
    monkeypatch.undo()
    other = TensorValues(as_network(tiny_network, read_spec(tiny_network)), ["image"])
    assert values.measure(images_of(seed=1)) == other.measure(images_of(seed=1))


def test_tensor_that_is_not_there_is_refused(tiny_network):
    with pytest.raises(
        EngineError, match=r"tiny\.onnx has no tensor 'gone' any more once OpenVINO"
    ):
        TensorValues(as_network(tiny_network, read_spec(tiny_network)), ["image", "gone"])


def test_file_that_openvino_cannot_read_is_refused(tiny_network, tmp_path):
    (tmp_path / "odd.onnx").write_bytes(b"not an onnx file")
    with pytest.raises(EngineError, match=r"OpenVINO .* cannot compile .*odd\.onnx: "):
        TensorValues(as_network(tmp_path / "odd.onnx", read_spec(tiny_network)))


def test_images_of_another_shape_are_refused(tiny_network):
    values = TensorValues(as_network(tiny_network, read_spec(tiny_network)))
    with pytest.raises(EngineError, match=r"OpenVINO .* cannot run .*tiny\.onnx: "):
        values.measure(np.zeros((1, 3, 32, 32), np.float32))
