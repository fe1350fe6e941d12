"""A segmenter between a source and sinks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial

from fcn_trt.labels import palette_array
from fcn_trt.runtime.segmenter import Segmenter
from fcn_trt.stages.overlay import DEFAULT_OPACITY
from fcn_trt.video.loop import LoopReport, Progress, run_loop
from fcn_trt.video.protocols import Source
from fcn_trt.video.sink import open_sink

__all__ = ["segment_video"]


def segment_video(
    segmenter: Segmenter,
    source: Source,
    sinks: Sequence[str],
    *,
    limit: int | None = None,
    opacity: float = DEFAULT_OPACITY,
    on_progress: Callable[[Progress], None] | None = None,
) -> LoopReport:
    """Segment a video until it ends; of a live one each frame is finished before the next begins.

    Args:
        segmenter: Stays open.
        source: Frames; stays open.
        sinks: As for `open_sink`; none writes nothing.
        limit: Frames to take at most; None takes all.
        opacity: Share of the colours in pictures, between 0 and 1.
        on_progress: Called after each label map.

    Raises:
        LoopInterrupted, ValueError: as for `run_loop`.
        SourceError, SinkError, EngineError: reading, writing or segmenting failed.
    """
    in_flight = 1 if source.info.is_live else None
    process = partial(segmenter.stream, in_flight=in_flight, copy=False)
    with ExitStack() as stack:
        opened = [
            stack.enter_context(
                open_sink(
                    uri,
                    render=partial(segmenter.render, opacity=opacity),
                    palette=palette_array(segmenter.spec.palette),
                    rate_fps=source.info.rate_fps,
                    images=source.info.files,
                )
            )
            for uri in sinks or ["none"]
        ]
        return run_loop(source, process, opened, limit=limit, on_progress=on_progress)
