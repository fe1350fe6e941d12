"""Frames from a source, through a model, into sinks: three threads and two bounded queues.

    source --reader thread--> queue --caller's thread: process--> queue --writer thread--> sinks

Whatever ends the loop (end, limit, Ctrl-C, a window that is closed, an error in the source, the
model or a sink) ends all three threads at once, and closes the sinks, so that what was written can
be opened.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, TypeAlias

from fcn_trt.spec import Frame, LabelMap, Process, Result
from fcn_trt.timing import percentiles, rate_fps
from fcn_trt.video.channel import QUEUE_SIZE, Channel, Reader
from fcn_trt.video.protocols import Sink, Source

__all__ = ["LoopInterrupted", "LoopReport", "Progress", "Stop", "run_loop"]

Stop: TypeAlias = Literal["end of source", "limit", "closed", "interrupted"]

REMEMBERED_FRAMES = 1 << 16
"""A report covers at most the last frames of this number: a loop may run for weeks."""

RECENT_FRAMES = 30
"""The rate shown in progress is that of this many frames."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """The state of the loop after each label map.

    Attributes:
        frames: Label maps so far.
        total: Frames to expect, or None if unknown.
        rate_fps: Rate of the last frames; 0.0 until there are two.
        latency_ms: Of this frame, as in `LoopReport`.
        dropped: Frames of a live source that were not waited for, so far.
    """

    frames: int
    total: int | None
    rate_fps: float
    latency_ms: float
    dropped: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopReport:
    """The result of a loop.

    The latency of a frame ends with its label map. It begins when a live source gave the frame, so
    that the wait in the queue is part of it. In a file it begins when the model took the frame, as
    to have read ahead is no delay.

    Attributes:
        frames: Frames whose label maps every sink has taken.
        dropped: Frames of a live source that were not waited for.
        elapsed_s: From the first read to sinks closed.
        rate_fps: Label maps per second over the last 65,536; 0.0 for fewer than two.
        latency_p50_ms: Median latency; 0.0 without frames.
        latency_p90_ms: 90th percentile.
        latency_p99_ms: 99th percentile.
        latency_has_queue: Whether the wait in the queue is part of them.
        stop: Why it ended.
    """

    frames: int
    dropped: int
    elapsed_s: float
    rate_fps: float
    latency_p50_ms: float
    latency_p90_ms: float
    latency_p99_ms: float
    latency_has_queue: bool
    stop: Stop


class LoopInterrupted(KeyboardInterrupt):
    """A Ctrl-C, raised once everything is closed; `report` says what was done until then."""

    def __init__(self, report: LoopReport) -> None:
        super().__init__(f"interrupted after {report.frames} frames")
        self.report = report


def run_loop(
    source: Source,
    process: Process,
    sinks: Sequence[Sink],
    *,
    queue_size: int = QUEUE_SIZE,
    on_progress: Callable[[Progress], None] | None = None,
    limit: int | None = None,
) -> LoopReport:
    """Run until the source ends.

    The model works in the caller's thread. If it is slower than a live source, only the newest
    frame waits for it, and the others are dropped and counted; a file waits. Sinks are closed here,
    in the writer thread; the source is left to its owner, except that a reader which hangs inside
    it is abandoned after a second, with a warning.

    Args:
        process: Frames to label maps, such as `Segmenter.stream`.
        sinks: Each takes every result.
        queue_size: Frames of a file that wait for the model at most, and results that wait for the
            sinks. Of a live source one frame waits, whatever this is.
        on_progress: Called in the caller's thread after each label map.
        limit: Frames to take at most; None takes all.

    Returns:
        What was done.

    Raises:
        LoopInterrupted: Ctrl-C; a KeyboardInterrupt that carries the report. A second Ctrl-C does
            not wait for the sinks.
        ValueError: queue_size or limit is below 1, or process gave more or fewer label maps than it
            was given frames.
        Exception: whatever the source, process, a sink or on_progress raised first. Later errors
            are logged as warnings.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit {limit} is not at least 1")
    loop = _Loop(
        source, process, sinks=sinks, queue_size=queue_size, on_progress=on_progress, limit=limit
    )
    return loop.run()


