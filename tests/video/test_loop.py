from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest

from fcn_trt.errors import SinkError, SourceError
from fcn_trt.files import Closing
from fcn_trt.video import channel
from fcn_trt.video.loop import LoopInterrupted, Progress, run_loop
from fcn_trt.video.protocols import VideoInfo
from fcn_trt.video.sink import open_sink
from fcn_trt.video.source import open_source
from tests.plans import as_results

SIZE = (48, 64)
ENDLESS = 1 << 60


class Frames(Closing):
    """A source of `count` frames, frame k of value k, one each `period_s`."""

    def __init__(self, count=ENDLESS, *, is_live=False, period_s=0.0, error=None, hangs=None):
        self.info = VideoInfo(
            size=SIZE,
            rate_fps=0.0,
            frame_count=None if count == ENDLESS else count,
            is_live=is_live,
            name="frames",
        )
        self.count, self.period_s, self.error, self.hangs = count, period_s, error, hangs
        self.given = 0

    def __iter__(self):
        for index in range(self.count):
            if self.period_s:
                time.sleep(self.period_s)
            self.given += 1
            yield np.full((*SIZE, 3), index % 256, dtype=np.uint8)
        if self.hangs:
            self.hangs.wait(10)
        if self.error:
            raise self.error


class Results(Closing):
    """A sink that keeps what it is given."""

    def __init__(self, *, period_s=0.0, error_at=None, error=None, close_error=None, end_at=None):
        self.results, self.closed, self.has_ended = [], 0, False
        self.period_s, self.error_at, self.end_at = period_s, error_at, end_at
        self.error, self.close_error = error, close_error
        self.gate = None

    def write(self, result):
        if self.gate:
            self.gate.wait(10)
        time.sleep(self.period_s)
        if len(self.results) == self.error_at:
            raise self.error
        self.results.append(result)
        self.has_ended = len(self.results) == self.end_at

    def close(self):
        self.closed += 1
        if self.close_error:
            raise self.close_error


def model(*, period_s=0.0, in_flight=0, error_at=None, closed=None):
    """What Segmenter.stream is like: lazy, in order, with some frames in flight."""

    def process(frames):
        held = []
        try:
            for index, frame in enumerate(frames):
                if index == error_at:
                    raise ZeroDivisionError("model")
                if period_s:
                    time.sleep(period_s)
                held.append(frame)
                if len(held) > in_flight:
                    first = held.pop(0)
                    yield first, first[..., 0]
            for frame in held:
                yield frame, frame[..., 0]
        finally:
            if closed is not None:
                closed.append(True)

    return process


def finish(call, timeout_s=2.0):
    """Run in a thread; what it returned or raised, or a failed test if it is still running."""
    outcome = []

    def run():
        try:
            outcome.append(call())
        except BaseException as error:  # noqa: BLE001 - handed to the test
            outcome.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(timeout_s)
    assert not thread.is_alive(), f"still running after {timeout_s} s"
    return outcome[0]


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    for thread in threading.enumerate():
        if thread.name.startswith("fcn-trt"):
            thread.join(1)
            assert not thread.is_alive(), thread.name


@pytest.mark.parametrize("in_flight", [0, 3, 50])
@pytest.mark.parametrize("queue_size", [1, 4])
def test_every_frame_of_a_file_reaches_every_sink_in_order(in_flight, queue_size):
    sinks = [Results(), Results(period_s=0.001)]
    report = finish(
        lambda: run_loop(Frames(20), model(in_flight=in_flight), sinks, queue_size=queue_size)
    )
    for sink in sinks:
        assert [result.index for result in sink.results] == list(range(20))
        assert [result.frame[0, 0, 0] for result in sink.results] == list(range(20))
        assert all((r.label_map == r.frame[..., 0]).all() for r in sink.results)
        assert sink.closed == 1
    assert (report.frames, report.dropped, report.stop) == (20, 0, "end of source")


