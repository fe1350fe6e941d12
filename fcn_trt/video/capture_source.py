"""Video files, cameras, URLs and GStreamer pipelines: whatever cv2.VideoCapture reads."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from fcn_trt.errors import SourceError
from fcn_trt.files import Closing
from fcn_trt.foreign import require_regular
from fcn_trt.images import require_pixels
from fcn_trt.limits import is_whole_number
from fcn_trt.spec import Frame, Size
from fcn_trt.video.opencv_name import opencv_name, require_opencv_name
from fcn_trt.video.protocols import VideoInfo

__all__ = ["CaptureSource", "open_camera", "open_file", "open_stream", "quiet_opencv"]

CLOSE_TIMEOUT_S = 1.0
"""How long `close` waits for a read that another thread is stuck in."""

MISSING_S = 1.0
MISSING_SHARE = 0.02
"""A file may end this much before its own frame count says, whichever is more."""

_COUNTED_SUFFIXES = frozenset({".3gp", ".avi", ".m4v", ".mov", ".mp4"})
"""Containers that store a frame count. In others OpenCV multiplies duration by rate, which is wrong
where the rate varies (a browser's WebM), so the time of the last frame is compared instead."""

_SILENT = 0
"""cv2's LOG_LEVEL_SILENT, which OpenCV 4 does not name in Python."""

_log = logging.getLogger(__name__)


def open_file(path: Path) -> CaptureSource:
    """Open a video file.

    Raises:
        SourceError: it is no video, no frame of it can be decoded, or one is too large.
    """
    try:
        require_regular(path)
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from error
    with quiet_opencv(), opencv_name(path) as name:
        capture = cv2.VideoCapture(name, file_backend())
    if not capture.isOpened():
        raise SourceError(
            f"{path} is not a video that OpenCV can read: it is damaged, cut off, or something "
            "else; fetch it again or convert it to .mp4"
        )
    return CaptureSource(capture, name=str(path), counted=path.suffix.lower() in _COUNTED_SUFFIXES)


def open_camera(
    uri: str, *, size: Size | None = None, rate_fps: float | None = None
) -> CaptureSource:
    """Open a camera by index ("0") or device ("/dev/video0").

    Args:
        size: (height, width) to ask for; the camera may answer with another.
        rate_fps: Frames per second to ask for.

    Raises:
        SourceError: there is no such camera, or it gives no frame.
    """
    wishes: list[tuple[int, float]] = []
    if size is not None:
        wishes += [(cv2.CAP_PROP_FRAME_HEIGHT, size[0]), (cv2.CAP_PROP_FRAME_WIDTH, size[1])]
    if rate_fps is not None:
        wishes += [(cv2.CAP_PROP_FPS, rate_fps)]
    require_opencv_name(uri)
    with quiet_opencv():
        capture = cv2.VideoCapture(
            min(int(uri), 2**31 - 1) if is_whole_number(uri) else uri, _backend_or_any(cv2.CAP_V4L2)
        )
        for prop, value in wishes:
            capture.set(prop, value)
    if not capture.isOpened():
        raise SourceError(
            f"camera {uri} cannot be opened; see which there are with `ls /dev/video*`, and that "
            "no other program holds it"
        )
    return CaptureSource(capture, name=f"camera {uri}", is_live=True, is_endless=True)


def open_stream(uri: str, *, timeout_s: float = 10.0) -> CaptureSource:
    """Open a URL or a GStreamer pipeline.

    Args:
        uri: A URL, or a pipeline that ends in ``appsink``.
        timeout_s: How long a URL may be silent, both at first and later.

    Raises:
        SourceError: it cannot be opened, or gives no frame.
    """
    if " ! " in uri:
        if not cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER):
            raise SourceError(
                f"pipeline {uri!r} needs an OpenCV built with GStreamer, and the one from PyPI is "
                "not: use the system's (JetPack and Debian bring python3-opencv) in a virtual "
                "environment made with --system-site-packages"
            )
        backend, settings = cv2.CAP_GSTREAMER, []
        hint = "try it with `gst-launch-1.0`; it must end in `! videoconvert ! appsink`"
    else:
        milliseconds = round(timeout_s * 1000)
        backend = file_backend()
        settings = [
            *(cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, milliseconds),
            *(cv2.CAP_PROP_READ_TIMEOUT_MSEC, milliseconds),
        ]
        hint = "check the address, and that this machine can reach it"
    require_opencv_name(uri)
    with quiet_opencv():
        capture = cv2.VideoCapture(uri, backend, settings)
    if not capture.isOpened():
        raise SourceError(f"stream {uri!r} cannot be opened; {hint}")
    has_end = uri.lower().startswith("http") and capture.get(cv2.CAP_PROP_FRAME_COUNT) > 0
    return CaptureSource(capture, name=uri, is_live=not has_end)


