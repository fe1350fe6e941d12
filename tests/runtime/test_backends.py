"""What `Segmenter` relies on, of every backend.

A backend is added with one entry in `BACKENDS`: how it is opened for a network. The GPU's runs on a
fake driver here, see `fake_device`.
"""

from __future__ import annotations

import mmap
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from fcn_trt.engine.openvino.builder import build_openvino
from fcn_trt.errors import EngineError
from fcn_trt.labels import palette_array
from fcn_trt.model.architecture import IMAGENET_MEAN, IMAGENET_STD
from fcn_trt.runtime.openvino import OpenVinoBackend
from fcn_trt.spec import ShapeRange, read_spec
from fcn_trt.stages.decode import decode
from fcn_trt.stages.overlay import overlay
from fcn_trt.stages.preprocess import preprocess
from tests.cuda.fake_driver import installed_fake
from tests.plans import as_network
from tests.runtime.fake_device import open_fake_device


@contextmanager
def openvino(network, folder):
    backend = OpenVinoBackend(build_openvino(as_network(network), folder / "bundle"))
    yield backend
    backend.close()


@contextmanager
def fake_gpu(network, folder):
    with pytest.MonkeyPatch.context() as patch, installed_fake(patch) as gpu:
        backend = open_fake_device(gpu, network)
        yield backend
        backend.close()


BACKENDS = {"OpenVINO": openvino, "fake GPU": fake_gpu}

STATM = Path("/proc/self/statm")

BATCH = 3
SIZE = (64, 96)
TOLERANCE = 1e-4
"""Relative difference of logits that FP32 kernels of other makers may show."""


@pytest.fixture(scope="module")
def network(tiny_model, write_network, tmp_path_factory):
    """The tiny model at batch 3."""
    return write_network(
        tiny_model, tmp_path_factory.mktemp("backends") / "n.onnx", size=SIZE, batch=BATCH
    )


@pytest.fixture(params=list(BACKENDS))
def backend(request, network, tmp_path):
    with BACKENDS[request.param](network, tmp_path) as opened:
        yield opened


@pytest.fixture
def logits_of(tiny_model):
    """The network's logits of one frame, by the PyTorch module."""

    def compute(frame):
        import torch

        tensor = preprocess(frame, SIZE, mean=IMAGENET_MEAN, std=IMAGENET_STD)
        with torch.no_grad():
            return tiny_model.module(torch.from_numpy(tensor)[None])[0].numpy()

    return compute


class TestEveryBackend:
    def test_logits_are_those_of_the_network(self, backend, logits_of, make_frame):
        frames = [make_frame(seed=seed) for seed in range(BATCH)]
        backend.submit(0, frames)
        logits = backend.collect_logits(0)
        assert logits.shape == (BATCH, 3, 8, 12)
        assert logits.dtype == np.float32
        expected = np.stack([logits_of(frame) for frame in frames])
        assert np.abs(logits - expected).max() <= TOLERANCE * np.abs(expected).max()

    def test_label_maps_are_the_decoded_logits(self, backend, make_frame):
        frames = [make_frame(size, seed=5) for size in ((64, 96), (120, 70), (33, 200))]
        backend.submit(0, frames)
        logits = backend.collect_logits(0)
        backend.submit(0, frames)
        for frame, label_map, one in zip(frames, backend.collect(0), logits, strict=True):
            assert label_map.dtype == np.uint8
            # Ties may break another way; tests/cuda says where a kernel may differ.
            assert np.mean(label_map != decode(one, frame.shape[:2])) <= 1e-3

    @pytest.mark.parametrize("count", [1, 2])
    def test_batch_may_be_filled_in_part(self, backend, make_frame, logits_of, count):
        backend.submit(0, [make_frame(seed=9)] * BATCH)  # what a later batch must not show
        backend.collect(0)
        frames = [make_frame(seed=seed) for seed in range(count)]
        backend.submit(0, frames)
        assert len(backend.collect(0)) == count
        backend.submit(0, frames)
        logits = backend.collect_logits(0)
        expected = np.stack([logits_of(frame) for frame in frames])
        assert np.abs(logits - expected).max() <= TOLERANCE * np.abs(expected).max()

    def test_slots_do_not_disturb_each_other(self, backend, make_frame):
        frames = [[make_frame(seed=slot)] for slot in range(backend.slots)]
        alone = []
        for slot, batch in enumerate(frames):
            backend.submit(slot, batch)
            alone.append(backend.collect_logits(slot))
        for slot, batch in enumerate(frames):
            backend.submit(slot, batch)
        for slot in reversed(range(backend.slots)):
            np.testing.assert_array_equal(backend.collect_logits(slot), alone[slot])

    def test_results_are_not_overwritten_by_later_frames(self, backend, make_frame):
        backend.submit(0, [make_frame(seed=1)])
        logits = backend.collect_logits(0)
        backend.submit(0, [make_frame(seed=1)])
        (label_map,) = backend.collect(0)
        copies = logits.copy(), label_map.copy()
        backend.submit(0, [make_frame(seed=2)] * BATCH)
        backend.collect(0)
        np.testing.assert_array_equal(logits, copies[0])
        np.testing.assert_array_equal(label_map, copies[1])

    def test_frames_may_change_once_they_are_submitted(self, backend, make_frame):
        backend.submit(0, [make_frame(seed=1)])
        expected = backend.collect_logits(0)
        frame = make_frame(seed=1)
        backend.submit(0, [frame])
        frame[:] = 0
        np.testing.assert_array_equal(backend.collect_logits(0), expected)

    def test_bad_frame_is_refused_and_the_slot_stays_usable(self, backend, make_frame):
        for bad in (make_frame()[..., 0], make_frame().astype(np.float32)):
            with pytest.raises(ValueError, match="a frame is"):
                backend.submit(0, [make_frame(), bad])
        backend.submit(0, [make_frame()])
        assert len(backend.collect(0)) == 1

    def test_render_is_the_overlay_of_the_label_map(self, backend, network, make_frame):
        palette = palette_array(read_spec(network).palette)
        frame = make_frame((120, 70), seed=3)
        backend.submit(0, [frame])
        (label_map,) = backend.collect(0)
        for opacity in (0.0, 0.3, 1.0):
            painted = overlay(frame, label_map, palette, opacity=opacity)
            found = backend.render(frame, opacity)
            assert np.abs(found.astype(int) - painted).max() <= 1
        backend.submit(0, [frame])
        np.testing.assert_array_equal(backend.collect(0)[0], label_map)

    @pytest.mark.parametrize("count", [1, BATCH, BATCH + 2])
    def test_prepared_images_of_any_number_give_their_logits(
        self, backend, make_frame, logits_of, count
    ):
        frames = [make_frame(seed=seed) for seed in range(count)]
        images = [preprocess(f, SIZE, mean=IMAGENET_MEAN, std=IMAGENET_STD) for f in frames]
        logits = backend.network(np.stack(images))
        assert logits.dtype == np.float32
        expected = np.stack([logits_of(frame) for frame in frames])
        assert logits.shape == expected.shape
        assert np.abs(logits - expected).max() <= TOLERANCE * np.abs(expected).max()
        again = logits.copy()
        backend.network(np.stack(images[::-1]))
        np.testing.assert_array_equal(logits, again)

    def test_each_stage_is_timed_and_nothing_is_left_behind(self, backend, make_frame):
        frame = make_frame((120, 70), seed=3)
        backend.submit(0, [frame])
        (before,) = backend.collect(0)
        seconds = [backend.time_stages(frame) for _ in range(3)]
        stages = ["preprocess", "network", "decode"]
        assert list(seconds[0]) in (
            [*stages, "overlay"],
            ["copy in", *stages, "copy out", "overlay"],
        )
        assert all(value >= 0 for found in seconds for value in found.values())
        assert all(found["network"] > 0 for found in seconds)
        backend.submit(0, [frame])
        np.testing.assert_array_equal(backend.collect(0)[0], before)

    def test_stages_of_what_is_no_frame_are_not_timed(self, backend):
        with pytest.raises(ValueError, match="a frame is"):
            backend.time_stages(np.zeros((4, 4), np.uint8))

    def test_close_ends_what_is_in_flight_and_may_be_called_twice(self, backend, make_frame):
        for slot in range(backend.slots):
            backend.submit(slot, [make_frame()])
        backend.close()
        backend.close()