@pytest.mark.parametrize("count", [0, 1])
def test_few_frames_have_no_rate(count):
    report = finish(lambda: run_loop(Frames(count), model(), []))
    assert (report.frames, report.rate_fps) == (count, 0.0)
    assert (report.latency_p50_ms > 0) == bool(count)


@pytest.mark.parametrize("in_flight", [0, 2])
def test_rate_and_latency_are_those_of_the_model(in_flight):
    process = model(period_s=0.01, in_flight=in_flight)
    report = finish(lambda: run_loop(Frames(12), process, [], queue_size=4))
    assert 11 / report.elapsed_s <= report.rate_fps < 1100 / (12 - 1 - in_flight)
    assert 10 * (1 + in_flight) <= report.latency_p50_ms
    assert report.latency_p50_ms <= report.latency_p90_ms <= report.latency_p99_ms
    assert report.latency_p99_ms <= 1000 * report.elapsed_s


def test_reading_a_file_ahead_is_no_latency():
    report = finish(lambda: run_loop(Frames(30), model(period_s=0.01), [], queue_size=20))
    assert report.latency_p50_ms < 100


def test_progress_comes_after_each_frame_in_the_callers_thread():
    seen: list[Progress] = []
    threads = set()

    def on_progress(progress):
        seen.append(progress)
        threads.add(threading.current_thread())

    callers = []

    def call():
        callers.append(threading.current_thread())
        return run_loop(Frames(40), model(period_s=0.001), [], on_progress=on_progress)

    finish(call)
    assert threads == set(callers)
    assert [progress.frames for progress in seen] == list(range(1, 41))
    assert seen[0].rate_fps == 0.0
    assert isinstance(seen[-1], Progress)
    assert seen[-1].total == 40
    assert 0 < seen[-1].rate_fps < 1000
    assert seen[-1].latency_ms >= 1


@pytest.mark.parametrize(
    ("count", "limit", "frames", "total", "stop"),
    [
        (10, 3, 3, 3, "limit"),
        (3, 10, 3, 3, "end of source"),
        (ENDLESS, 5, 5, 5, "limit"),
        (3, 3, 3, 3, "limit"),
    ],
)
def test_a_limit_ends_the_loop(count, limit, frames, total, stop):
    sink = Results()
    seen: list[Progress] = []
    report = finish(
        lambda: run_loop(
            Frames(count), model(in_flight=2), [sink], limit=limit, on_progress=seen.append
        )
    )
    assert (report.frames, report.stop, seen[-1].total) == (frames, stop, total)
    assert len(sink.results) == frames


@pytest.mark.parametrize(
    ("options", "message"),
    [({"limit": 0}, "limit 0 is not at least 1"), ({"queue_size": 0}, "queue size 0 is not at l")],
)
def test_options_below_one_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        run_loop(Frames(1), model(), [], **options)


def test_a_live_source_drops_the_oldest_and_stays_recent():
    source, sink = Frames(is_live=True, period_s=0.001), Results()
    seen: list[Progress] = []
    report = finish(
        lambda: run_loop(
            source, model(period_s=0.02), [sink], queue_size=9, limit=15, on_progress=seen.append
        )
    )
    assert report.frames == 15
    assert 15 < seen[-1].dropped <= report.dropped
    # One frame waits, so none is older than the model's 20 ms and a few periods; if all waited,
    # half of them would be older than 140 ms.
    assert report.latency_p50_ms < 120
    values = np.array([int(result.frame[0, 0, 0]) for result in sink.results])
    assert ((np.diff(values) % 256) < 128).all()
    assert [result.index for result in sink.results] == list(range(15))