class CaptureSource(Closing):
    """The frames of an open cv2.VideoCapture, which it owns from the start.

    Args:
        capture: Opened; released by `close`, and here if no frame comes.
        name: What to call the source in messages.
        is_live: Frames come whether or not they are read.
        is_endless: That no more frames come is an error, as with a camera that was unplugged.
        counted: The container's frame count is stored, not estimated.

    Raises:
        SourceError: no frame can be read, or it has more than `MAX_PIXELS`.
    """

    def __init__(
        self,
        capture: cv2.VideoCapture,
        *,
        name: str,
        is_live: bool = False,
        is_endless: bool = False,
        counted: bool = False,
    ) -> None:
        self._capture = capture
        self._lock = threading.Lock()
        self._is_closed = False
        self._is_endless = is_endless
        self._counted = counted
        self._name = name
        self._frames_read = 0
        self._last_s = 0.0
        try:
            stated = (capture.get(p) for p in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
            # Backends answer 0, -1, NaN or absurd values for what they do not know.
            width, height = (int(side) if 0 < side < 2**31 else 0 for side in stated)
            require_pixels(width, height, name)
            with quiet_opencv():
                self._first = self._read()
            if self._first is None:
                raise SourceError(f"{name} opens, but no frame of it can be decoded")
        except SourceError:
            self.close()
            raise
        count = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        rate_fps = capture.get(cv2.CAP_PROP_FPS)
        self.info = VideoInfo(
            size=(self._first.shape[0], self._first.shape[1]),
            rate_fps=rate_fps if 0 < rate_fps <= 1000 else 0.0,
            frame_count=int(count) if not is_live and 0 < count < 2**31 else None,
            is_live=is_live,
            name=name,
        )

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames that have not been read yet.

        Raises:
            SourceError: a file ended well before its own frame count, or a camera fell silent.
        """
        while (frame := self._take()) is not None:
            yield frame
        self._check_end()

    def skip(self, count: int) -> int:
        """Go past frames, which are decoded but not converted.

        Returns:
            How many there were.

        Raises:
            SourceError: a file ended well before its own frame count.
        """
        done = min(count, int(self._first is not None))
        if done:
            self._first = None
        with self._lock:
            while done < count and not self._is_closed and self._capture.grab():
                done += 1
                self._frames_read += 1
            self._last_s = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        if done < count:
            self._check_end()
        return done

    def close(self) -> None:
        """Release the capture.

        A read that another thread is stuck in (a camera that hangs) is waited for
        `CLOSE_TIMEOUT_S`; then the capture is left to the end of the process, with a warning,
        because OpenCV does not survive a release during a read.
        """
        if not self._lock.acquire(timeout=CLOSE_TIMEOUT_S):
            _log.warning("%s hangs in a read and was left open", self._name)
            return
        try:
            self._is_closed = True
            self._first = None
            self._capture.release()
        finally:
            self._lock.release()

    def _take(self) -> Frame | None:
        """The next frame, which may have been read already."""
        frame, self._first = self._first, None
        return self._read() if frame is None else frame

    def _read(self) -> Frame | None:
        """Read the next frame; None at the end and after `close`."""
        with self._lock:
            if self._is_closed:
                return None
            ok, image = self._capture.read()
            if not ok:
                return None
            self._last_s = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        self._frames_read += 1
        return as_bgr(image, name=self._name)

    def _check_end(self) -> None:
        if self._is_closed:
            return
        if self._is_endless:
            raise SourceError(
                f"{self._name} fell silent after {self._frames_read} frames; check that it is "
                "still plugged in and that no other program took it"
            )
        if self.info.is_live:
            _log.warning("%s ended after %d frames", self._name, self._frames_read)
            return
        count = self.info.frame_count
        if count is None:
            return
        missing: float = count - self._frames_read
        if not self._counted and self.info.rate_fps:
            missing = min(missing, count - 1 - self._last_s * self.info.rate_fps)
        if missing > max(MISSING_S * self.info.rate_fps, MISSING_SHARE * count):
            raise SourceError(
                f"{self._name} is damaged or cut off: {self._frames_read} of {count} frames could "
                "be read; fetch or record it again"
            )
        if missing > 0:
            _log.warning("%s: %d of %d frames could be read", self._name, self._frames_read, count)


def as_bgr(image: Frame, *, name: str) -> Frame:
    """Convert grey and BGRA to (H, W, 3) BGR; return BGR as it is.

    Raises:
        SourceError: the image has another type or shape, or more than `MAX_PIXELS`.
    """
    channels = 1 if image.ndim == 2 else image.shape[-1]
    require_pixels(image.shape[1], image.shape[0], name)
    if image.dtype != np.uint8 or image.ndim not in {2, 3} or channels not in {1, 3, 4}:
        raise SourceError(
            f"{name} gives frames of {image.dtype} {image.shape}; expected uint8 with 1, 3 or 4 "
            "channels"
        )
    if channels == 3:
        return image
    code = cv2.COLOR_GRAY2BGR if channels == 1 else cv2.COLOR_BGRA2BGR
    frame: Frame = cv2.cvtColor(image, code)
    return frame


def file_backend() -> int:
    """Choose FFmpeg if this OpenCV has it, so that no other backend guesses at a damaged file."""
    return _backend_or_any(cv2.CAP_FFMPEG)


@contextmanager
def quiet_opencv() -> Iterator[None]:
    """Silence OpenCV's log inside the block: what went wrong is said by our own error.

    FFmpeg's own lines are not covered: only OPENCV_FFMPEG_LOGLEVEL=-8, set before the first video
    is opened, stops those.
    """
    # OpenCV 4 has these functions in cv2 itself, OpenCV 5 in cv2.utils.logging.
    logging_of_cv2 = getattr(cv2.utils, "logging", cv2)
    level = logging_of_cv2.setLogLevel(_SILENT)
    try:
        yield
    finally:
        logging_of_cv2.setLogLevel(level)


def _backend_or_any(backend: int) -> int:
    return backend if cv2.videoio_registry.hasBackend(backend) else int(cv2.CAP_ANY)