class TestOtherSizes:
    """Prepared images of other sizes than the network was exported for."""

    SIZES = ((64, 96), (33, 97), (128, 64), (33, 97))

    @pytest.fixture
    def expected(self, tiny_model):
        import torch

        def compute(images):
            with torch.no_grad():
                return tiny_model.module(torch.from_numpy(images)).numpy()

        return compute

    def check(self, backend, expected):
        for seed, size in enumerate(self.SIZES):
            images = np.random.default_rng(seed).standard_normal((4, 3, *size)).astype(np.float32)
            logits, wanted = backend.network(images), expected(images)
            assert logits.shape == wanted.shape
            assert np.abs(logits - wanted).max() <= TOLERANCE * np.abs(wanted).max()

    def test_cpu_takes_any(self, network, tmp_path, expected):
        with openvino(network, tmp_path) as backend:
            self.check(backend, expected)

    @pytest.mark.skipif(not STATM.exists(), reason="only Linux says how large a process is")
    def test_cpu_keeps_no_memory_of_sizes_that_are_over(self, network, tmp_path):
        def size_mb():
            return int(STATM.read_text().split()[1]) * mmap.PAGESIZE / 1e6

        def run(backend, indices):
            for index in indices:
                size = (65 + index * 37 % 120, 65 + index * 53 % 121)
                backend.network(np.zeros((1, 3, *size), np.float32))

        with openvino(network, tmp_path) as backend:
            run(backend, range(80))
            before = size_mb()
            run(backend, range(80, 200))
            grown = size_mb() - before
        assert grown < 40  # kept, they would be 230

    def test_gpu_takes_those_that_its_engine_was_built_for(
        self, tiny_model, write_network, tmp_path, expected
    ):
        limits = ShapeRange(min_size=(32, 32), max_size=(128, 128), min_batch=1, max_batch=3)
        path = write_network(tiny_model, tmp_path / "d.onnx", size=SIZE, batch=2, dynamic=limits)
        with fake_gpu(path, tmp_path) as backend:
            self.check(backend, expected)
            with pytest.raises(EngineError, match=r"of 32x32 to 128x128, not 160x96; build it wi"):
                backend.network(np.zeros((1, 3, 160, 96), np.float32))
            self.check(backend, expected)

    def test_gpu_refuses_others_and_says_what_helps(self, network, tmp_path):
        message = (
            r"this engine takes images of 64x96 only, not 65x96; build it with \[dynamic\] sizes "
            r"that include that, build its network\.onnx for openvino, or evaluate with "
            r"--protocol run, "
        )
        with fake_gpu(network, tmp_path) as backend, pytest.raises(EngineError, match=message):
            backend.network(np.zeros((1, 3, 65, 96), np.float32))