def test_of_a_live_source_only_the_newest_frame_waits():
    source, first = Frames(6, is_live=True), threading.Event()

    def process(frames):
        for frame in frames:
            if not first.is_set():
                first.set()
                until = time.perf_counter() + 1
                while source.given < 6 and time.perf_counter() < until:
                    time.sleep(0.001)
                time.sleep(0.02)  # the sixth is in the queue by now
            yield frame, frame[..., 0]

    sink = Results()
    report = finish(lambda: run_loop(source, process, [sink], queue_size=4))
    taken = [int(result.frame[0, 0, 0]) for result in sink.results]
    assert len(taken) <= 2  # the reader may be done before the model takes its first
    assert taken[-1] == 5
    assert report.frames + report.dropped == 6


def test_a_live_source_with_a_slow_sink_drops_too():
    report = finish(
        lambda: run_loop(
            Frames(is_live=True, period_s=0.001), model(), [Results(period_s=0.02)], limit=15
        )
    )
    assert report.dropped > 15


def test_a_file_waits_for_a_slow_sink():
    source, sink = Frames(20), Results(period_s=0.005)
    ahead = []
    finish(
        lambda: run_loop(
            source,
            model(),
            [sink],
            queue_size=2,
            on_progress=lambda _: ahead.append(source.given - len(sink.results)),
        )
    )
    assert len(sink.results) == 20
    assert max(ahead) <= 2 + 1 + 1 + 2 + 1  # two queues, and one in each of three threads


@pytest.mark.parametrize("is_live", [False, True])
@pytest.mark.parametrize("count", [0, 1, 30])
def test_a_source_that_fails_ends_the_loop(count, is_live):
    sink = Results(period_s=0.01)
    closed: list[bool] = []
    source = Frames(count, is_live=is_live, error=SourceError("unplugged"))
    error = finish(lambda: run_loop(source, model(in_flight=2, closed=closed), [sink]))
    assert isinstance(error, SourceError)
    assert str(error) == "unplugged"
    assert sink.closed == 1
    assert closed == [True] or count == 0


@pytest.mark.parametrize("sink_period_s", [0.0, 0.05])
@pytest.mark.parametrize("error_at", [0, 1, 10])
def test_a_model_that_fails_ends_the_loop_even_with_full_queues(error_at, sink_period_s):
    sink = Results(period_s=sink_period_s)
    error = finish(
        lambda: run_loop(Frames(), model(error_at=error_at), [sink], queue_size=1), timeout_s=1.5
    )
    assert isinstance(error, ZeroDivisionError)
    assert sink.closed == 1


def test_a_model_that_cannot_start_ends_the_loop():
    def process(frames):
        raise ZeroDivisionError("model")

    sink = Results()
    error = finish(lambda: run_loop(Frames(), process, [sink]))
    assert isinstance(error, ZeroDivisionError)
    assert sink.closed == 1


@pytest.mark.parametrize("period_s", [0.0, 0.01])
@pytest.mark.parametrize("error_at", [0, 1, 10])
def test_a_sink_that_fails_ends_the_loop_and_closes_the_others(error_at, period_s):
    first, other = Results(), Results()
    closed: list[bool] = []
    failing = Results(period_s=period_s, error_at=error_at, error=SinkError("disk full"))
    error = finish(
        lambda: run_loop(
            Frames(), model(in_flight=2, closed=closed), [first, failing, other], queue_size=1
        ),
        timeout_s=1.5,
    )
    assert isinstance(error, SinkError)
    assert str(error) == "disk full"
    assert [sink.closed for sink in (first, failing, other)] == [1, 1, 1]
    assert len(first.results) == error_at + 1
    assert len(other.results) == error_at
    assert closed == [True]


def test_a_render_that_fails_ends_the_loop_and_leaves_a_playable_video(tmp_path):
    def render(frame, label_map):
        if frame[0, 0, 0] == 7:
            raise ZeroDivisionError("render")
        return frame

    palette = np.zeros((2, 3), dtype=np.uint8)
    uri = str(tmp_path / "out.mp4")
    sink = open_sink(uri, render=render, palette=palette, rate_fps=25.0)
    error = finish(lambda: run_loop(Frames(), model(), [sink]))
    assert isinstance(error, ZeroDivisionError)
    with open_source(uri) as source:
        assert len(list(source)) == 7
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]


