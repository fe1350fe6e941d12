"""The GPU backend: the kernels around a TensorRT engine, several batches in flight.

A frame passes through one slot, see `device_slot`. Slots have streams of their own, so that one
batch is copied in while another computes and a third is copied out.
"""

from __future__ import annotations

import atexit
import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import numpy as np
import numpy.typing as npt

from fcn_trt.arrays import FRAME
from fcn_trt.cuda.context import DeviceContext, primary_context
from fcn_trt.cuda.device_stages import DeviceStages, FrameView, palette_table
from fcn_trt.cuda.graph import CaptureRefusedError
from fcn_trt.cuda.memory import (
    DeviceArray,
    DeviceBuffer,
    PinnedBuffer,
    copy_to_device,
    device_array,
)
from fcn_trt.cuda.stream import Stream
from fcn_trt.engine.bundle import Bundle
from fcn_trt.engine.tensorrt.execution import LoadedEngine
from fcn_trt.errors import EngineError
from fcn_trt.forks import ForkedLibrary, keep, was_forked
from fcn_trt.labels import palette_array
from fcn_trt.runtime.backend import Engine
from fcn_trt.runtime.device_slot import DeviceSlot
from fcn_trt.runtime.prepared_images import PreparedImages
from fcn_trt.spec import Frame, LabelMap, Logits, Size, Spec

__all__ = ["SLOTS", "DeviceBackend", "load_tensorrt"]

SLOTS = 3
"""One batch is copied in, one computes, one is copied out."""

_log = logging.getLogger(__name__)


class DeviceBackend:
    """The backend of an engine on the GPU; see `Backend`.

    Used by one thread at a time, but by any thread: the CUDA context is made current in each call.
    Closing from another thread waits for the call that is under way. What was not closed is closed
    when the interpreter ends, while the driver is still there.

    Args:
        cubins: The kernels for this GPU by file name, see `fcn_trt.cuda.nvrtc`.
        engine: Makes one executor per slot; the backend closes it.
        description: The library, the GPU, and the precision that was proven, for people.

    Raises:
        EngineError: the device refuses; then the engine is closed, too.
    """

    library: ForkedLibrary = "CUDA"

    def __init__(
        self,
        context: DeviceContext,
        spec: Spec,
        *,
        cubins: Mapping[str, bytes],
        engine: Engine,
        slots: int = SLOTS,
        description: str,
    ) -> None:
        self._context, self.description = context, description
        self._spec, self._engine = spec, engine
        self._prepared: PreparedImages | None = None  # made when prepared images first come
        self._lock = threading.RLock()
        self._is_closed = False
        self._was_refused = False
        self._slots: list[DeviceSlot] = []
        self._parts = ExitStack()
        with context.active(), ExitStack() as failed:
            failed.callback(engine.close)
            failed.callback(self.close)
            stages = DeviceStages(context, cubins)
            self._parts.callback(stages.close)
            palette = _device_palette(context, spec)
            self._parts.callback(palette.close)
            for _ in range(slots):
                slot = DeviceSlot(
                    context,
                    spec,
                    stages,
                    engine.executor((spec.batch, 3, *spec.input_size)),
                    palette.address,
                    on_refused=self._say_once,
                )
                self._slots.append(slot)
                self._parts.callback(slot.close)
            self._parts.callback(self._drop_prepared)
            self._parts.callback(engine.close)
            self._parts.callback(self._stop_prepared)
            for slot in self._slots:
                self._parts.callback(slot.stop)
            failed.pop_all()
        keep("CUDA", self)
        atexit.register(self.close)

    def _say_once(self, error: CaptureRefusedError) -> None:
        if not self._was_refused:
            _log.warning("frames run without a CUDA graph, which takes longer: %s", str(error))
        self._was_refused = True

    @property
    def slots(self) -> int:
        """Batches in flight at most."""
        return len(self._slots)

    def submit(self, slot: int, frames: Sequence[Frame]) -> None:
        """Copy frames to the slot and start the work on them."""
        for frame in frames:
            _check_frame(frame)
        with self._open(slot) as entry:
            entry.submit(frames)

    def collect(self, slot: int) -> list[LabelMap]:
        """Wait for the slot and copy each frame's label map."""
        with self._open(slot) as entry:
            return entry.label_maps()

    def collect_logits(self, slot: int) -> Logits:
        """Wait for the slot and copy its logits."""
        with self._open(slot) as entry:
            return entry.logits()

    def render(self, frame: Frame, opacity: float) -> Frame:
        """Segment and paint one frame on the device."""
        _check_frame(frame)
        with self._open(0) as entry:
            entry.submit([frame], opacity=opacity)
            (view,) = entry.views()
            return view

    def network(self, images: npt.NDArray[np.float32]) -> Logits:
        """Run the network alone, in batches of the engine's; memory of the last size is kept."""
        size: Size = (images.shape[2], images.shape[3])
        if not self._spec.takes(size):
            raise EngineError(
                f"this engine takes images of {_sizes(self._spec)}, not {size[0]}x{size[1]}; build "
                "it with [dynamic] sizes that include that, build its network.onnx for openvino, "
                "or evaluate with --protocol run, which resizes them to that"
            )
        batch = self._spec.batch
        with self._open(0):
            prepared = self._prepare(size)
            parts = [prepared.run(images[i : i + batch]) for i in range(0, len(images), batch)]
        return np.concatenate(parts)

    def time_stages(self, frame: Frame) -> dict[str, float]:
        """Time every stage of one frame by events on the slot's stream."""
        _check_frame(frame)
        with self._open(0) as entry:
            return entry.time_stages(frame)

    def segment_array(self, frame: object, out: object) -> None:
        """Segment a frame that is on this GPU, as `Segmenter.segment_array` does; waits."""
        source, target = device_array(frame), device_array(out)
        view = _frame_view(source)
        if target.is_read_only:
            raise ValueError("the label map's array is read-only; give one that can be written")
        if target.dtype != np.uint8 or target.shape != view.size:
            raise ValueError(
                f"the label map of this frame is {view.size} uint8, not {target.shape} "
                f"{target.dtype}"
            )
        after = [array.stream for array in (source, target) if array.stream is not None]
        with self._open(0) as entry:
            entry.segment_on_device(view, target.address, after=after)

    def close(self) -> None:
        """Wait for what is in flight, then free graphs, executors, the engine, memory, streams.

        After a fork nothing is freed: it is the parent's.
        """
        atexit.unregister(self.close)
        if was_forked(self.library):
            return
        with self._lock:
            parts, self._parts, self._slots = self._parts, ExitStack(), []
            if not self._is_closed:
                self._is_closed = True
                with self._context.active():
                    parts.close()

    def _prepare(self, size: Size) -> PreparedImages:
        """Return the runner of prepared images of a size; one of another size is freed."""
        if self._prepared is None or self._prepared.size != size:
            self._drop_prepared()
            shape = (self._spec.batch, 3, *size)
            with self._context.active():
                executor = self._engine.executor(shape)
                self._prepared = PreparedImages(self._context, self._spec, executor, shape)
        return self._prepared

    def _stop_prepared(self) -> None:
        if self._prepared is not None:
            self._prepared.stop()

    def _drop_prepared(self) -> None:
        prepared, self._prepared = self._prepared, None
        if prepared is not None:
            with self._context.active():
                prepared.stop()
                prepared.close()

    @contextmanager
    def _open(self, slot: int) -> Iterator[DeviceSlot]:
        """Yield a slot, which is not freed before the block ends.

        Raises:
            RuntimeError: the backend is closed.
        """
        with self._lock:
            if not self._slots:
                raise RuntimeError("this engine was closed meanwhile; load the bundle again")
            yield self._slots[slot]


