from __future__ import annotations

import gc
import threading
from collections.abc import Generator
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest

from fcn_trt.engine.openvino.builder import build_openvino
from fcn_trt.errors import BundleError, EngineError
from fcn_trt.labels import palette_array
from fcn_trt.machine import Gpu, Machine
from fcn_trt.runtime.segmenter import Segmenter
from fcn_trt.stages.overlay import overlay
from tests.plans import as_network

SIZES = [(64, 96), (120, 70), (33, 200), (480, 640), (1, 1), (64, 96), (97, 131)]


@pytest.fixture(scope="module")
def segmenter(tiny_bundle):
    with Segmenter.load(tiny_bundle.path) as opened:
        yield opened


@pytest.fixture(scope="module")
def batch_of_3(tiny_model, write_network, tmp_path_factory):
    folder = tmp_path_factory.mktemp("batch_of_3")
    network = write_network(tiny_model, folder / "n.onnx", batch=3)
    with Segmenter.load(build_openvino(as_network(network), folder / "bundle").path) as opened:
        yield opened


@pytest.fixture(scope="module")
def frames(make_frame):
    return [make_frame(size, seed=seed) for seed, size in enumerate(SIZES)]


def by_hand(network, frame, spec, *, align_corners=False):
    """(label map, float64 logits at the frame's size) with ONNX Runtime, torch and cv2 alone."""
    import cv2
    import torch

    height, width = spec.input_size
    rgb = cv2.cvtColor(cv2.resize(frame, (width, height)), cv2.COLOR_BGR2RGB)
    tensor = (rgb - np.array(spec.mean)) / np.array(spec.std)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(network, options, ["CPUExecutionProvider"])
    image = tensor.transpose(2, 0, 1)[None].astype(np.float32)
    (logits,) = session.run(None, {"image": image})
    wide = torch.nn.functional.interpolate(
        torch.from_numpy(logits).double(),
        size=frame.shape[:2],
        mode="bilinear",
        align_corners=align_corners,
    )[0]
    return wide.argmax(0).numpy(), wide.numpy()


def check_by_hand(segmenter, network, frame):
    label_map = segmenter.segment(frame)
    spec = segmenter.spec
    expected, wide = by_hand(network, frame, spec, align_corners=spec.align_corners)
    assert label_map.shape == frame.shape[:2]
    chosen = np.take_along_axis(wide, label_map[None].astype(np.intp), axis=0)[0]
    # Kernels of two makers differ by up to 1e-4 of the largest logit; only such ties may too.
    assert (wide.max(axis=0) - chosen).max() <= 2e-4 * np.abs(wide).max()
    assert (label_map == expected).mean() > 0.995


class TestSegment:
    def test_equals_the_same_steps_by_hand(self, segmenter, frames, tiny_bundle):
        for frame in frames:
            check_by_hand(segmenter, tiny_bundle.network.path, frame)

    def test_upsamples_as_the_spec_says(self, make_model, write_network, tmp_path, make_frame):
        network = write_network(make_model("fcn_r18-d8_769x769"), tmp_path / "n.onnx")
        with Segmenter.load(
            build_openvino(as_network(network), tmp_path / "bundle").path
        ) as segmenter:
            assert segmenter.spec.align_corners
            check_by_hand(segmenter, network, make_frame((150, 210)))

    def test_every_class_wins_somewhere(self, segmenter, frames):
        """So that the comparisons in this file compare something."""
        labels = [segmenter.segment(frame).ravel() for frame in frames]
        assert (np.bincount(np.concatenate(labels), minlength=3) > 1000).all()

    def test_bad_frame_is_refused_and_the_next_one_is_not(self, segmenter, make_frame):
        for bad in (make_frame()[..., 0], None):
            with pytest.raises(ValueError, match="a frame is"):
                segmenter.segment(bad)
        segmenter.segment(make_frame())

    def test_frame_is_left_as_it_is(self, segmenter, make_frame):
        frame = make_frame()
        segmenter.segment(frame)
        np.testing.assert_array_equal(frame, make_frame())


