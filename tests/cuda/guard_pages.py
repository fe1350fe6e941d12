"""Runs every kernel on the host with each array right before and right behind forbidden memory.

A process of its own, because the first byte that a kernel reads beyond an array ends it.
"""

from __future__ import annotations

import ctypes
import itertools
import mmap
from typing import Any

import numpy as np

from fcn_trt.cuda.stage_launches import (
    FrameView,
    decode_launch,
    overlay_launch,
    preprocess_launch,
)
from tests.cuda.host_kernels import run_on_host

PAGE = mmap.PAGESIZE
SIZES = [(1, 1), (3, 5), (16, 24), (6, 10), (9, 17)]
FRAMES: list[tuple[Any, int, float]] = [("bgr", 3, 1.0), ("bgrx", 4, 1.0), ("nv12", 1, 1.5)]
_kept: list[mmap.mmap] = []  # of what lies between guards, nothing is freed


def between_guards(size_bytes: int, at_end: bool) -> int:
    """The address of zeros that end, or begin, at a page that nobody may touch."""
    pages = -(-size_bytes // PAGE)
    memory = mmap.mmap(-1, (pages + 2) * PAGE)
    base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    for guard in (base, base + (pages + 1) * PAGE):
        if protect(ctypes.c_void_p(guard), ctypes.c_size_t(PAGE), 0) != 0:
            raise OSError(ctypes.get_errno(), "mprotect failed")
    _kept.append(memory)
    return base + PAGE + (pages * PAGE - size_bytes if at_end else 0)


def run_decode(size, at_end: bool) -> None:
    for dtype, source, corners in itertools.product(
        (np.float32, np.float16), [(1, 1), (2, 3), (16, 24)], (False, True)
    ):
        logits = between_guards(3 * source[0] * source[1] * np.dtype(dtype).itemsize, at_end)
        for confidence in (0, between_guards(size[0] * size[1], at_end)):
            labels = between_guards(size[0] * size[1], at_end)
            run_on_host(
                decode_launch(
                    logits,
                    (3, *source),
                    dtype,
                    size,
                    labels,
                    align_corners=corners,
                    confidence_address=confidence,
                )
            )


def run_frames(size, at_end: bool) -> None:
    for layout, pixel_bytes, planes in FRAMES:
        if layout == "nv12" and (size[0] % 2 or size[1] % 2):
            continue
        row_bytes = size[1] * pixel_bytes
        # Words may be read where each row begins at one, but no word behind the last pixel.
        for pitch in {row_bytes, row_bytes + -row_bytes % 4}:
            address = between_guards((int(size[0] * planes) - 1) * pitch + row_bytes, at_end)
            address -= address % 4 if pitch > row_bytes else 0
            frame = FrameView(address=address, size=size, pitch_bytes=pitch, layout=layout)
            run_frame(frame, at_end)


def run_frame(frame: FrameView, at_end: bool) -> None:
    size = frame.size
    for dtype, target in itertools.product((np.float32, np.float16), [size, *SIZES]):
        tensor = between_guards(3 * target[0] * target[1] * np.dtype(dtype).itemsize, at_end)
        zero, one = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
        run_on_host(preprocess_launch(frame, tensor, target, mean=zero, std=one, dtype=dtype))
    labels = between_guards(size[0] * size[1], at_end)
    palette = between_guards(1024, at_end)
    for view_of in (frame, None):
        view = between_guards(3 * size[0] * size[1], at_end)
        run_on_host(overlay_launch(view_of, labels, size, palette, view, opacity=0.5))


if __name__ == "__main__":
    for size, at_end in itertools.product(SIZES, (True, False)):
        run_decode(size, at_end)
        run_frames(size, at_end)
