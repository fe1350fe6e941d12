"""The GPU backend's bookkeeping, on a fake driver that stops at each misuse, see `fake_device`."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fcn_trt.cuda.context import primary_context, release_contexts
from fcn_trt.cuda.memory import DeviceArray, DeviceBuffer, PinnedBuffer, copy_to_device
from fcn_trt.cuda.stream import Stream
from fcn_trt.errors import EngineError
from fcn_trt.runtime.segmenter import Segmenter
from fcn_trt.stages.decode import decode
from fcn_trt.stages.preprocess import nv12_to_frame
from tests.cuda.fake_driver import installed_fake
from tests.processes import forked
from tests.runtime.fake_device import HostEngine, HostExecutor, open_fake_device

pytest.importorskip("onnx", reason="needs the extra: pip install 'fcn-trt[export]'")

SIZES = [(64, 96), (120, 70), (33, 50)]


@pytest.fixture
def gpu(monkeypatch):
    with installed_fake(monkeypatch) as fake:
        yield fake


@pytest.fixture
def backend(gpu, tiny_network):
    opened = open_fake_device(gpu, tiny_network)
    yield opened
    opened.close()


def segmenter_of(backend, network):
    from fcn_trt.spec import read_spec

    manifest: Any = SimpleNamespace(spec=read_spec(network))
    return Segmenter(manifest, backend)


def run(backend, slot, frames):
    backend.submit(slot, frames)
    return backend.collect(slot)


class TestFrames:
    @pytest.mark.parametrize("slots", [1, 2, 3])
    def test_slots_in_flight_give_what_one_after_the_other_gives(
        self, gpu, tiny_network, make_frame, slots
    ):
        sizes = [SIZES[index // 9 % 3] for index in range(60)]
        frames = [make_frame(size, seed=seed) for seed, size in enumerate(sizes)]
        with segmenter_of(open_fake_device(gpu, tiny_network, slots=1), tiny_network) as one:
            expected = [one.segment(frame) for frame in frames]
        with segmenter_of(open_fake_device(gpu, tiny_network, slots=slots), tiny_network) as many:
            found = [label_map for _, label_map in many.stream(frames)]
        assert len({label_map.tobytes() for label_map in found}) > 50
        for label_map, reference in zip(found, expected, strict=True):
            np.testing.assert_array_equal(label_map, reference)

    def test_frames_are_launched_as_one_graph_once_they_have_a_size(self, gpu, backend, make_frame):
        for seed in range(6):
            run(backend, 0, [make_frame(seed=seed)])
        assert gpu.calls["cuGraphInstantiate"] == 1
        assert gpu.calls["cuGraphLaunch"] == 4
        assert gpu.names("captured") == [
            "cuMemcpyHtoDAsync",
            "preprocess_float32",
            "enqueue",
            "decode_float32",
            "cuMemcpyDtoHAsync",
        ]

    def test_graph_gives_what_plain_launches_give(self, gpu, backend, make_frame):
        frames = [make_frame(seed=seed) for seed in range(5)]
        plain = [run(backend, 0, [frame])[0] for frame in frames[:2]]
        for frame in frames[2:]:
            run(backend, 0, [frame])
        again = [run(backend, 0, [frame])[0] for frame in frames[:2]]
        np.testing.assert_array_equal(plain, again)

    def test_nothing_is_allocated_once_frames_have_a_size(self, gpu, backend, make_frame):
        for slot in range(backend.slots):
            for seed in range(3):
                run(backend, slot, [make_frame(seed=seed)])
        before = gpu.calls.copy()
        for seed in range(20):
            run(backend, seed % backend.slots, [make_frame(seed=seed)])
        made = {name: gpu.calls[name] - count for name, count in before.items()}
        for routine in ("cuMemAlloc", "cuMemHostAlloc", "cuEventCreate", "cuStreamCreate"):
            assert made[routine] == 0, routine
        assert made["cuGraphLaunch"] == 20

    def test_several_sizes_and_pictures_in_turn_allocate_nothing_either(
        self, gpu, backend, make_frame
    ):
        frames = [make_frame(size, seed=seed) for seed, size in enumerate(SIZES)]

        def turn() -> None:
            for frame in frames:
                run(backend, 0, [frame])
            backend.render(frames[0], 0.5)

        for _ in range(3):
            turn()
        before, held = gpu.calls.copy(), sum(block.size for block in gpu.blocks)
        for _ in range(4):
            turn()
        made = gpu.calls - before
        assert not {"cuMemAlloc", "cuMemHostAlloc", "cuGraphInstantiate"} & set(made)
        assert made["cuGraphLaunch"] == 16
        assert sum(block.size for block in gpu.blocks) == held

    def test_another_opacity_allocates_nothing(self, gpu, backend, make_frame):
        frame = make_frame()
        views = [backend.render(frame, 0.5)]
        before = gpu.calls.copy()
        views += [backend.render(frame, opacity) for opacity in (0.1, 0.9, 0.9, 0.9, 0.5)]
        assert not {"cuMemAlloc", "cuMemHostAlloc"} & set(gpu.calls - before)
        np.testing.assert_array_equal(views[0], views[-1])
        np.testing.assert_array_equal(views[2], views[4])
        assert len({view.tobytes() for view in views}) == 3

    def test_memory_of_sizes_that_were_long_not_seen_is_freed(self, gpu, backend, make_frame):
        held = []
        for height in range(40, 60):
            for seed in range(3):
                (label_map,) = run(backend, 0, [make_frame((height, 50), seed=seed)])
                assert label_map.shape == (height, 50)
            held.append(len(gpu.blocks))
        assert max(held) == held[4]
        assert len(gpu.graphs) == 4

    def test_logits_are_copied_to_memory_that_stays(self, gpu, backend, make_frame):
        backend.submit(0, [make_frame()])
        backend.collect_logits(0)
        before = gpu.calls.copy()
        for seed in range(3):
            backend.submit(0, [make_frame(seed=seed)])
            backend.collect_logits(0)
        assert "cuMemHostAlloc" not in gpu.calls - before

    def test_frame_beyond_what_kernels_take_is_refused_before_memory_is_made(self, gpu, backend):
        before = gpu.calls.copy()
        huge = np.broadcast_to(np.zeros((1, 1, 3), np.uint8), (2, 20000, 3))
        with pytest.raises(ValueError, match="a frame of 2x20000 has a side that is not 1 to"):
            backend.submit(0, [huge])
        assert "cuMemHostAlloc" not in gpu.calls - before

    def test_integrated_gpu_copies_nothing(self, monkeypatch, tiny_network, make_frame):
        frame = make_frame((120, 70))
        found = []
        for is_integrated in (False, True):
            with installed_fake(monkeypatch, is_integrated=is_integrated) as gpu:
                backend = open_fake_device(gpu, tiny_network)
                copies = gpu.calls["cuMemcpyHtoDAsync"]
                found.append(run(backend, 0, [frame])[0])
                made = gpu.calls["cuMemcpyHtoDAsync"] - copies + gpu.calls["cuMemcpyDtoHAsync"]
                assert made == (0 if is_integrated else 2)
                backend.close()
        np.testing.assert_array_equal(*found)

    def test_half_precision_logits_are_decoded(self, gpu, tiny_network, make_frame):
        from dataclasses import replace

        engine = HostEngine(gpu, tiny_network)
        engine.spec = replace(engine.spec, logits_type="float16")
        backend = open_fake_device(gpu, tiny_network, engine=engine)
        frame = make_frame((120, 70), seed=4)
        (label_map,) = run(backend, 0, [frame])
        backend.submit(0, [frame])
        logits = backend.collect_logits(0)
        assert logits.dtype == np.float32
        assert np.array_equal(logits, logits.astype(np.float16))
        assert np.mean(label_map != decode(logits[0], (120, 70))) <= 1e-3
        backend.close()


class TestGraphsThatAreRefused:
    @pytest.mark.parametrize(
        "routine", ["cuStreamBeginCapture", "cuStreamEndCapture", "cuGraphInstantiate"]
    )
    def test_it_is_said_once_and_frames_go_on(
        self, gpu, backend, make_frame, caplog, routine, tiny_network
    ):
        frames, maps = [make_frame(seed=seed) for seed in range(5)], []
        for slot in range(backend.slots):
            gpu.fail(routine, "NOT_SUPPORTED")
            maps = [run(backend, slot, [frame])[0] for frame in frames]
        assert gpu.calls["cuGraphLaunch"] == 0
        warnings = [r.message for r in caplog.records if r.levelno == logging.WARNING]
        assert len(warnings) == 1
        assert warnings[0].startswith("frames run without a CUDA graph, which takes longer: cannot")
        assert "CUDA_ERROR_NOT_SUPPORTED" in warnings[0]
        other = open_fake_device(gpu, tiny_network, slots=1)
        np.testing.assert_array_equal(maps, [run(other, 0, [frame])[0] for frame in frames])
        other.close()

    def test_a_network_that_waits_within_is_one(self, gpu, tiny_network, make_frame, caplog):
        class Waiting(HostExecutor):
            """Synchronises its stream, as a network with a shape known only late does."""

            def enqueue(self, inputs, outputs, stream):
                super().enqueue(inputs, outputs, stream)
                try:
                    gpu.refuse_waiting("cuStreamSynchronize", gpu.streams[stream])
                except Exception as error:
                    raise EngineError(f"TensorRT cannot start the network: {error}") from error

        engine = HostEngine(gpu, tiny_network, Waiting)
        backend = open_fake_device(gpu, tiny_network, engine=engine)
        for seed in range(4):
            assert len(run(backend, 0, [make_frame(seed=seed)])) == 1
        assert "without a CUDA graph, which takes longer: TensorRT cannot start" in caplog.text
        backend.close()


class TestArraysOnTheDevice:
    def upload(self, array, *, stream=None):
        context = primary_context()
        buffer, host = DeviceBuffer(context, array.nbytes), PinnedBuffer(context, array.nbytes)
        host.array[:] = array.reshape(-1).view(np.uint8)
        queue = Stream(context)
        copy_to_device(buffer.address, host, array.nbytes, queue)
        queue.synchronize()
        queue.close()
        host.close()
        return buffer, DeviceArray(
            shape=array.shape,
            dtype=array.dtype,
            address=buffer.address,
            owner=buffer,
            stream=stream,
        )

    def download(self, array):
        import ctypes

        count = int(np.prod(array.shape))
        return np.frombuffer(ctypes.string_at(array.address, count), np.uint8).reshape(array.shape)

    @pytest.mark.parametrize("layout", ["bgr", "bgrx", "nv12"])
    def test_label_map_is_that_of_the_same_frame_from_the_host(self, backend, make_frame, layout):
        frame = make_frame((120, 70), seed=2)
        given = frame
        if layout == "bgrx":
            given = np.dstack([frame, np.full((120, 70), 77, np.uint8)])
        if layout == "nv12":
            given = np.random.default_rng(0).integers(0, 255, (180, 70), np.uint8)
            frame = nv12_to_frame(given)
        parts = [self.upload(given), self.upload(np.full((120, 70), 9, np.uint8))]
        (source, out) = (array for _, array in parts)
        backend.segment_array(source, out)
        expected = run(backend, 0, [frame])[0]
        assert np.mean(self.download(out) != expected) <= (0 if layout != "nv12" else 0.02)
        for buffer, _ in parts:
            buffer.close()

    def test_work_on_the_stream_that_it_names_comes_first(self, gpu, backend, make_frame):
        late, frame = make_frame((64, 96), seed=5), make_frame((64, 96), seed=6)
        foreign = gpu.foreign_stream()
        parts = [self.upload(late, stream=foreign), self.upload(np.zeros((64, 96), np.uint8))]
        (buffer, source), (_, out) = parts

        def write():
            import ctypes

            ctypes.memmove(buffer.address, frame.ctypes.data, frame.nbytes)

        with primary_context().active():
            gpu.enqueue(foreign, "another library writes the frame", write, [buffer.address])
        backend.segment_array(source, out)
        np.testing.assert_array_equal(self.download(out), run(backend, 0, [frame])[0])
        for each, _ in parts:
            each.close()

    @pytest.mark.parametrize(
        ("frame", "out", "message"),
        [
            ((8, 8, 3), (8, 9), r"the label map of this frame is \(8, 8\) uint8, not \(8, 9\)"),
            ((8, 8, 2), (8, 8), r"a frame on the device is \(H, W, 3\) or \(H, W, 4\)"),
            ((8, 7), (8, 7), r"an NV12 frame is \(3 H / 2, W\) with even H and W"),
            ((8,), (8, 8), r"a frame on the device is uint8, not \(8,\) uint8"),
        ],
    )
    def test_another_shape_is_refused(self, backend, frame, out, message):
        arrays = [
            DeviceArray(shape=shape, dtype=np.dtype(np.uint8), address=4096, owner=None)
            for shape in (frame, out)
        ]
        with pytest.raises(ValueError, match=message):
            backend.segment_array(*arrays)

    def test_a_read_only_label_map_is_refused(self, backend):
        shapes = (8, 8, 3), (8, 8)
        arrays = [
            DeviceArray(
                shape=shape, dtype=np.dtype(np.uint8), address=4096, owner=None, is_read_only=True
            )
            for shape in shapes
        ]
        with pytest.raises(ValueError, match="the label map's array is read-only; give one"):
            backend.segment_array(*arrays)

    def test_what_is_on_the_host_is_refused(self, backend, make_frame):
        with pytest.raises(TypeError, match="__cuda_array_interface__, which ndarray lacks"):
            backend.segment_array(make_frame(), make_frame())

    def test_a_bundle_for_the_cpu_refuses(self, tiny_bundle, make_frame):
        with (
            Segmenter.load(tiny_bundle.path) as segmenter,
            pytest.raises(EngineError, match="this bundle runs on the CPU and takes no arrays"),
        ):
            segmenter.segment_array(make_frame(), make_frame())


class TestFailures:
    """Each leaves the process clean: `installed_fake` checks that."""

    ROUTINES = (
        ("cuModuleLoadDataEx", "OUT_OF_MEMORY", 3),
        ("cuMemAlloc", "OUT_OF_MEMORY", 7),
        ("cuMemHostAlloc", "OUT_OF_MEMORY", 1),
        ("cuStreamCreate", "OUT_OF_MEMORY", 4),
        ("cuEventCreate", "OUT_OF_MEMORY", 3),
    )

    @pytest.mark.parametrize(("routine", "status", "calls"), ROUTINES)
    def test_while_it_is_opened(self, gpu, tiny_network, routine, status, calls):
        for call in range(1, calls + 1):
            engine = HostEngine(gpu, tiny_network)
            gpu.fail(routine, status, call=call)
            with pytest.raises(EngineError, match=r"^cannot .*: \w+ failed: ") as caught:
                open_fake_device(gpu, tiny_network, engine=engine)
            assert "\n" not in str(caught.value)
            assert engine.is_closed
            assert gpu.leaks() == []
        open_fake_device(gpu, tiny_network).close()

    @pytest.mark.parametrize(
        ("routine", "status"),
        [
            ("cuMemAlloc", "OUT_OF_MEMORY"),
            ("cuMemHostAlloc", "OUT_OF_MEMORY"),
            ("cuMemcpyHtoDAsync", "INVALID_VALUE"),
            ("cuMemcpyDtoHAsync", "INVALID_VALUE"),
            ("cuLaunchKernel", "LAUNCH_OUT_OF_RESOURCES"),
            ("cuEventRecord", "INVALID_HANDLE"),
            ("cuEventSynchronize", "LAUNCH_FAILED"),
        ],
    )
    def test_while_a_frame_is_on_its_way(self, gpu, backend, make_frame, routine, status):
        frame = make_frame((120, 70))
        expected = run(backend, 1, [frame])
        gpu.fail(routine, status)
        with pytest.raises(EngineError, match=r"^cannot .*: \w+ failed: ") as caught:
            run(backend, 0, [frame])
        assert "\n" not in str(caught.value)
        np.testing.assert_array_equal(run(backend, 0, [frame]), expected)

    def test_of_the_network(self, gpu, tiny_network, make_frame):
        class Failing(HostExecutor):
            def enqueue(self, inputs, outputs, stream):
                raise EngineError("TensorRT 10.3.0 cannot start the network")

        engine = HostEngine(gpu, tiny_network, Failing)
        backend = open_fake_device(gpu, tiny_network, engine=engine)
        for _ in range(2):
            with pytest.raises(EngineError, match="cannot start the network"):
                backend.submit(0, [make_frame()])
        backend.close()

    def test_launch_of_a_graph(self, gpu, backend, make_frame):
        frames = [make_frame(seed=seed) for seed in range(4)]
        expected = [run(backend, 0, [frame]) for frame in frames][-1]
        gpu.fail("cuGraphLaunch", "LAUNCH_FAILED")
        with pytest.raises(EngineError, match="cannot launch a graph: CUDA_ERROR_LAUNCH_FAILED"):
            backend.submit(0, [frames[-1]])
        np.testing.assert_array_equal(run(backend, 0, [frames[-1]]), expected)


class TestClosing:
    def test_executors_go_before_the_engine_and_memory_after_it(
        self, gpu, tiny_network, make_frame
    ):
        engine = HostEngine(gpu, tiny_network)
        held: list[int] = []
        close = engine.close

        def watch() -> None:
            held.append(len(gpu.blocks))
            assert not gpu.graphs
            close()

        engine.close = watch  # type: ignore[method-assign]
        backend = open_fake_device(gpu, tiny_network, engine=engine)
        for _ in range(3):
            run(backend, 0, [make_frame()])
        backend.close()
        assert engine.is_closed
        assert held[0] > 0
        assert gpu.leaks() == []

    def test_with_an_exception_in_flight(self, gpu, tiny_network, make_frame):
        def fail_within_a_stream() -> None:
            with segmenter_of(open_fake_device(gpu, tiny_network), tiny_network) as segmenter:
                for _ in segmenter.stream(make_frame(seed=seed) for seed in range(9)):
                    raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fail_within_a_stream()
        assert gpu.leaks() == []

    def test_in_another_thread_than_it_was_opened_in(self, gpu, tiny_network, make_frame):
        found: list[object] = []

        def work(backend) -> None:
            found.extend(run(backend, 0, [make_frame()]))
            backend.close()

        thread = threading.Thread(target=work, args=(open_fake_device(gpu, tiny_network),))
        thread.start()
        thread.join()
        assert len(found) == 1

    def test_wholly_in_a_worker_thread(self, gpu, tiny_network, make_frame):
        found: list[object] = []

        def work() -> None:
            backend = open_fake_device(gpu, tiny_network)
            found.extend(run(backend, 0, [make_frame()]))
            backend.close()

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert len(found) == 1

    def test_while_another_thread_has_a_frame_under_way(self, gpu, tiny_network, make_frame):
        began, may_go_on, raised = threading.Event(), threading.Event(), list[Exception]()

        class Slow(HostExecutor):
            def enqueue(self, inputs, outputs, stream):
                began.set()
                assert may_go_on.wait(10)
                super().enqueue(inputs, outputs, stream)

        backend = open_fake_device(gpu, tiny_network, engine=HostEngine(gpu, tiny_network, Slow))

        def work() -> None:
            backend.submit(0, [make_frame()])
            try:
                backend.submit(0, [make_frame()])
            except RuntimeError as error:
                raised.append(error)

        threads = [threading.Thread(target=work), threading.Thread(target=backend.close)]
        threads[0].start()
        assert began.wait(10)
        threads[1].start()
        threads[1].join(0.2)
        assert threads[1].is_alive()
        may_go_on.set()
        for thread in threads:
            thread.join()
        assert [str(error) for error in raised] in (
            [],
            ["this engine was closed meanwhile; load the bundle again"],
        )

    def test_at_the_end_of_the_interpreter_within_a_stream(self, tiny_network):
        done = self.end_of_interpreter(
            tiny_network,
            """
            from types import SimpleNamespace
            from fcn_trt.runtime.segmenter import Segmenter
            from fcn_trt.spec import read_spec
            segmenter = Segmenter(SimpleNamespace(spec=read_spec(Path(sys.argv[1]))), backend)
            stream = segmenter.stream(np.zeros((64, 96, 3), np.uint8) for _ in range(9))
            next(stream)
            """,
        )
        assert "Exception ignored" not in done.stderr
        assert (done.returncode, done.stdout.strip()) == (0, "[] [] 0"), done.stderr

    def test_again_after_the_context_is_gone(self, gpu, tiny_network):
        backend = open_fake_device(gpu, tiny_network)
        backend.close()
        release_contexts()
        backend.close()

    def test_a_failing_driver_is_a_warning_and_hides_nothing(
        self, gpu, tiny_network, make_frame, caplog
    ):
        backend = open_fake_device(gpu, tiny_network)
        backend.submit(0, [make_frame()])
        gpu.fail("cuStreamSynchronize", "LAUNCH_FAILED")
        backend.close()
        assert "while closing: cannot finish the work on a stream" in caplog.text

    def test_at_the_end_of_the_interpreter(self, tiny_network):
        done = self.end_of_interpreter(
            tiny_network, "backend.submit(0, [np.zeros((64, 96, 3), np.uint8)])"
        )
        assert (done.returncode, done.stdout.strip()) == (0, "[] [] 0"), done.stderr

    def end_of_interpreter(self, network, more):
        """A process that leaves a backend open; it prints what the fake then finds."""
        script = """
            import atexit, sys
            from pathlib import Path
            import numpy as np
            from tests.cuda.fake_driver import FakeGpu, fake_modules
            gpu = FakeGpu()
            atexit.register(lambda: print(gpu.leaks(), gpu.misuses, gpu.retained))
            sys.modules.update(fake_modules(gpu))
            from tests.runtime.fake_device import open_fake_device
            backend = open_fake_device(gpu, Path(sys.argv[1]))
            """
        return subprocess.run(
            [sys.executable, "-c", textwrap.dedent(script) + textwrap.dedent(more), str(network)],
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=False,
        )


def test_fake_is_not_needed_to_import(tmp_path) -> None:
    """Nothing of CUDA is loaded with the backend's module."""
    code = "import sys, fcn_trt.runtime.tensorrt; print('pycuda' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
class TestFork:
    def test_forked_process_is_refused_and_frees_nothing(
        self, gpu, backend, tiny_network, make_frame, caplog
    ):
        segmenter = segmenter_of(backend, tiny_network)
        stream = segmenter.stream(make_frame() for _ in range(9))
        next(stream)
        before = gpu.calls.copy()

        def leave():
            stream.close()
            segmenter.close()
            backend.close()
            return caplog.text, gpu.calls == before

        assert forked(leave) == "('', True)"
        refusal = "CUDA cannot run a network in process N, which was forked from one that had used"
        assert forked(lambda: segmenter.segment(make_frame())).startswith(refusal)
        stream.close()
        run(backend, 0, [make_frame()])

    def test_nothing_new_is_made_on_the_gpu_there(self, gpu, backend):
        found = forked(lambda: DeviceBuffer(primary_context(), 16))
        assert "which was forked from one that had used CUDA" in found
