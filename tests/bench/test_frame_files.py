"""Files of drawn frames, and how long it takes to decode them."""

from __future__ import annotations

import itertools
from dataclasses import replace

import cv2
import numpy as np
import pytest

from fcn_trt.bench.frame_files import time_image_decode, time_video_decode, write_frame_files

SIZE = (64, 96)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_frame_files(tmp_path_factory.mktemp("frames"), SIZE)


def test_files_hold_the_frames(files):
    assert len(files.frames) == len(files.images) == 4
    assert len({frame.tobytes() for frame in files.frames}) == 4
    for frame, path in zip(files.frames, files.images, strict=True):
        assert frame.shape == (*SIZE, 3)
        assert (
            np.abs(np.asarray(cv2.imread(str(path)), dtype=int) - frame).mean() < 5
        )  # JPEG is lossy
    capture = cv2.VideoCapture(str(files.video))
    is_read, first = capture.read()
    assert is_read
    assert np.abs(first.astype(int) - files.frames[0]).mean() < 12
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 24
    capture.release()


def clock():
    """A second from each look to the next."""
    ticks = itertools.count()
    return lambda: float(next(ticks))


def test_decode_of_an_image_is_timed_by_itself(files):
    found = time_image_decode(files, seconds=0, clock=clock())
    assert (found.runs, found.p50_ms, found.p99_ms) == (5, 1000, 1000)


def test_decode_of_a_video_counts_every_frame_but_the_one_that_opening_decodes(files):
    found = time_video_decode(files, seconds=0, clock=clock())
    assert found is not None
    assert (found.runs, found.p50_ms) == (23, 1000)


def test_video_is_opened_again_until_the_time_is_over(files):
    found = time_video_decode(files, seconds=100, clock=clock())
    assert found is not None
    assert found.runs == 3 * 23


def test_without_a_video_nothing_is_timed(files, tmp_path):
    assert time_video_decode(replace(files, video=None), seconds=0) is None
    (tmp_path / "v.mp4").write_bytes(b"no video")
    assert time_video_decode(replace(files, video=tmp_path / "v.mp4"), seconds=0) is None
