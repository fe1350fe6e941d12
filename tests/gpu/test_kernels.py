"""`DeviceStages` against the stages of the host; test_kernel_*.py have every case of a kernel."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from fcn_trt.labels import distinct_palette, palette_array
from fcn_trt.stages.decode import decode, decode_with_confidence
from fcn_trt.stages.overlay import colour, overlay
from fcn_trt.stages.preprocess import preprocess
from tests.gpu.executors import random_frame
from tests.gpu.oracle import assert_same_but_for_ties

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
PREPROCESSED = [((64, 96), (64, 96)), ((97, 131), (65, 97)), ((1080, 1920), (512, 1024))]
DECODED = [
    (3, (8, 12), (64, 96)),
    (255, (9, 13), (71, 97)),
    (21, (128, 256), (1024, 2048)),
]
PAINTED = [(1, 1), (37, 53), (1080, 1920)]


def view_of(arrays, frame):
    """A frame on the GPU."""
    from fcn_trt.cuda.device_stages import FrameView

    return FrameView(
        address=arrays.upload(frame),
        size=frame.shape[:2],
        pitch_bytes=frame[0].size,
        layout="bgr",
    )


def smooth_logits(classes, size, seed=0, *, gain=4):
    """Neighbours differ little, as behind a network; each class wins somewhere."""
    noise = np.random.default_rng(seed).standard_normal((classes, *size)).astype(np.float32)
    return np.stack([cv2.GaussianBlur(plane, (0, 0), 1.0) for plane in noise]) * gain


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize(("frame_size", "size"), PREPROCESSED)
def test_preprocess_is_that_of_the_host_within_half_a_grey_level(
    stages, stream, arrays, frame_size, size, dtype
):
    frame = random_frame(frame_size, 1)
    tensor = arrays.room((3, *size), dtype)
    view = view_of(arrays, frame)
    stages.preprocess(stream, view, tensor, size, mean=MEAN, std=STD, dtype=dtype)
    found = arrays.download(tensor, (3, *size), dtype).astype(np.float32)
    grey_levels = (found - preprocess(frame, size, mean=MEAN, std=STD)) * np.array(STD)[
        :, None, None
    ]
    assert np.abs(grey_levels).max() <= 0.5


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize(("classes", "source", "size"), DECODED)
def test_labels_are_those_of_the_host_but_for_ties(
    stages, stream, arrays, classes, source, size, dtype, align_corners
):
    logits = smooth_logits(classes, source).astype(dtype)
    labels = arrays.room(size, np.uint8)
    stages.decode(
        stream,
        arrays.upload(logits),
        logits.shape,
        dtype,
        size,
        labels,
        align_corners=align_corners,
    )
    assert_same_but_for_ties(
        arrays.download(labels, size, np.uint8),
        decode(logits, size, align_corners=align_corners),
        logits,
        align_corners=align_corners,
    )


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_confidence_is_that_of_the_host_and_what_is_unsure_is_unknown(
    stages, stream, arrays, dtype, align_corners
):
    size, below = (141, 187), 128
    logits = smooth_logits(21, (18, 24), seed=4, gain=16).astype(dtype)
    expected, sure = decode_with_confidence(logits, size, align_corners=align_corners)
    labels, confidence = arrays.room(size, np.uint8), arrays.room(size, np.uint8)
    stages.decode(
        stream,
        arrays.upload(logits),
        logits.shape,
        dtype,
        size,
        labels,
        align_corners=align_corners,
        confidence_address=confidence,
        unknown_below=below,
    )
    found_labels = arrays.download(labels, size, np.uint8)
    found = arrays.download(confidence, size, np.uint8)
    assert np.abs(found.astype(int) - sure).max() <= 1
    assert 0.05 < (found < below).mean() < 0.95
    assert (found_labels[found < below] == 255).all()
    kept = found >= below
    assert_same_but_for_ties(
        np.where(kept, found_labels, expected), expected, logits, align_corners=align_corners
    )


@pytest.mark.parametrize("opacity", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("size", PAINTED)
def test_overlay_is_that_of_the_host_within_one(stages, stream, arrays, size, opacity):
    from fcn_trt.cuda.device_stages import palette_table

    palette = palette_array(distinct_palette(["class"] * 21))
    frame = random_frame(size, 6)
    labels = np.random.default_rng(7).choice([*range(21), 255], size).astype(np.uint8)
    view = arrays.room((*size, 3), np.uint8)
    stages.overlay(
        stream,
        view_of(arrays, frame),
        arrays.upload(labels),
        size,
        arrays.upload(palette_table(palette)),
        view,
        opacity=opacity,
    )
    found = arrays.download(view, (*size, 3), np.uint8).astype(int)
    assert np.abs(found - overlay(frame, labels, palette, opacity=opacity)).max() <= 1


@pytest.mark.parametrize("size", PAINTED)
def test_mask_alone_is_the_palette(stages, stream, arrays, size):
    from fcn_trt.cuda.device_stages import palette_table

    palette = palette_array(distinct_palette(["class"] * 21))
    labels = np.random.default_rng(8).choice([*range(21), 255], size).astype(np.uint8)
    view = arrays.room((*size, 3), np.uint8)
    table = arrays.upload(palette_table(palette))
    stages.overlay(stream, None, arrays.upload(labels), size, table, view, opacity=1.0)
    found = arrays.download(view, (*size, 3), np.uint8)
    np.testing.assert_array_equal(found, colour(labels, palette))
