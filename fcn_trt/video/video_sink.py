"""A video file of overlays."""

from __future__ import annotations

import logging
import shutil
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import cv2

from fcn_trt.errors import SinkError
from fcn_trt.files import Closing
from fcn_trt.spec import Frame, LabelMap, Result, Size
from fcn_trt.video.capture_source import file_backend, quiet_opencv
from fcn_trt.video.opencv_name import opencv_name

__all__ = ["VIDEO_CODECS", "VideoFileSink"]

VIDEO_CODECS = {".mp4": "mp4v", ".avi": "MJPG", ".mkv": "mp4v"}
"""Container to a codec that every OpenCV with FFmpeg can write."""

DEFAULT_RATE_FPS = 25.0
"""Stands in for a rate that the source does not know."""

RESERVE_BYTES = 4 << 20
"""Writing ends while this much is free, so that the index that makes a file playable still fits."""


CLOSE_TIMEOUT_S = 1.0
"""How long `close` waits for another thread that writes or closes."""

LOST_SHARE = 0.02
LOST_FRAMES = 2
"""A video that lacks more than this share, and at least this many frames, is refused."""

LARGEST_TICKS = 65535
"""MPEG-4 counts time in at most this many ticks a second (ISO/IEC 14496-2,
vop_time_increment_resolution)."""

_log = logging.getLogger(__name__)