def test_a_progress_callback_that_fails_ends_the_loop():
    def on_progress(progress):
        raise ZeroDivisionError("progress")

    sink = Results()
    error = finish(lambda: run_loop(Frames(), model(), [sink], on_progress=on_progress))
    assert isinstance(error, ZeroDivisionError)
    assert sink.closed == 1


def test_a_sink_that_cannot_close_is_the_error_of_a_loop_that_went_well():
    sinks = [Results(close_error=SinkError("not whole")), Results()]
    error = finish(lambda: run_loop(Frames(5), model(), sinks))
    assert isinstance(error, SinkError)
    assert [len(sink.results) for sink in sinks] == [5, 5]
    assert sinks[1].closed == 1


def test_the_first_error_is_raised_and_later_ones_are_logged(caplog):
    sinks = [
        Results(error_at=2, error=ZeroDivisionError("first"), close_error=SinkError("second")),
        Results(close_error=OSError("third")),
    ]
    error = finish(lambda: run_loop(Frames(), model(), sinks))
    assert isinstance(error, ZeroDivisionError)
    assert "after ZeroDivisionError('first') came SinkError('second')" in caplog.text
    assert "OSError('third')" in caplog.text
    assert "third" in caplog.records[-1].getMessage()


def test_a_model_whose_close_fails_does_not_hide_the_first_error(caplog):
    class Pairs:
        def __init__(self, frames):
            self.frames = frames

        def __iter__(self):
            return self

        def __next__(self):
            next(self.frames)
            raise ZeroDivisionError("first")

        def close(self):
            raise OSError("second")

    error = finish(lambda: run_loop(Frames(), Pairs, []))
    assert isinstance(error, ZeroDivisionError)
    assert "came OSError('second')" in caplog.text


def test_a_model_that_loses_frames_is_refused():
    def process(frames):
        for _ in frames:
            yield from ()

    error = finish(lambda: run_loop(Frames(5), process, []))
    assert isinstance(error, ValueError)
    assert str(error) == "process gave no label map for 5 of its frames"


def test_a_model_that_invents_frames_is_refused():
    frame = np.zeros((*SIZE, 3), dtype=np.uint8)
    error = finish(lambda: run_loop(Frames(5), lambda _: as_results([(frame, frame[..., 0])]), []))
    assert isinstance(error, ValueError)
    assert str(error) == "process gave more label maps than it was given frames"


@pytest.mark.parametrize("period_s", [0.0, 0.01])
def test_a_window_that_is_closed_ends_the_loop_without_an_error(period_s):
    window, video = Results(end_at=5, period_s=period_s), Results()
    report = finish(lambda: run_loop(Frames(), model(), [window, video], queue_size=1))
    assert report.stop == "closed"
    assert report.frames == len(window.results) == len(video.results) == 5
    assert window.closed == video.closed == 1


def test_a_window_that_is_closed_after_the_model_has_ended_ends_the_loop():
    window = Results(end_at=1, period_s=0.05)
    report = finish(lambda: run_loop(Frames(3), model(), [window], queue_size=4))
    assert report.stop == "closed"
    assert report.frames == len(window.results) == 1


def test_a_reader_that_hangs_is_abandoned_with_a_warning(monkeypatch, caplog):
    monkeypatch.setattr(channel, "READER_TIMEOUT_S", 0.1)
    hangs = threading.Event()
    source, sink = Frames(3, is_live=True, period_s=0.05, hangs=hangs), Results(end_at=3)
    report = finish(lambda: run_loop(source, model(), [sink]))
    hangs.set()
    assert report.stop == "closed"
    assert sink.closed == 1
    assert "frames hangs in a read and was abandoned" in caplog.text