class TestLogits:
    def test_are_those_of_the_module(self, segmenter, tiny_model, make_frame):
        import torch

        from fcn_trt.stages.preprocess import preprocess

        frame, spec = make_frame((130, 77)), segmenter.spec
        tensor = preprocess(frame, spec.input_size, mean=spec.mean, std=spec.std)
        with torch.no_grad():
            expected = tiny_model.module(torch.from_numpy(tensor)[None]).numpy()
        logits = segmenter.logits([frame])
        assert logits.shape == (1, 3, 8, 12)
        assert logits.dtype == np.float32
        assert np.abs(logits - expected).max() <= 1e-4 * np.abs(expected).max()

    def test_of_part_of_a_batch_have_one_entry_per_frame(self, batch_of_3, frames):
        assert batch_of_3.logits(frames[:2]).shape == (2, 3, 8, 12)

    def test_belong_to_the_caller(self, segmenter, frames):
        logits = segmenter.logits(frames[:1])
        copy = logits.copy()
        segmenter.segment(frames[1])
        np.testing.assert_array_equal(logits, copy)

    @pytest.mark.parametrize("count", [0, 4])
    def test_of_no_or_too_many_frames_are_refused(self, batch_of_3, make_frame, count):
        with pytest.raises(ValueError, match=rf"{count} frames: this engine takes 1 to 3"):
            batch_of_3.logits([make_frame()] * count)


class TestBatch:
    @pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 6, 7])
    def test_of_3_gives_what_single_frames_give_in_order(
        self, batch_of_3, segmenter, frames, count
    ):
        label_maps = batch_of_3.segment_batch(frames[:count])
        assert len(label_maps) == count
        for frame, label_map in zip(frames, label_maps, strict=False):
            np.testing.assert_array_equal(label_map, segmenter.segment(frame))


class Endless:
    """Frames without end that count how many were taken."""

    def __init__(self, frame):
        self.frame, self.taken = frame, 0

    def __iter__(self):
        return self

    def __next__(self):
        self.taken += 1
        return self.frame


