"""Frames of drawn streets, and the files that cameras and recorders would have made of them."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fcn_trt.bench.series import LEAST_RUNS, Clock, Latency, interleave, latency
from fcn_trt.errors import SinkError, SourceError
from fcn_trt.images import read_image
from fcn_trt.scene.scene import StreetScene
from fcn_trt.spec import Frame, LabelMap, Result, Size
from fcn_trt.video.image_files import folder_images
from fcn_trt.video.image_sink import open_overlay_images
from fcn_trt.video.protocols import Sink
from fcn_trt.video.source import open_source
from fcn_trt.video.video_sink import VideoFileSink

__all__ = ["FrameFiles", "time_image_decode", "time_video_decode", "write_frame_files"]

SEED = 7
FRAMES = 4
VIDEO_FRAMES = 24
RATE_FPS = 15.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FrameFiles:
    """Some frames of a drive, and files of them.

    Attributes:
        frames: Each (H, W, 3) uint8 BGR.
        images: A JPEG file of each.
        video: An MP4 file (MPEG-4 part 2) with the frames over and over; None where this OpenCV
            writes or reads none.
    """

    frames: tuple[Frame, ...]
    images: tuple[Path, ...]
    video: Path | None


def write_frame_files(folder: Path, size: Size) -> FrameFiles:
    """Draw frames and write them.

    Args:
        size: (height, width) of the frames in pixels, each at least 16.

    Raises:
        ValueError: a side is too small.
        SinkError: OpenCV writes no JPEG, or the folder cannot be written.
    """
    scene = StreetScene(SEED)
    drawn = [scene.render(index * round(RATE_FPS), size) for index in range(FRAMES)]
    with open_overlay_images(folder / "images", "%06d.jpg", render=_frame_itself) as sink:
        _write(sink, drawn)
    video = folder / "street.mp4"
    with (
        suppress(SinkError),
        VideoFileSink(video, render=_frame_itself, rate_fps=RATE_FPS) as sink,
    ):
        _write(sink, list(itertools.islice(itertools.cycle(drawn), VIDEO_FRAMES)))
    return FrameFiles(
        frames=tuple(frame for frame, _ in drawn),
        images=tuple(folder_images(folder / "images")),
        video=video if video.is_file() else None,
    )


def time_image_decode(
    files: FrameFiles, *, seconds: float, clock: Clock = time.perf_counter
) -> Latency:
    """From a JPEG file to its frame, the files in turns."""
    paths = itertools.cycle(files.images)
    read: dict[str, Callable[[], object]] = {"image": lambda: read_image(next(paths))}
    return latency(interleave(read, seconds=seconds, clock=clock)["image"])


def time_video_decode(
    files: FrameFiles, *, seconds: float, clock: Clock = time.perf_counter
) -> Latency | None:
    """From a video file to its next frame; opening it is left out.

    Args:
        seconds: How long; the file is opened again where it ends.

    Returns:
        None where there is no video, or this OpenCV does not read it.
    """
    if files.video is None:
        return None
    found: list[float] = []
    begin = clock()
    try:
        while len(found) < LEAST_RUNS or clock() - begin < seconds:
            with open_source(str(files.video)) as source:
                frames = iter(source)
                next(frames)  # was decoded as the file was opened
                started = clock()
                for _ in frames:
                    found.append(clock() - started)
                    started = clock()
    except SourceError:
        return None
    return latency(found)


def _write(sink: Sink, drawn: list[tuple[Frame, LabelMap]]) -> None:
    for index, (frame, label_map) in enumerate(drawn):
        sink.write(Result(index=index, frame=frame, label_map=label_map))


def _frame_itself(frame: Frame, _label_map: LabelMap) -> Frame:
    return frame
