"""One batch on its way through the GPU: its stream, its memory, and the graph of the whole way.

    frame -> pinned -> device -> tensor -> network -> logits -> label map -> pinned -> label map
             (copy)    preprocess          executor   decode    (copy)

On an integrated GPU the pinned memory is the device's own, and both copies vanish. Memory is made
when frames of another size come, and never per frame. After the first frames the way is captured
as a CUDA graph and started with one call.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np

from fcn_trt.cuda.context import DeviceContext
from fcn_trt.cuda.device_stages import DeviceStages, FrameView
from fcn_trt.cuda.graph import CaptureRefusedError, Graph, capture
from fcn_trt.cuda.memory import DeviceBuffer, PinnedBuffer, copy_to_host
from fcn_trt.cuda.stream import Event, Stream
from fcn_trt.errors import EngineError
from fcn_trt.runtime.executor import Executor
from fcn_trt.runtime.frame_memory import FrameMemory, Pair
from fcn_trt.spec import INPUT_NAME, OUTPUT_NAME, Frame, LabelMap, Logits, Size, Spec

__all__ = ["DeviceSlot", "Target"]

WARM_UP_RUNS = 2
"""Runs before the capture; in the first one a network may still allocate and choose kernels."""

_log = logging.getLogger(__name__)


class _Closable(Protocol):
    def close(self) -> None: ...


_Part = TypeVar("_Part", bound=_Closable)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What becomes of each frame of a batch.

    Attributes:
        sizes: (height, width) of each frame.
        opacity: Of the colours that are painted over the frames; None paints none.
    """

    sizes: tuple[Size, ...]
    opacity: float | None


class DeviceSlot:
    """Runs one batch at a time on a stream of its own; used by one thread at a time.

    Args:
        context: Of the GPU.
        spec: The network.
        stages: The kernels.
        executor: Computes the network; the slot closes it.
        palette_address: (256, 4) uint8 BGRx colours on the device.
        on_refused: Called with the reason if the way cannot be captured as a graph; it is enqueued
            piece by piece then.

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
        self._target: Target | None = None
        self._images: list[FrameMemory] = []
        self._runs = 0
        self._graph: Graph | None = None
        self._takes_graphs = True
        self._memory = ExitStack()  # of the frames' sizes
        self._fixed = ExitStack()
        with ExitStack() as failed:
            failed.callback(self.close)
            self._fixed.callback(self._memory.close)
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
        """Copy frames and start their way; does not wait.

        Args:
            frames: 1 to batch frames, each (H, W, 3) uint8 BGR of any size.
            opacity: Of colours painted over them; None paints none.

        Raises:
            EngineError: the device refuses.
        """
        sizes = tuple((frame.shape[0], frame.shape[1]) for frame in frames)
        target = Target(sizes=sizes, opacity=opacity)
        if target != self._target:
            self._prepare(target)
        for image, frame in zip(self._images, frames, strict=True):
            np.copyto(image.frame.host.array.reshape(frame.shape), frame)
        if self._graph is not None:
            self._graph.launch(self.stream)
        else:
            self._enqueue()
        self._done.record(self.stream)
        self._runs += 1
        if self._runs == WARM_UP_RUNS and self._takes_graphs:
            self._capture()

    def label_maps(self) -> list[LabelMap]:
        """Wait, then copy the label map of each frame.

        Raises:
            EngineError: something on the way failed.
        """
        self._done.synchronize()
        return [image.label_map.host.array.reshape(image.size).copy() for image in self._images]

    def views(self) -> list[Frame]:
        """Wait, then copy each frame with its colours.

        Raises:
            EngineError: something on the way failed.
            RuntimeError: none were asked for.
        """
        self._done.synchronize()
        views = [image.view for image in self._images]
        if not all(views):
            raise RuntimeError("no colours were painted; submit the frames with an opacity")
        return [
            view.host.array.reshape((*image.size, 3)).copy()
            for image, view in zip(self._images, views, strict=True)
            if view is not None
        ]

    def logits(self) -> Logits:
        """Wait, then copy the logits of the frames.

        Returns:
            (frames, C, h, w) float32.

        Raises:
            EngineError: something on the way failed.
        """
        size_bytes = len(self._images) * self._image_logits_bytes
        with PinnedBuffer(self._context, size_bytes) as host:
            copy_to_host(host, self._logits.address, size_bytes, self.stream)
            self.stream.synchronize()
            found = host.array[:size_bytes].view(self._logits_type)
            logits: Logits = found.reshape((-1, *self._logits_shape)).astype(np.float32)
            return logits

    def segment_on_device(
        self, frame: FrameView, label_address: int, *, after: Sequence[int] = ()
    ) -> None:
        """The whole way of one frame that is on the device already; waits.

        Args:
            frame: On this device.
            label_address: Room for (H, W) uint8.
            after: Streams of other libraries whose work comes first.

        Raises:
            EngineError: something on the way failed.
        """
        for handle in after:
            self.stream.wait_for_handle(handle)
        self._preprocess(frame, 0)
        self._infer()
        self._decode(frame.size, 0, label_address)
        self.stream.synchronize()

    def stop(self) -> None:
        """Wait for what is in flight, then free the graph and the executor; hides no other error.

        The engine outlives its executors, and memory outlives the engine.
        """
        try:
            self.stream.synchronize()
        except (EngineError, RuntimeError) as error:
            _log.warning("while closing: %s", str(error))  # a kept error would keep its stream
        self._drop_graph()
        self._executor.close()

    def close(self) -> None:
        """Free everything; a second call does nothing."""
        self._drop_graph()
        self._executor.close()
        self._fixed.close()

    def _prepare(self, target: Target) -> None:
        """Memory for frames of these sizes, in place of what was there."""
        self.stream.synchronize()
        self._drop_graph()
        self._target, self._images, self._runs = None, [], 0
        self._memory.close()
        with ExitStack() as stack:
            painted = target.opacity is not None
            images = [
                FrameMemory.make(self._context, size, painted=painted, stack=stack)
                for size in target.sizes
            ]
            self._memory.push(stack.pop_all())
        self._target, self._images = target, images

    def _enqueue(self) -> None:
        """The whole way of a batch, in order."""
        for index, image in enumerate(self._images):
            image.frame.upload(self.stream)
            self._preprocess(image.on_device, index)
        self._infer()
        for index, image in enumerate(self._images):
            self._decode(image.size, index, image.label_map.address)
            image.label_map.download(self.stream)
            if image.view is not None:
                self._paint(image, image.view)

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

    def _paint(self, image: FrameMemory, view: Pair) -> None:
        opacity = self._target.opacity if self._target is not None else None
        self._stages.overlay(
            self.stream,
            image.on_device,
            image.label_map.address,
            image.size,
            self._palette_address,
            view.address,
            opacity=opacity or 0.0,
        )
        view.download(self.stream)

    def _capture(self) -> None:
        """Capture the way, unless that is refused."""
        try:
            self._graph = capture(self.stream, self._enqueue)
        except CaptureRefusedError as error:
            self._takes_graphs = False
            self._on_refused(error)

    def _drop_graph(self) -> None:
        graph, self._graph = self._graph, None
        if graph is not None:
            graph.close()