class TestStream:
    @pytest.mark.parametrize("batch", [1, 3])
    def test_yields_every_frame_with_its_label_map_in_order(
        self, segmenter, batch_of_3, frames, batch
    ):
        used = segmenter if batch == 1 else batch_of_3
        results = list(used.stream(iter(frames), copy=False))
        assert [id(frame) for frame, _ in results] == [id(frame) for frame in frames]
        for frame, label_map in results:
            np.testing.assert_array_equal(label_map, segmenter.segment(frame))

    @pytest.mark.parametrize(("batch", "in_flight"), [(1, None), (1, 1), (3, None), (3, 1)])
    @pytest.mark.parametrize("buffers", [1, 2, 3])
    def test_frames_of_arrays_that_are_filled_again_stay_beside_their_label_maps(
        self, segmenter, batch_of_3, make_frame, batch, in_flight, buffers
    ):
        """As `cv2.VideoCapture.read(buffer)` fills them, and grabbers with several in turn."""
        used = segmenter if batch == 1 else batch_of_3
        pictures = [make_frame((80, 90), seed=seed) for seed in range(7)]
        arrays = [np.empty_like(pictures[0]) for _ in range(buffers)]

        def camera():
            for turn, picture in enumerate(pictures):
                array = arrays[turn % buffers]
                np.copyto(array, picture)
                yield array

        results = list(used.stream(camera(), in_flight=in_flight))
        for picture, (frame, label_map) in zip(pictures, results, strict=True):
            np.testing.assert_array_equal(frame, picture)
            np.testing.assert_array_equal(label_map, segmenter.segment(picture))

    def test_of_nothing_is_nothing(self, segmenter):
        assert list(segmenter.stream([])) == []

    @pytest.mark.parametrize("batch", [1, 3])
    def test_reads_only_as_far_ahead_as_there_is_room(
        self, segmenter, batch_of_3, make_frame, batch
    ):
        used = segmenter if batch == 1 else batch_of_3
        source = Endless(make_frame())
        stream = used.stream(source)
        assert source.taken == 0
        room = 2 * batch  # two slots
        for count in range(1, 9):
            next(stream)
            batches_done = -(-count // batch)
            assert source.taken == room + (batches_done - 1) * batch
        stream.close()

    @pytest.mark.parametrize("batch", [1, 3])
    def test_with_one_in_flight_gives_each_batch_before_it_reads_the_next(
        self, segmenter, batch_of_3, make_frame, batch
    ):
        used = segmenter if batch == 1 else batch_of_3
        source = Endless(make_frame())
        stream = used.stream(source, in_flight=1)
        for count in range(1, 9):
            next(stream)
            assert source.taken == -(-count // batch) * batch
        stream.close()

    @pytest.mark.parametrize("in_flight", [1, 2, None])
    def test_gives_the_same_however_many_are_in_flight(self, segmenter, frames, in_flight):
        results = list(segmenter.stream(frames, in_flight=in_flight))
        assert len(results) == len(frames)
        for frame, label_map in results:
            np.testing.assert_array_equal(label_map, segmenter.segment(frame))

    @pytest.mark.parametrize("in_flight", [0, 3])
    def test_more_in_flight_than_there_are_slots_is_refused(self, segmenter, make_frame, in_flight):
        with pytest.raises(ValueError, match=f"in_flight is {in_flight}; this backend takes"):
            list(segmenter.stream([make_frame()], in_flight=in_flight))
        segmenter.segment(make_frame())

    def test_label_maps_are_not_overwritten_later(self, segmenter, make_frame):
        frames = [make_frame(seed=seed) for seed in range(6)]
        kept = [(label_map, label_map.copy()) for _, label_map in segmenter.stream(frames)]
        for label_map, copy in kept:
            np.testing.assert_array_equal(label_map, copy)
        assert len({label_map.ctypes.data for label_map, _ in kept}) == len(kept)

    def test_abandoned_stream_sets_the_segmenter_free(self, segmenter, make_frame):
        for _ in segmenter.stream(Endless(make_frame())):
            break
        gc.collect()  # for interpreters that do not count references
        segmenter.segment(make_frame())

    def test_failing_source_hands_its_error_on_and_sets_the_segmenter_free(
        self, segmenter, make_frame
    ):
        def failing():
            yield make_frame()
            raise OSError("the camera is gone")

        with pytest.raises(OSError, match="the camera is gone"):
            list(segmenter.stream(failing()))
        segmenter.segment(make_frame())

    def test_bad_frame_in_the_middle_is_refused_and_sets_the_segmenter_free(
        self, segmenter, make_frame
    ):
        with pytest.raises(ValueError, match=r"a frame is .* this one is \(2, 2\) uint8"):
            list(segmenter.stream([make_frame(), make_frame(), np.zeros((2, 2), np.uint8)]))
        segmenter.segment(make_frame())

    def test_busy_segmenter_refuses_other_work(self, segmenter, make_frame):
        stream = segmenter.stream(Endless(make_frame()))
        next(stream)
        busy = "this segmenter is busy; finish its stream or load one per thread"
        with pytest.raises(RuntimeError, match=busy):
            segmenter.segment(make_frame())
        with pytest.raises(RuntimeError, match=busy):
            segmenter.logits([make_frame()])
        with pytest.raises(RuntimeError, match=busy):
            next(segmenter.stream([make_frame()]))
        next(stream)
        stream.close()
        segmenter.segment(make_frame())

    def test_second_thread_is_refused(self, segmenter, make_frame):
        stream = segmenter.stream(Endless(make_frame()))
        next(stream)
        errors = []

        def work():
            try:
                segmenter.segment(make_frame())
            except RuntimeError as error:
                errors.append(str(error))

        thread = threading.Thread(target=work)
        thread.start()
        thread.join(timeout=20)
        stream.close()
        assert errors == ["this segmenter is busy; finish its stream or load one per thread"]

    def test_works_in_a_thread(self, segmenter, make_frame):
        expected, results = segmenter.segment(make_frame()), []
        thread = threading.Thread(target=lambda: results.append(segmenter.segment(make_frame())))
        thread.start()
        thread.join(timeout=20)
        np.testing.assert_array_equal(results[0], expected)


class TestRender:
    def test_paints_the_classes_over_the_frame(self, segmenter, frames):
        frame = frames[1]
        label_map, palette = segmenter.segment(frame), palette_array(segmenter.spec.palette)
        np.testing.assert_array_equal(segmenter.render(frame), overlay(frame, label_map, palette))

    def test_paints_a_given_label_map_without_segmenting(self, segmenter, make_frame):
        frame = make_frame()
        label_map = np.full(frame.shape[:2], 2, np.uint8)
        stream = segmenter.stream(Endless(frame))
        next(stream)  # busy: segmenting would be refused
        view = segmenter.render(frame, label_map, opacity=1.0)
        stream.close()
        assert (view == palette_array(segmenter.spec.palette)[2]).all()


class TestClose:
    CLOSED = "this segmenter is closed; load the bundle again"

    def test_may_be_called_twice_and_ends_all_work(self, tiny_bundle, make_frame):
        segmenter = Segmenter.load(str(tiny_bundle.path))
        with segmenter as same:
            assert same is segmenter
            segmenter.segment(make_frame())
        segmenter.close()
        with pytest.raises(RuntimeError, match=self.CLOSED):
            segmenter.segment(make_frame())
        with pytest.raises(RuntimeError, match=self.CLOSED):
            segmenter.logits([make_frame()])

    def test_what_needs_no_engine_still_works(self, tiny_bundle, make_frame):
        with Segmenter.load(tiny_bundle.path) as segmenter:
            label_map = segmenter.segment(make_frame())
        assert segmenter.spec == tiny_bundle.manifest.spec
        assert "18 fp32" in segmenter.description
        assert segmenter.render(make_frame(), label_map).shape == (64, 96, 3)

    def test_ends_a_stream_that_is_still_open(self, tiny_bundle, make_frame):
        with Segmenter.load(tiny_bundle.path) as segmenter:
            stream = segmenter.stream(Endless(make_frame()))
            next(stream)
        with pytest.raises(RuntimeError, match=self.CLOSED):
            next(stream)

    def test_lets_an_open_stream_be_closed_later(self, tiny_bundle, make_frame):
        with Segmenter.load(tiny_bundle.path) as segmenter:
            stream = segmenter.stream(Endless(make_frame()))
            next(stream)
        assert isinstance(stream, Generator)
        stream.close()


class TestLoad:
    def rewrite(self, source, path, **changes):
        """A copy of a bundle whose manifest says something else."""
        path.mkdir()
        (path / "network.onnx").write_bytes(source.network.read_bytes())
        manifest = replace(source.manifest, **changes)
        (path / "manifest.json").write_text(manifest.to_json(), encoding="utf-8")
        return path

    @pytest.fixture
    def orin(self, tiny_bundle, tmp_path):
        """A bundle for an Orin with TensorRT 10.3.0."""
        return self.rewrite(
            tiny_bundle,
            tmp_path / "orin",
            target="tensorrt",
            target_version="10.3.0",
            compute_capabilities=("8.7",),
        )

    @pytest.mark.parametrize(
        ("capability", "version"), [("9.0", "10.3.0"), ("8.7", "11.4.0.106"), ("9.0", "11.4.0.106")]
    )
    def test_bundle_for_another_gpu_or_release_is_refused(
        self, orin, monkeypatch, capability, version
    ):
        here = Machine(
            gpu=Gpu(name="GPU", compute_capability=capability, memory_bytes=1, integrated=False),
            libraries={"tensorrt": version},
        )
        monkeypatch.setattr("fcn_trt.engine.preflight.this_machine", lambda: here)
        message = (
            rf"orin cannot run here: built for sm_87 with TensorRT 10\.3\.0, this machine has "
            rf"sm_{capability.replace('.', '')} with {version}: run `fcn-trt build .*, or add --reb"
        )
        with pytest.raises(BundleError, match=message):
            Segmenter.load(orin)

    def test_bundle_for_this_gpu_is_refused_without_what_runs_it(self, orin, monkeypatch):
        here = Machine(
            gpu=Gpu(name="Orin", compute_capability="8.7", memory_bytes=1, integrated=True),
            libraries={"tensorrt": "10.3.0"},
        )
        monkeypatch.setattr("fcn_trt.engine.preflight.this_machine", lambda: here)
        message = "orin cannot run here: running on a GPU needs PyCUDA and cuda-bindings; pip inst"
        with pytest.raises(BundleError, match=message):
            Segmenter.load(orin)

    def test_altered_bundle_is_refused(self, tiny_bundle, tmp_path):
        path = self.rewrite(tiny_bundle, tmp_path / "altered")
        with (path / "network.onnx").open("r+b") as file:
            file.seek(1000)
            file.write(b"\0\1\2\3")
        with pytest.raises(BundleError, match=r"network\.onnx was altered"):
            Segmenter.load(path)

    def test_missing_bundle_is_refused(self, tmp_path):
        with pytest.raises(BundleError, match="gone is no bundle"):
            Segmenter.load(tmp_path / "gone")

    def test_bundle_of_another_precision_is_refused(self, tiny_bundle, tmp_path):
        spec = replace(tiny_bundle.manifest.spec, precision="int8")
        path = self.rewrite(tiny_bundle, tmp_path / "int8", spec=spec)
        with pytest.raises(
            EngineError, match=r"int8 was asked for, but OpenVINO .* in another type"
        ):
            Segmenter.load(path)


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((3, 64, 96), np.float32),
        np.zeros((1, 1, 64, 96), np.float32),
        np.zeros((1, 3, 64, 96), np.float64),
        np.zeros((0, 3, 64, 96), np.float32),
    ],
)
def test_what_are_no_prepared_images_is_refused(tiny_bundle, images):
    with (
        Segmenter.load(tiny_bundle.path) as segmenter,
        pytest.raises(ValueError, match=r"images is \(N, 3, height, width\) float32, but .* \("),
    ):
        segmenter.network(images)


def test_prepared_images_wait_for_no_stream(tiny_bundle, make_frame):
    with Segmenter.load(tiny_bundle.path) as segmenter:
        stream = segmenter.stream([make_frame()])
        next(stream)
        for call in (segmenter.network, segmenter.time_stages):
            argument: object = np.zeros((1, 3, 64, 96), np.float32)
            with pytest.raises(RuntimeError, match="this segmenter is busy"):
                call(argument)  # type: ignore[arg-type]  # refused before it is looked at