class VideoFileSink(Closing):
    """A sink for one video of overlays, which gets its final name once it is closed and whole.

    Until then it grows in a hidden folder beside that name.

    Args:
        path: Ends in .mp4, .avi or .mkv; an older file is replaced.
        rate_fps: Rate at which it plays, rounded to what MPEG-4 can say; 0.0 is `DEFAULT_RATE_FPS`.

    Raises:
        SinkError: no such file can be written there.
    """

    has_ended = False

    def __init__(
        self, path: Path, *, render: Callable[[Frame, LabelMap], Frame], rate_fps: float
    ) -> None:
        if path.suffix.lower() not in VIDEO_CODECS or (path.exists() and not path.is_file()):
            raise SinkError(
                f"{path} cannot become a video file; name one that ends in "
                f"{', '.join(VIDEO_CODECS)}"
            )
        try:
            # A folder and not a file: the video inside gets the permissions of any new file, and
            # Python removes the folder even where the process ends without closing.
            self._folder = tempfile.TemporaryDirectory(prefix=".fcn-trt-", dir=path.parent)
        except OSError as error:
            raise SinkError(
                f"{path} cannot be written: {error.strerror}; make its folder, or choose another"
            ) from error
        self._path = path
        self._temporary = Path(self._folder.name, path.name)
        self._render = render
        self._rate_fps = _writable_rate(rate_fps or DEFAULT_RATE_FPS)
        self._lock = threading.Lock()
        self._is_closed = False
        self._writer: cv2.VideoWriter | None = None
        self._size: Size = (0, 0)
        self._count = 0

    def write(self, result: Result) -> None:
        """Append one overlay.

        Raises:
            SinkError: it has another size than the first, OpenCV cannot encode it, the disk is
                about to be full, or the sink is closed.
        """
        view = self._render(result.frame, result.label_map)
        with self._lock:
            if self._is_closed:
                raise SinkError(f"{self._path} is closed; open a new sink for more frames")
            self._append(view, index=result.index)

    def close(self) -> None:
        """Finalise the file and give it its name; without frames there is no file.

        Another thread that writes or closes meanwhile (after a second Ctrl-C) is waited for
        `CLOSE_TIMEOUT_S`; then the file is left to that thread, with a warning, because OpenCV does
        not survive a release during a write.

        Raises:
            SinkError: it does not hold what was written, and was removed.
        """
        if not self._lock.acquire(timeout=CLOSE_TIMEOUT_S):
            _log.warning("%s is still being written and was left open", self._path)
            return
        try:
            self._is_closed = True
            self._finalise()
        finally:
            self._lock.release()

    def _append(self, view: Frame, *, index: int) -> None:
        size = (view.shape[0], view.shape[1])
        free = self._free_bytes()
        if free < RESERVE_BYTES:
            raise SinkError(
                f"{self._path} ends after {self._count} frames because its disk is full "
                f"({free / 1e6:.1f} MB free); make room, or choose another place"
            )
        if self._writer is None:
            self._writer, self._size = self._open(size), size
        if size != self._size:
            # cv2.VideoWriter would drop it without a word.
            raise SinkError(
                f"frame {index} is {size[0]}x{size[1]} but {self._path} began with "
                f"{self._size[0]}x{self._size[1]}; write frames of several sizes as images, to "
                "the sink overlays:DIR"
            )
        self._writer.write(view)
        self._count += 1

    def _finalise(self) -> None:
        writer, self._writer = self._writer, None
        with self._folder:
            if writer is None:
                return
            with quiet_opencv():
                writer.release()
                found = self._stated_frames()
                if self._is_short(found):
                    found = self._decodable_frames()
            if self._is_short(found):
                raise SinkError(
                    f"{self._path} could not be written whole and was removed "
                    f"({self._free_bytes() / 1e6:.1f} MB free there); if the disk is full, make "
                    "room or choose another place"
                )
            try:
                self._temporary.replace(self._path)
            except OSError as error:
                raise SinkError(
                    f"{self._path} cannot be written: {error.strerror}; choose another place"
                ) from error
            if found != self._count:
                _log.warning("%s seems to hold %d of %d frames", self._path, found, self._count)

    def _open(self, size: Size) -> cv2.VideoWriter:
        codec = VIDEO_CODECS[self._path.suffix.lower()]
        height, width = size
        with quiet_opencv(), opencv_name(self._temporary) as name:
            writer = cv2.VideoWriter(
                name,
                file_backend(),
                cv2.VideoWriter.fourcc(*codec),
                self._rate_fps,
                (width, height),
            )
        if not writer.isOpened():
            raise SinkError(
                f"this OpenCV cannot encode {height}x{width} frames as {codec} for {self._path}; "
                "try .avi, or the sink overlays:DIR"
            )
        return writer

    def _is_short(self, found: int) -> bool:
        """Tell whether too much of the video is lost; cv2.VideoWriter reports no full disk."""
        lost = self._count - found
        return found < 1 or (lost >= LOST_FRAMES and lost > LOST_SHARE * self._count)

    def _stated_frames(self) -> int:
        """Read the frame count of the finished file; 0 if its last frame cannot be decoded.

        It is an estimate where the container stores none, and 0 if unknown.
        """
        capture = self._reopened()
        try:
            stated = capture.get(cv2.CAP_PROP_FRAME_COUNT)
            if not 1 <= stated < 2**31:  # also NaN
                return 0
            capture.set(cv2.CAP_PROP_POS_FRAMES, min(round(stated), self._count) - 1)
            return round(stated) if capture.read()[0] else 0
        finally:
            capture.release()

    def _decodable_frames(self) -> int:
        """Count them one by one, which takes about as long as writing did."""
        capture = self._reopened()
        try:
            found = 0
            while capture.grab():
                found += 1
            return found
        finally:
            capture.release()

    def _reopened(self) -> cv2.VideoCapture:
        with opencv_name(self._temporary) as name:
            return cv2.VideoCapture(name, file_backend())

    def _free_bytes(self) -> int:
        return shutil.disk_usage(self._folder.name).free


def _writable_rate(rate_fps: float) -> float:
    """Round a rate to as many decimals, up to three, as keep its ticks in MPEG-4's range.

    OpenCV takes 10 to the power of the decimals as the ticks of a frame, which 119.9873 overruns.
    """
    decimals = next((n for n in (3, 2, 1) if rate_fps * 10**n <= LARGEST_TICKS), 0)
    return round(rate_fps, decimals)