def load_tensorrt(bundle: Bundle) -> DeviceBackend:
    """Make a bundle's engine ready on this machine's GPU.

    Args:
        bundle: One that was built for it, see `preflight`.

    Raises:
        MissingExtraError: PyCUDA, cuda-bindings or the library is not installed.
        BundleError: it carries no kernels for this GPU.
        EngineError: the library or the driver refuses.
    """
    manifest = bundle.manifest
    context = primary_context()
    cubins = bundle.kernels(context.compute_capability)
    with context.active():
        engine = LoadedEngine(bundle)
    return DeviceBackend(
        context,
        manifest.spec,
        cubins=cubins,
        engine=engine,
        description=(
            f"{engine.library} on {context.name}, convolutions: "
            f"{manifest.precision_proven.describe()}"
        ),
    )


def _sizes(spec: Spec) -> str:
    """Describe the sizes of images that an engine takes."""
    if spec.dynamic is None:
        return f"{spec.input_size[0]}x{spec.input_size[1]} only"
    low, high = spec.dynamic.min_size, spec.dynamic.max_size
    return f"{low[0]}x{low[1]} to {high[0]}x{high[1]}"


def _device_palette(context: DeviceContext, spec: Spec) -> DeviceBuffer:
    """Put the palette, (256, 4) uint8 BGRx, on the device; what has no class is black."""
    table = palette_table(palette_array(spec.palette))
    with ExitStack() as stack:
        host = PinnedBuffer(context, table.nbytes)
        stack.callback(host.close)
        stream = Stream(context)
        stack.callback(stream.close)
        with ExitStack() as failed:
            palette = DeviceBuffer(context, table.nbytes)
            failed.callback(palette.close)
            np.copyto(host.array, table.reshape(-1))
            copy_to_device(palette.address, host, table.nbytes, stream)
            stream.synchronize()
            failed.pop_all()
    return palette


def _check_frame(frame: Frame) -> None:
    """Refuse what is no frame, or larger than the kernels take, before memory is made for it."""
    FRAME.check(frame)
    FrameView(address=0, size=(frame.shape[0], frame.shape[1]), pitch_bytes=3 * frame.shape[1])


def _frame_view(array: DeviceArray) -> FrameView:
    """View an array on the device as kernels take it."""
    if array.dtype != np.uint8 or len(array.shape) not in (2, 3) or 0 in array.shape:
        raise ValueError(f"a frame on the device is uint8, not {array.shape} {array.dtype}")
    height, width = array.shape[:2]
    if len(array.shape) == 2:
        if height % 3 or width % 2:
            raise ValueError(f"an NV12 frame is (3 H / 2, W) with even H and W, not {array.shape}")
        return FrameView(
            address=array.address, size=(height // 3 * 2, width), pitch_bytes=width, layout="nv12"
        )
    channels = array.shape[2]
    if channels not in (3, 4):
        raise ValueError(f"a frame on the device is (H, W, 3) or (H, W, 4), not {array.shape}")
    return FrameView(
        address=array.address,
        size=(height, width),
        pitch_bytes=width * channels,
        layout="bgr" if channels == 3 else "bgrx",
    )