@pytest.mark.parametrize("where", ["model", "full queue", "empty queue", "writer"])
def test_ctrl_c_ends_the_loop_and_carries_the_report(where, tmp_path):
    hangs = threading.Event()
    sink = Results(period_s=0.3 if where in {"full queue", "writer"} else 0.0)
    count = {"empty queue": 2, "writer": 4}.get(where, ENDLESS)
    source = Frames(count, hangs=hangs if where == "empty queue" else None)
    process = model(period_s=0.02 if where == "model" else 0.0)

    def interrupt():
        os.kill(os.getpid(), signal.SIGINT)
        hangs.set()

    timer = threading.Timer(0.15, interrupt)
    timer.start()
    started = time.perf_counter()
    with pytest.raises(LoopInterrupted) as caught:
        run_loop(source, process, [sink], queue_size=4 if where == "writer" else 1)
    assert time.perf_counter() - started < 1.5
    timer.join()
    assert isinstance(caught.value, KeyboardInterrupt)
    assert caught.value.report.stop == "interrupted"
    # Some label maps wait for a slow sink, and are thrown away: they are not counted.
    assert caught.value.report.frames == len(sink.results) >= 1
    assert f"after {caught.value.report.frames} frames" in str(caught.value)
    assert sink.closed == 1


def test_ctrl_c_in_a_process_of_its_own_leaves_a_playable_video(tmp_path):
    script = """
        import itertools, sys
        import numpy as np
        from fcn_trt.video.loop import run_loop
        from fcn_trt.video.protocols import VideoInfo
        from fcn_trt.video.sink import open_sink

        class Frames:
            info = VideoInfo(size=(48, 64), rate_fps=25.0, frame_count=None, is_live=False, name="")

            def __iter__(self):
                return (np.full((48, 64, 3), 9, dtype=np.uint8) for _ in itertools.count())

        def told(progress):
            if progress.frames == 20:
                print("going", flush=True)

        sink = open_sink(sys.argv[1], render=lambda f, _: f, palette=None, rate_fps=25.0)
        run_loop(Frames(), lambda fs: ((f, f[..., 0]) for f in fs), [sink], on_progress=told)
    """
    path = tmp_path / "out.mp4"
    run = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with run:
        assert run.stdout is not None
        assert run.stdout.readline() == "going\n"
        run.send_signal(signal.SIGINT)
        _, stderr = run.communicate(timeout=20)
    assert "LoopInterrupted: interrupted after" in stderr
    assert [item.name for item in tmp_path.iterdir()] == ["out.mp4"]
    with open_source(str(path)) as source:
        assert len(list(source)) >= 1


def test_a_context_manager_keeps_the_first_error_and_logs_the_second(caplog):
    with pytest.raises(ZeroDivisionError), Results(close_error=SinkError("second")):
        raise ZeroDivisionError
    assert "while closing after another error: second" in caplog.text
    with pytest.raises(SinkError, match="second"), Results(close_error=SinkError("second")):
        pass


@pytest.mark.parametrize("name", ["out.mp4", "out.avi", "out.mkv"])
def test_a_real_video_goes_through_to_a_real_video(tmp_path, make_video, name, caplog):
    palette = np.array([[0, 0, 0], [255, 0, 0]], dtype=np.uint8)
    uris = [str(tmp_path / name), f"labels:{tmp_path / 'labels'}"]
    sinks = [
        open_sink(uri, render=lambda frame, _: frame, palette=palette, rate_fps=12.5)
        for uri in uris
    ]

    def process(frames):
        return ((frame, (frame[..., 0] > 30).astype(np.uint8)) for frame in frames)

    with open_source(str(make_video(count=40))) as source, caplog.at_level(logging.WARNING):
        report = run_loop(source, process, sinks)
    assert report.frames == 40
    assert not caplog.records
    for uri in (uris[0], str(tmp_path / "labels")):
        with open_source(uri) as written:
            assert len(list(written)) == 40