class _Loop:
    """A single run: what the three threads share."""

    def __init__(
        self,
        source: Source,
        process: Process,
        *,
        sinks: Sequence[Sink],
        queue_size: int,
        on_progress: Callable[[Progress], None] | None,
        limit: int | None,
    ) -> None:
        self._source = source
        self._process = process
        self._sinks = sinks
        self._on_progress = on_progress
        self._limit = limit
        self._is_live = source.info.is_live
        self._total = source.info.frame_count
        if limit is not None:
            self._total = limit if self._total is None else min(limit, self._total)
        self._results: Channel[Result] = Channel(queue_size)
        self._reader = Reader(source, queue_size=queue_size, on_error=self._fail)
        self._is_stopped = threading.Event()
        self._is_written = threading.Event()
        self._lock = threading.Lock()
        self._error: BaseException | None = None
        self._stop: Stop = "end of source"
        self._read_at: deque[float] = deque()
        self._latencies_ms: deque[float] = deque(maxlen=REMEMBERED_FRAMES)
        self._stamps: deque[float] = deque(maxlen=REMEMBERED_FRAMES)
        self._recent: deque[float] = deque(maxlen=RECENT_FRAMES)
        self._count = 0
        self._written = 0  # of the writer thread, which no signal interrupts

    def run(self) -> LoopReport:
        started = time.perf_counter()
        # A daemon: a second Ctrl-C must not keep the process alive.
        writer = threading.Thread(target=self._write, name="fcn-trt writer", daemon=True)
        with self._caught():
            writer.start()
            self._reader.start()
            self._segment()
            self._results.finish()
            # Not a join: one that Ctrl-C interrupts takes the thread for ended (bpo-45274, 3.11).
            self._is_written.wait()
        self._end()
        writer.join()
        self._reader.close()
        return self._outcome(time.perf_counter() - started)

    def _segment(self) -> None:
        """Take frames from one queue through the model to the other, in the caller's thread."""
        results = self._process(self._feed())
        with self._caught():
            for frame, label_map in results:
                if self._is_stopped.is_set():
                    break
                self._take(frame, label_map)
        # A generator ends here and not when it is collected, so that its frames in flight are done
        # with before the model is closed.
        close = getattr(results, "close", None)
        if close is not None:
            close()
        if self._read_at and not self._is_stopped.is_set():
            raise ValueError(f"process gave no label map for {len(self._read_at)} of its frames")

    def _feed(self) -> Iterator[Frame]:
        for count, (read_at, frame) in enumerate(self._reader, start=1):
            self._read_at.append(read_at if self._is_live else time.perf_counter())
            yield frame
            if count == self._limit:
                self._stop = "limit"
                return

    def _take(self, frame: Frame, label_map: LabelMap) -> None:
        if not self._read_at:
            raise ValueError("process gave more label maps than it was given frames")
        now, read_at = time.perf_counter(), self._read_at.popleft()
        self._latencies_ms.append((now - read_at) * 1000)
        self._stamps.append(now)
        self._recent.append(now)
        result = Result(index=self._count, frame=frame, label_map=label_map, captured_at=read_at)
        self._count += 1
        if self._results.put(result) and self._on_progress is not None:
            self._on_progress(
                Progress(
                    frames=self._count,
                    total=self._total,
                    rate_fps=rate_fps(self._recent),
                    latency_ms=self._latencies_ms[-1],
                    dropped=self._reader.dropped,
                )
            )

    def _write(self) -> None:
        """Write the second queue into the sinks and close them, in the writer thread."""
        with self._caught():
            for result in self._results:
                for sink in self._sinks:
                    sink.write(result)
                self._written += 1
                if any(sink.has_ended for sink in self._sinks):
                    self._stop = "closed"
                    self._end()
        for sink in self._sinks:
            with self._caught():
                sink.close()
        self._is_written.set()

    def _end(self) -> None:
        """Make every thread stop waiting and start nothing more."""
        self._is_stopped.set()
        self._reader.stop()
        self._results.stop()

    @contextmanager
    def _caught(self) -> Iterator[None]:
        """Keep the first error of any thread for the caller, and end the loop."""
        try:
            yield
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        with self._lock:
            if self._error is None:
                self._error = error
            else:
                _log.warning("after %r came %r", self._error, error)
        self._end()

    def _outcome(self, elapsed_s: float) -> LoopReport:
        p50, p90, p99 = percentiles(self._latencies_ms) if self._latencies_ms else (0.0, 0.0, 0.0)
        interrupted = isinstance(self._error, KeyboardInterrupt)
        report = LoopReport(
            frames=self._written,
            dropped=self._reader.dropped,
            elapsed_s=elapsed_s,
            rate_fps=rate_fps(self._stamps),
            latency_p50_ms=p50,
            latency_p90_ms=p90,
            latency_p99_ms=p99,
            latency_has_queue=self._is_live,
            stop="interrupted" if interrupted else self._stop,
        )
        if interrupted:
            raise LoopInterrupted(report) from self._error
        if self._error is not None:
            raise self._error
        return report
