"""One batch in flight on the GPU: its stream, its memory, and the graph of all its stages.

    frame -> pinned -> device -> tensor -> network -> logits -> label map -> pinned -> label map
             (copy)    preprocess          executor   decode    (copy)

On an integrated GPU the pinned memory is the device's own, and both copies vanish. Memory is made
when frames of a new size come, and never per frame. After the first frames of a size the stages are
captured as a CUDA graph and started with one call.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from itertools import pairwise
from typing import TypeVar

import numpy as np

from fcn_trt.cuda.context import DeviceContext
from fcn_trt.cuda.device_stages import DeviceStages, FrameView
from fcn_trt.cuda.graph import CaptureRefusedError, capture
from fcn_trt.cuda.memory import DeviceBuffer, PinnedBuffer, copy_to_host
from fcn_trt.cuda.stream import Event, Stream
from fcn_trt.engine.tensorrt.collector import collector_paused
from fcn_trt.errors import EngineError
from fcn_trt.files import Closing
from fcn_trt.runtime.backend import Executor
from fcn_trt.runtime.frame_memory import BufferPool
from fcn_trt.spec import INPUT_NAME, OUTPUT_NAME, Frame, LabelMap, Logits, Size, Spec
from fcn_trt.stages.overlay import DEFAULT_OPACITY

__all__ = ["DeviceSlot"]

WARM_UP_RUNS = 2
"""Runs before the capture; in the first one a network may still allocate and choose kernels."""

_log = logging.getLogger(__name__)


_Part = TypeVar("_Part", bound=Closing)


class DeviceSlot:
    """A runner of one batch at a time on its own stream; used by one thread at a time.

    Args:
        executor: Computes the network; the slot closes it.
        palette_address: (256, 4) uint8 BGRx colours on the device.
        on_refused: Called with the reason if the stages cannot be captured as a graph; they are
            then enqueued one by one.

    Raises:
        EngineError: the device has no memory for it; then the executor is closed, too.
    """

    def __init__(
        self,
        context: DeviceContext,
        spec: Spec,
        stages: DeviceStages,
        executor: Executor,
        palette_address: int,
        *,
        on_refused: Callable[[CaptureRefusedError], None],
    ) -> None:
        self._on_refused = on_refused
        self._context, self._spec, self._stages = context, spec, stages
        self._executor, self._palette_address = executor, palette_address
        self._tensor_bytes = 3 * spec.input_size[0] * spec.input_size[1] * 4
        self._logits_shape = (len(spec.classes), *spec.logits_size)
        self._logits_type = np.dtype(spec.logits_type)
        self._image_logits_bytes = int(np.prod(self._logits_shape)) * self._logits_type.itemsize
        self._pool = BufferPool(context)
        self._used = self._pool.none
        self._logits_host: PinnedBuffer | None = None  # made when logits are first asked for
        self._takes_graphs = True
        self._fixed = ExitStack()
        with ExitStack() as failed:
            failed.callback(self.close)
            self.stream = self._add(Stream(context))
            self._done = self._add(Event(context))
            self._tensor = self._add(DeviceBuffer(context, spec.batch * self._tensor_bytes))
            self._logits = self._add(DeviceBuffer(context, spec.batch * self._image_logits_bytes))
            failed.pop_all()

    def _add(self, part: _Part) -> _Part:
        """Free a part with the slot."""
        self._fixed.callback(part.close)
        return part

    def submit(self, frames: Sequence[Frame], *, opacity: float | None = None) -> None:
        """Copy frames and start the work on them; does not wait.

        Args:
            frames: 1 to batch frames, each (H, W, 3) uint8 BGR of any size.
            opacity: Of colours painted over them; None paints none.

        Raises:
            EngineError: the device refuses.
        """
        sizes = tuple((frame.shape[0], frame.shape[1]) for frame in frames)
        buffers = self._used = self._pool.find(
            sizes, painted=opacity is not None, stream=self.stream
        )
        buffers.set_opacity(opacity)
        for image, frame in zip(buffers.images, frames, strict=True):
            np.copyto(image.frame.host.array.reshape(frame.shape), frame)
        if buffers.graph is not None:
            buffers.graph.launch(self.stream)
        else:
            self._enqueue()
        self._done.record(self.stream)
        buffers.runs += 1
        if buffers.runs >= WARM_UP_RUNS and buffers.graph is None and self._takes_graphs:
            self._capture()

    def label_maps(self) -> list[LabelMap]:
        """Wait, then copy the label map of each frame.

        Raises:
            EngineError: a stage failed.
        """
        self._done.synchronize()
        return [
            image.label_map.host.array.reshape(image.size).copy() for image in self._used.images
        ]

    def views(self) -> list[Frame]:
        """Wait, then copy each frame with its colours.

        Raises:
            EngineError: a stage failed.
            RuntimeError: none were asked for.
        """
        self._done.synchronize()
        views = [image.view for image in self._used.images]
        if not all(views):
            raise RuntimeError("no colours were painted; submit the frames with an opacity")
        return [
            view.host.array.reshape((*image.size, 3)).copy()
            for image, view in zip(self._used.images, views, strict=True)
            if view is not None
        ]

    def logits(self) -> Logits:
        """Wait, then copy the logits of the frames.

        Returns:
            (frames, C, h, w) float32.

        Raises:
            EngineError: a stage failed.
        """
        size_bytes = len(self._used.images) * self._image_logits_bytes
        if self._logits_host is None:
            self._logits_host = self._add(PinnedBuffer(self._context, self._logits.size_bytes))
        copy_to_host(self._logits_host, self._logits.address, size_bytes, self.stream)
        self.stream.synchronize()
        found = self._logits_host.array[:size_bytes].view(self._logits_type)
        logits: Logits = found.reshape((-1, *self._logits_shape)).astype(np.float32)
        return logits

    def segment_on_device(
        self, frame: FrameView, label_address: int, *, after: Sequence[int] = ()
    ) -> None:
        """Segment one frame that is on the device already; waits.

        Args:
            frame: On this device.
            label_address: Room for (H, W) uint8.
            after: Streams of other libraries whose work comes first.

        Raises:
            EngineError: a stage failed.
        """
        for handle in after:
            self.stream.wait_for_handle(handle)
        try:
            self._preprocess(frame, 0)
            self._infer()
            self._decode(frame.size, 0, label_address)
        finally:  # nothing may use the caller's memory any more
            self.stream.synchronize()

    def time_stages(self, frame: Frame) -> dict[str, float]:
        """Time each stage of a full batch of one frame, in seconds, by events; waits.

        "copy in" holds the copy to pinned memory, which the processor makes; "copy out" is that of
        the label maps.

        Raises:
            EngineError: a stage failed.
        """
        sizes = ((frame.shape[0], frame.shape[1]),) * self._spec.batch
        buffers = self._used = self._pool.find(sizes, painted=True, stream=self.stream)
        buffers.set_opacity(DEFAULT_OPACITY)
        started = time.perf_counter()
        for image in buffers.images:
            np.copyto(image.frame.host.array.reshape(frame.shape), frame)
        copy_s = time.perf_counter() - started
        steps = {
            "copy in": self._upload,
            "preprocess": self._preprocess_all,
            "network": self._infer,
            "decode": self._decode_all,
            "copy out": self._download_label_maps,
            "overlay": self._paint_all,
        }
        with ExitStack() as stack:
            marks = [Event(self._context, timing=True) for _ in range(len(steps) + 1)]
            for mark in marks:
                stack.callback(mark.close)
            stack.callback(self.stream.synchronize)  # nothing may change the memory before
            marks[0].record(self.stream)
            for step, mark in zip(steps.values(), marks[1:], strict=True):
                step()
                mark.record(self.stream)
            marks[-1].synchronize()
            spans = [after.elapsed_ms(before) / 1000 for before, after in pairwise(marks)]
        seconds = dict(zip(steps, spans, strict=True))
        return seconds | {"copy in": copy_s + seconds["copy in"]}

    def stop(self) -> None:
        """Wait for what is in flight, then free the graph and the executor; hides no other error.

        The engine outlives its executors, and memory outlives the engine.
        """
        try:
            self.stream.synchronize()
        except (EngineError, RuntimeError) as error:
            _log.warning("while closing: %s", str(error))  # a kept error would keep its stream
        self._pool.drop_graphs()
        self._executor.close()

    def close(self) -> None:
        """Free everything; a second call does nothing."""
        self._pool.close()
        self._executor.close()
        self._fixed.close()

    def _enqueue(self) -> None:
        """Enqueue all stages of a batch, in order."""
        self._upload()
        self._preprocess_all()
        self._infer()
        self._decode_all()
        if self._used.opacity is None:
            self._download_label_maps()
        else:
            self._paint_all()
            for image in self._used.images:
                if image.view is not None:
                    image.view.download(self.stream)

    def _upload(self) -> None:
        for image in self._used.images:
            image.frame.upload(self.stream)

    def _preprocess_all(self) -> None:
        for index, image in enumerate(self._used.images):
            self._preprocess(image.on_device, index)

    def _decode_all(self) -> None:
        for index, image in enumerate(self._used.images):
            self._decode(image.size, index, image.label_map.address)

    def _download_label_maps(self) -> None:
        for image in self._used.images:
            image.label_map.download(self.stream)

    def _paint_all(self) -> None:
        for image in self._used.images:
            if image.view is not None:
                self._stages.overlay(
                    self.stream,
                    image.on_device,
                    image.label_map.address,
                    image.size,
                    self._palette_address,
                    image.view.address,
                    opacity=self._used.opacity or 0.0,
                )

    def _preprocess(self, frame: FrameView, index: int) -> None:
        self._stages.preprocess(
            self.stream,
            frame,
            self._tensor.address + index * self._tensor_bytes,
            self._spec.input_size,
            mean=self._spec.mean,
            std=self._spec.std,
            dtype=np.dtype(np.float32),
        )

    def _infer(self) -> None:
        inputs, outputs = {INPUT_NAME: self._tensor.address}, {OUTPUT_NAME: self._logits.address}
        with self._context.active():
            self._executor.enqueue(inputs, outputs, self.stream.handle)

    def _decode(self, size: Size, index: int, label_address: int) -> None:
        self._stages.decode(
            self.stream,
            self._logits.address + index * self._image_logits_bytes,
            self._logits_shape,
            self._logits_type,
            size,
            label_address,
            align_corners=self._spec.align_corners,
        )

    def _capture(self) -> None:
        """Capture the stages as a graph, unless that is refused."""
        try:
            with collector_paused():  # what it frees meanwhile would spoil the capture
                self._used.graph = capture(self.stream, self._enqueue)
        except CaptureRefusedError as error:
            self._takes_graphs = False
            self._on_refused(error)
