"""`Segmenter`: the class that users hold."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import count, islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fcn_trt.arrays import FRAME, IMAGES
from fcn_trt.engine.bundle import Bundle, add_check, load_bundle
from fcn_trt.engine.manifest import Manifest
from fcn_trt.engine.preflight import obstacle, require_runs_here
from fcn_trt.errors import BundleError, EngineError, OutputError
from fcn_trt.files import Closing
from fcn_trt.forks import require_unforked, was_forked
from fcn_trt.labels import palette_array
from fcn_trt.runtime.backend import ArrayBackend, Backend
from fcn_trt.runtime.check import Labeller, check
from fcn_trt.spec import Frame, LabelMap, Logits, Result, Spec
from fcn_trt.stages.overlay import DEFAULT_OPACITY, overlay

__all__ = ["Segmenter", "labelling"]

_log = logging.getLogger(__name__)


class Segmenter(Closing):
    """The engine of a bundle, which segments frames.

    Frames may have any size; each label map has the size of its own frame. A segmenter works for
    one thread at a time and refuses a second one; open one segmenter per thread. A process that is
    forked from one with a segmenter has none and can load none. Close it: what a GPU holds for it
    is freed then, or else when the interpreter ends.

    Example:
        >>> with Segmenter.load("engines/demo") as segmenter:
        ...     label_map = segmenter.segment(frame)
        ...     view = segmenter.render(frame, label_map)
    """

    def __init__(self, manifest: Manifest, backend: Backend) -> None:
        self.manifest = manifest
        self._backend = backend
        self._palette = palette_array(manifest.spec.palette)
        self._busy = threading.Lock()
        self._closed = False

    @classmethod
    def load(cls, bundle: str | Path) -> Segmenter:
        """Check a bundle and make its engine ready.

        An engine that could not run where it was built is held against its source now, once.

        Raises:
            BundleError: it is incomplete, altered, or cannot run here.
            EngineError: the engine cannot be loaded.
            AgreementError: it labels otherwise than its source.
        """
        loaded = load_bundle(Path(bundle))
        require_runs_here(loaded)
        segmenter = cls(loaded.manifest, _backend(loaded))
        if loaded.manifest.is_pending:
            try:
                segmenter._check_first_load(loaded)
            except BaseException:
                segmenter.close()
                raise
        return segmenter

    def _check_first_load(self, bundle: Bundle) -> None:
        """Hold an engine that could not run where it was built against its source, once."""
        reference = bundle.network.reference()
        if reference is None:
            raise BundleError(f"{bundle.path} lost its reference; build the bundle again")
        found = check(
            "load",
            reference,
            self.segment,
            name=str(bundle.path),
            precision=self.spec.precision,
            accept=bundle.manifest.checks[-1].floor,
        )
        _log.info("%s: %s", bundle.path, found.describe())
        try:
            self.manifest = add_check(bundle, found).manifest
        except OutputError as error:
            _log.warning("%s will be checked again at its next load: %s", bundle.path, error)

    @property
    def spec(self) -> Spec:
        """What the network is."""
        return self.manifest.spec

    @property
    def description(self) -> str:
        """What runs where and in which precision, for people."""
        return self._backend.description

    def segment(self, frame: Frame) -> LabelMap:
        """Segment one frame.

        Args:
            frame: (H, W, 3) uint8 BGR.

        Returns:
            (H, W) uint8 class indices, 255 is "no label".

        Raises:
            ValueError: the frame has another shape or type.
            RuntimeError: the segmenter is closed, or busy in another thread.
        """
        return self.segment_batch([frame])[0]

    def segment_batch(self, frames: Sequence[Frame]) -> list[LabelMap]:
        """Segment several frames, in order.

        Frames go through the engine in batches of the size it was built for; a last batch that is
        not full costs as much as a full one.

        Raises:
            ValueError: a frame has another shape or type.
            RuntimeError: the segmenter is closed, or busy in another thread.
        """
        return [result.label_map for result in self.stream(frames, copy=False)]

    def logits(self, frames: Sequence[Frame]) -> Logits:
        """Return the network's own output, for evaluation and comparison.

        Args:
            frames: 1 to `spec.batch` frames, each (H, W, 3) uint8 BGR.

        Returns:
            (len(frames), C, h, w) float32 before softmax, at the network's stride.

        Raises:
            ValueError: there are no or too many frames, or one has another shape or type.
            RuntimeError: the segmenter is closed, or busy in another thread.
        """
        frames = list(_frames(frames))
        if not 1 <= len(frames) <= self.spec.batch:
            raise ValueError(f"{len(frames)} frames: this engine takes 1 to {self.spec.batch}")
        with self._claim():
            self._backend.submit(0, frames)
            return self._backend.collect_logits(0)

    def network(self, images: npt.NDArray[np.float32]) -> Logits:
        """Return the network's own output for images that are prepared already, for evaluation.

        Args:
            images: (N, 3, H, W) float32 RGB, normalised; N at least 1. On the CPU of any size. On a
                GPU of the sizes that the engine was built for.

        Returns:
            (N, C, ceil(H / stride), ceil(W / stride)) float32 before softmax.

        Raises:
            ValueError: the images have another shape or type.
            EngineError: the engine takes no images of that size.
            RuntimeError: the segmenter is closed, or busy in another thread.
        """
        IMAGES.check(images)
        with self._claim():
            return self._backend.network(images)

    def time_stages(self, frame: Frame) -> dict[str, float]:
        """Time each stage by itself on a full batch of one frame; for benchmarks.

        Args:
            frame: (H, W, 3) uint8 BGR.

        Returns:
            Seconds by stage, in their order: preprocess, network, decode, overlay; on a GPU "copy
            in" comes first, and "copy out", of the label maps, before the overlay.

        Raises:
            ValueError: the frame has another shape or type.
            RuntimeError: the segmenter is closed, or busy in another thread.
        """
        with self._claim():
            return self._backend.time_stages(frame)

    def render(
        self, frame: Frame, label_map: LabelMap | None = None, *, opacity: float = DEFAULT_OPACITY
    ) -> Frame:
        """Paint a frame's classes over it.

        Args:
            frame: (H, W, 3) uint8 BGR.
            label_map: (H, W) uint8; None segments the frame first.
            opacity: Share of the colour, between 0 and 1.

        Returns:
            (H, W, 3) uint8 BGR.

        Raises:
            ValueError: a shape or type is wrong, or opacity is out of range.
            RuntimeError: label_map is None and the segmenter is closed or busy.
        """
        if label_map is not None:
            return overlay(frame, label_map, self._palette, opacity=opacity)
        if not 0 <= opacity <= 1:
            raise ValueError(f"opacity {opacity} is not between 0 and 1")
        with self._claim():
            return self._backend.render(frame, opacity)

    def segment_array(self, frame: object, out: object) -> None:
        """Segment a frame that is on the GPU into a label map on the GPU; no copy is made.

        Args:
            frame: Anything with `__cuda_array_interface__`, such as a torch or CuPy array: uint8,
                (H, W, 3) BGR, (H, W, 4) BGRx, or (3 H / 2, W) NV12, contiguous. If the interface
                names no stream, the work that wrote it must have ended: synchronise first.
            out: The same, (H, W) uint8; holds the label map when this returns.

        Raises:
            ValueError: an array has another shape, type or layout.
            EngineError: this bundle runs on the CPU, or the GPU failed.
            RuntimeError: the segmenter is closed, or busy in another thread.
        """
        with self._claim():
            if not isinstance(self._backend, ArrayBackend):
                raise EngineError(
                    "this bundle runs on the CPU and takes no arrays on a GPU; use segment, or "
                    "build it for tensorrt or tensorrt-rtx"
                )
            self._backend.segment_array(frame, out)

    def stream(
        self, frames: Iterable[Frame], *, in_flight: int | None = None, copy: bool = True
    ) -> Iterator[Result]:
        """Segment frames as they come, several batches in flight, results in order.

        The iterable is read only as far ahead as the engine has room. Frames and label maps of the
        results belong to the caller; nothing is overwritten later.

        Args:
            frames: Frames of any size, each (H, W, 3) uint8 BGR.
            in_flight: Batches in flight at most. None is as many as the backend has slots, which is
                fastest. 1 gives each batch's label maps before the next batch is read, which is
                soonest: for live video.
            copy: Whether each frame is copied when it is read, since the array may be filled again
                for the next one, as `cv2.VideoCapture.read(buffer)` does. False saves that, about
                1 ms for 1024x2048, where each frame has memory of its own.

        Yields:
            Each frame with its label map; a result unpacks into the two.

        Raises:
            ValueError: a frame has another shape or type, or in_flight is not 1 to the slots.
            RuntimeError: the segmenter is closed, or busy in another thread.
        """
        with self._claim():
            slots = self._backend.slots
            room = slots if in_flight is None else in_flight
            if not 1 <= room <= slots:
                raise ValueError(f"in_flight is {room}; this backend takes 1 to {slots}")
            source = map(np.copy, _frames(frames)) if copy else _frames(frames)
            submitted: deque[tuple[int, list[Frame]]] = deque()
            numbers = count()
            try:
                for turn in count():
                    self._check_open()  # it may have been closed between two results
                    batch = list(islice(source, self.spec.batch))
                    if batch:
                        slot = turn % slots
                        self._backend.submit(slot, batch)
                        submitted.append((slot, batch))
                    if submitted and (not batch or len(submitted) == room):
                        slot, done = submitted.popleft()
                        for frame, label_map in zip(done, self._backend.collect(slot), strict=True):
                            yield Result(frame=frame, label_map=label_map, index=next(numbers))
                    if not batch and not submitted:
                        return
            finally:
                is_gone = self._closed or was_forked(self._backend.library)
                for slot, _ in () if is_gone else submitted:
                    self._finish(slot)

    def close(self) -> None:
        """Free the engine; a second call does nothing."""
        if not self._closed:
            self._closed = True
            self._backend.close()

    def _finish(self, slot: int) -> None:
        """Wait for a slot whose label maps are discarded; an error in it hides no other."""
        try:
            self._backend.collect(slot)
        except (EngineError, RuntimeError) as error:  # closed at the interpreter's end
            _log.warning("while a stream ended: %s", str(error))

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("this segmenter is closed; load the bundle again")

    @contextmanager
    def _claim(self) -> Iterator[None]:
        self._check_open()
        require_unforked(self._backend.library, "run a network")
        if not self._busy.acquire(blocking=False):
            raise RuntimeError("this segmenter is busy; finish its stream or load one per thread")
        try:
            yield
        finally:
            self._busy.release()


def _frames(frames: Iterable[Frame]) -> Iterator[Frame]:
    """Yield the frames, and refuse what is not one when it is read."""
    for frame in frames:
        FRAME.check(frame)
        yield frame


def _backend(bundle: Bundle) -> Backend:
    """Open the backend of a bundle's target."""
    if bundle.manifest.target == "openvino":
        from fcn_trt.runtime.openvino import OpenVinoBackend

        return OpenVinoBackend(bundle)
    from fcn_trt.runtime.tensorrt import load_tensorrt

    return load_tensorrt(bundle)


def labelling(bundle: Bundle) -> AbstractContextManager[Labeller] | None:
    """Return a context that loads a bundle and labels frames; None where it does not run."""

    @contextmanager
    def opened() -> Iterator[Labeller]:
        with Segmenter.load(bundle.path) as segmenter:
            yield segmenter.segment

    return None if obstacle(bundle) else opened()
