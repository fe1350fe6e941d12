from __future__ import annotations

import logging
import subprocess
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="needs the extra: pip install 'fcn-trt[export]'")

from fcn_trt.calibration.cache import network_sha256  # noqa: E402
from fcn_trt.calibration.calibrate import calibrate, measured_tensors, tensor_names  # noqa: E402
from fcn_trt.calibration.histogram import Histogram  # noqa: E402
from fcn_trt.calibration.images import RangeImages  # noqa: E402
from fcn_trt.calibration.tensor_values import TensorValues  # noqa: E402
from fcn_trt.errors import EngineError, OnnxError  # noqa: E402
from fcn_trt.network.contract import load_network  # noqa: E402
from fcn_trt.spec import read_spec  # noqa: E402
from fcn_trt.stages.preprocess import preprocess  # noqa: E402
from tests.plans import as_network, save  # noqa: E402

SIZE = (64, 96)
DAY = "2026-11-21"


@pytest.fixture(scope="module")
def images(tmp_path_factory, make_frame):
    folder = tmp_path_factory.mktemp("frames")
    for number in range(7):
        cv2.imwrite(str(folder / f"{number}.png"), make_frame(SIZE, seed=number))
    return RangeImages(folders=(folder,), limit=None, size=SIZE)


def measure(network, images, **options):
    options = {"method": "entropy", "created": DAY} | options
    return calibrate(as_network(network), images, **options)


@pytest.fixture(scope="module")
def undisturbed(tiny_network, images):
    """The cache of a calibration that nothing interrupts."""
    return measure(tiny_network, images)


def tensor_of(network, images, place):
    spec = read_spec(network)
    return preprocess(images[place], spec.input_size, mean=spec.mean, std=spec.std)[None]


def test_what_a_convolution_or_an_addition_reads_is_measured(tiny_network):
    graph = load_network(tiny_network)[0].graph
    wanted = measured_tensors(graph)
    assert wanted[:4] == ["image", "backbone.stem.2", "backbone.stem.5", "backbone.maxpool"]
    for name in ("backbone.layer1.0.conv2", "backbone.layer2.0.downsample.0"):
        assert name in wanted  # both sides of an addition
    assert not {"logits", "backbone.stem.0", "backbone.layer1.0.add"} & set(wanted)
    assert not {tensor.name for tensor in graph.initializer} & set(wanted)
    assert tensor_names(graph)[0] == "image"
    assert tensor_names(graph)[-1] == "logits"


def test_histograms_are_those_of_each_image_alone(tiny_network, images, undisturbed):
    cache = undisturbed
    wanted = measured_tensors(load_network(tiny_network)[0].graph)
    expected = {name: Histogram() for name in wanted}
    values = TensorValues(as_network(tiny_network, read_spec(tiny_network)), wanted)
    for place in range(len(images)):
        values.measure(
            tensor_of(tiny_network, images, place), lambda name, v: expected[name].add(v)
        )
    assert {n for n, tensor in cache.tensors.items() if tensor.histogram} == set(wanted)
    for name, histogram in expected.items():
        found = cache.tensors[name].histogram
        assert np.array_equal(found.counts, histogram.halved().counts), name
        assert (found.limit, cache.tensors[name].maximum) == (histogram.limit, histogram.maximum)


def test_all_other_tensors_have_their_largest_magnitude(tiny_network, images, undisturbed):
    cache = undisturbed
    values = TensorValues(as_network(tiny_network, read_spec(tiny_network)))
    runs = [values.measure(tensor_of(tiny_network, images, place)) for place in range(len(images))]
    found = {name: tensor.maximum for name, tensor in cache.tensors.items()}
    assert found == pytest.approx({n: max(run[n] for run in runs) for n in runs[0]}, rel=1e-5)
    assert list(found) == tensor_names(load_network(tiny_network)[0].graph)
    assert cache.tensors["logits"].histogram is None


def test_cache_says_what_it_was_made_of(tiny_network, images):
    cache, spec = measure(tiny_network, images, method="mse"), read_spec(tiny_network)
    assert cache.network_sha256 == network_sha256(load_network(tiny_network)[0])
    assert (cache.model, cache.mean, cache.std) == (spec.model, spec.mean, spec.std)
    assert (cache.images, cache.images_name) == (7, images.title)
    assert (cache.method, cache.created, cache.input_size) == ("mse", DAY, SIZE)
    other = measure(tiny_network, replace(images, limit=6), method="mse")
    assert other.images_sha256 != cache.images_sha256


def test_same_images_give_the_same_bytes(tiny_network, images, undisturbed):
    assert measure(tiny_network, images).to_json() == undisturbed.to_json()


def test_order_of_the_images_does_not_matter(tiny_network, images, undisturbed):
    class Reversed(RangeImages):
        def __getitem__(self, index):
            return super().__getitem__(len(self) - 1 - index)

    other = Reversed(folders=images.folders, limit=None, size=SIZE)
    # The hashes are those of the folder's own order, so that all of the file must be equal.
    assert measure(tiny_network, other).to_json() == undisturbed.to_json()


def test_padding_of_the_last_batch_is_not_counted(tiny_model, write_network, images, tmp_path):
    batched = write_network(tiny_model, tmp_path / "b.onnx", size=SIZE, batch=4)
    single = write_network(tiny_model, tmp_path / "s.onnx", size=SIZE)
    counted = []
    found = measure(batched, images, on_image=lambda: counted.append(1))
    expected = measure(single, images)
    assert len(counted) == 7
    for name, tensor in expected.tensors.items():
        other = found.tensors[name]
        assert other.maximum == pytest.approx(tensor.maximum, rel=1e-5)
        if tensor.histogram:
            assert other.histogram.counts.sum() == tensor.histogram.counts.sum()


