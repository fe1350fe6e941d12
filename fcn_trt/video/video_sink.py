"""A video file of overlays."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2

from fcn_trt.errors import SinkError
from fcn_trt.spec import Frame, LabelMap, Size
from fcn_trt.video.capture_source import file_backend, quiet_opencv
from fcn_trt.video.closing import Closing
from fcn_trt.video.seams import Result

__all__ = ["VIDEO_CODECS", "VideoFileSink"]

VIDEO_CODECS = {".mp4": "mp4v", ".avi": "MJPG", ".mkv": "mp4v"}
"""Container to a codec that every OpenCV with FFmpeg can write."""

DEFAULT_RATE_FPS = 25.0
"""Stands in for a rate that the source does not know."""

RESERVE_BYTES = 4 << 20
"""Writing ends while this much is free, so that the index that makes a file playable still fits."""


class VideoFileSink(Closing):
    """Overlays as one video file, which takes its final name when it is closed and found whole.

    Until then it grows in a hidden folder beside that name.

    Args:
        path: Ends in .mp4, .avi or .mkv; an older file is replaced.
        render: Draws the overlay.
        rate_fps: Rate at which it plays; 0.0 is `DEFAULT_RATE_FPS`.

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
        self._rate_fps = rate_fps or DEFAULT_RATE_FPS
        self._writer: cv2.VideoWriter | None = None
        self._size: Size = (0, 0)
        self._count = 0

    def write(self, result: Result) -> None:
        """Append one overlay.

        Raises:
            SinkError: it has another size than the first, OpenCV cannot encode it, or the disk is
                about to be full.
        """
        view = self._render(result.frame, result.label_map)
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
                f"frame {result.index} is {size[0]}x{size[1]} but {self._path} began with "
                f"{self._size[0]}x{self._size[1]}; write frames of several sizes as images, to "
                "the sink overlays:DIR"
            )
        self._writer.write(view)
        self._count += 1

    def close(self) -> None:
        """Finalise the file and give it its name; without frames there is no file.

        Raises:
            SinkError: it does not hold what was written, and was removed.
        """
        writer, self._writer = self._writer, None
        with self._folder:
            if writer is None:
                return
            with quiet_opencv():
                writer.release()
                is_whole = self._holds_all_frames()
            if not is_whole:
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

    def _open(self, size: Size) -> cv2.VideoWriter:
        codec = VIDEO_CODECS[self._path.suffix.lower()]
        height, width = size
        with quiet_opencv():
            writer = cv2.VideoWriter(
                str(self._temporary),
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

    def _holds_all_frames(self) -> bool:
        """Count the frames and decode the last one: cv2.VideoWriter does not report a full disk."""
        capture = cv2.VideoCapture(str(self._temporary), file_backend())
        try:
            if round(capture.get(cv2.CAP_PROP_FRAME_COUNT)) != self._count:
                return False
            capture.set(cv2.CAP_PROP_POS_FRAMES, self._count - 1)
            has_last: bool = capture.read()[0]
            return has_last
        finally:
            capture.release()

    def _free_bytes(self) -> int:
        return shutil.disk_usage(self._folder.name).free