KILLED = """
import os, signal, sys
from pathlib import Path
from fcn_trt.calibration.calibrate import calibrate
from fcn_trt.calibration.images import RangeImages
from fcn_trt.network.file import Network
network, folder, states, count, signal_number = sys.argv[1:]
# A shell that runs its jobs in the background has them ignore it.
signal.signal(signal.SIGINT, signal.default_int_handler)
done = []
def on_image():
    done.append(1)
    if len(done) == int(count):
        os.kill(os.getpid(), int(signal_number))
images = RangeImages(folders=(Path(folder),), limit=None, size=(64, 96))
calibrate(Network.read(Path(network)), images, method="entropy", created="2026-11-20",
          state_folder=Path(states), save_every_s=float("inf") if signal_number == "2" else 0,
          on_image=on_image)
"""


@pytest.mark.parametrize("signal_number", [9, 2])
def test_killed_calibration_goes_on_and_ends_with_the_same_bytes(
    tiny_network, images, undisturbed, tmp_path, signal_number
):
    arguments = [tiny_network, images.folders[0], tmp_path, 3, signal_number]
    command = [sys.executable, "-c", KILLED, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == -signal_number, done.stderr
    assert len(list(tmp_path.glob("*.state"))) == 1
    begun: list[int] = []
    counted = []
    found = measure(
        tiny_network,
        images,
        state_folder=tmp_path,
        on_begin=begun.append,
        on_image=lambda: counted.append(1),
    )
    assert (begun, len(counted)) == ([3], 4)
    # It keeps the day on which it began.
    assert found.to_json() == replace(undisturbed, created="2026-11-20").to_json()
    assert list(tmp_path.iterdir()) == []


def interrupted_at(network, images, folder, place):
    """Leave a state behind."""
    count = []

    def on_image():
        count.append(1)
        if len(count) == place:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure(network, images, state_folder=folder, on_image=on_image)
    (state,) = folder.glob("*.state")
    return state


@pytest.mark.parametrize("kind", ["cut", "empty", "flipped", "foreign"])
def test_damaged_or_foreign_state_is_ignored(
    tiny_network, images, undisturbed, tmp_path, kind, caplog
):
    state = interrupted_at(tiny_network, images, tmp_path, 2)
    data = bytearray(state.read_bytes())
    if kind == "flipped":
        data[len(data) // 2] ^= 0xFF
    elif kind == "foreign":
        state.unlink()
        other = replace(images, limit=3)
        data = interrupted_at(tiny_network, other, tmp_path, 2).read_bytes()
    state.write_bytes(data[: {"cut": len(data) // 2, "empty": 0}.get(kind, len(data))])
    begun: list[int] = []
    with caplog.at_level(logging.WARNING):
        found = measure(tiny_network, images, state_folder=tmp_path, on_begin=begun.append)
    assert begun == [0]
    assert str(state) in caplog.text
    assert found.to_json() == undisturbed.to_json()


def test_state_of_other_images_is_not_taken(tiny_network, images, tmp_path):
    interrupted_at(tiny_network, images, tmp_path, 2)
    begun: list[int] = []
    measure(tiny_network, replace(images, limit=5), state_folder=tmp_path, on_begin=begun.append)
    assert begun == [0]


def test_tensor_that_does_not_stay_finite_is_named(tiny_network, images, tmp_path):
    model, _ = load_network(tiny_network)
    tensor = next(t for t in model.graph.initializer if t.name == "backbone.stem.3.weight")
    huge = np.full(tuple(tensor.dims), 3e38, np.float32)
    tensor.CopyFrom(onnx.numpy_helper.from_array(huge, tensor.name))
    save(model, tmp_path / "huge.onnx")
    with pytest.raises(EngineError, match=r"huge\.onnx cannot be calibrated: its tensor 'backbone"):
        measure(tmp_path / "huge.onnx", images)


def test_typed_network_is_refused(tiny_network, images, tmp_path):
    from fcn_trt.precision.type_network import type_network

    type_network(as_network(tiny_network), tmp_path / "h.onnx", "bf16")
    with pytest.raises(OnnxError, match=r"h\.onnx is bf16, but calibration needs the FP32 network"):
        measure(tmp_path / "h.onnx", images)


def test_no_images_are_refused(tiny_network):
    with pytest.raises(ValueError, match="there are no images to calibrate fcn_r18-d8 on"):
        measure(tiny_network, RangeImages(size=SIZE))


MEMORY = """
import resource, sys
from pathlib import Path
from fcn_trt.network.file import Network
from fcn_trt.calibration.calibrate import calibrate
from fcn_trt.calibration.images import RangeImages
images = RangeImages(streets=int(sys.argv[2]), size=(64, 96))
calibrate(Network.read(Path(sys.argv[1])), images, method="entropy", created="2026-11-20")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.exhaustive
def test_memory_does_not_grow_with_the_number_of_images(tiny_model, write_network, tmp_path):
    network = write_network(tiny_model, tmp_path / "n.onnx", size=(256, 512))

    def peak(count):
        command = [sys.executable, "-c", MEMORY, str(network), str(count)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return int(done.stdout)

    assert peak(40) < 1.1 * peak(4)
