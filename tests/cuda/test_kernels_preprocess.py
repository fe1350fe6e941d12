"""preprocess.cu, compiled for the host, against `stages.preprocess`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest

from fcn_trt.cuda.stage_launches import FrameView, preprocess_launch
from fcn_trt.stages.preprocess import bgrx_to_frame, nv12_to_frame, preprocess
from tests.cuda.guarded import Guarded
from tests.cuda.host_kernels import run_on_host

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
RAW = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
NORMAL = {"mean": MEAN, "std": STD}
PIXEL_BYTES = {"bgr": 3, "bgrx": 4, "nv12": 1}
CHANNELS = {"bgr": (3,), "bgrx": (4,), "nv12": ()}
TO_FRAME: dict[str, Callable[..., Any]] = {
    "bgr": np.asarray,
    "bgrx": bgrx_to_frame,
    "nv12": nv12_to_frame,
}


def picture(size, layout="bgr", seed=0):
    """Noise in a layout; the worst case for whatever is interpolated."""
    height = size[0] * 3 // 2 if layout == "nv12" else size[0]
    shape = (height, size[1], *CHANNELS[layout])
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def draw_size(random):
    height, width = random.integers(1, 120, 2)
    return int(height), int(width)


def run(pixels, size, *, layout="bgr", dtype=np.float32, padding=0, shift=0, **normal):
    """The tensor; the frame lies at an address of any alignment, with gaps between its rows."""
    rows, row_bytes = pixels.shape[0], pixels.shape[1] * PIXEL_BYTES[layout]
    memory = Guarded((rows, row_bytes + padding), shift=shift)
    memory.array[:, :row_bytes] = pixels.reshape(rows, row_bytes)
    height = rows * 2 // 3 if layout == "nv12" else rows
    frame = FrameView(
        address=memory.address,
        size=(height, pixels.shape[1]),
        pitch_bytes=row_bytes + padding,
        layout=layout,
    )
    tensor = Guarded((3, *size), dtype, shift=8 if shift else 0)
    run_on_host(preprocess_launch(frame, tensor.address, size, **{**NORMAL, **normal}, dtype=dtype))
    memory.checked()
    return tensor.checked()


SIZES = [
    ((97, 131), (64, 96)),
    ((33, 47), (64, 96)),
    ((480, 640), (256, 512)),
    ((64, 96), (64, 96)),
    ((37, 53), (37, 53)),
    ((64, 96), (32, 48)),
    ((64, 96), (128, 192)),
    ((64, 96), (64, 33)),
    ((1, 1), (5, 7)),
    ((64, 96), (1, 1)),
    ((9, 200), (65, 97)),
    ((2, 2), (31, 45)),
]


@pytest.mark.parametrize(("frame_size", "size"), SIZES)
def test_pixels_are_the_stages_to_the_bit(frame_size, size):
    """Half a grey level is allowed; the same rounding as OpenCV's leaves none."""
    frame = picture(frame_size)
    np.testing.assert_array_equal(run(frame, size, **RAW), preprocess(frame, size, **RAW))


def test_hundreds_of_small_cases_are_the_stages_to_the_bit():
    random = np.random.default_rng(1)
    for seed in range(200):
        frame_size, size = draw_size(random), draw_size(random)
        frame = picture(frame_size, seed=seed)
        np.testing.assert_array_equal(run(frame, size, **RAW), preprocess(frame, size, **RAW))


@pytest.mark.parametrize(
    ("frame_size", "size"),
    [
        ((1080, 1920), (512, 1024)),
        ((1080, 1920), (1024, 2048)),
        ((720, 1280), (512, 1024)),
        # Positions whose numerators float32 does not hold.
        ((16, 9999), (16, 4001)),
    ],
)
def test_whole_frames_are_the_stages_to_the_bit(frame_size, size):
    frame = picture(frame_size)
    np.testing.assert_array_equal(run(frame, size, **RAW), preprocess(frame, size, **RAW))


def test_colours_come_out_as_red_green_blue():
    frame = np.empty((4, 6, 3), np.uint8)
    frame[...] = (10, 20, 30)  # BGR
    for size in ((4, 6), (9, 5)):
        planes = run(frame, size, **RAW)
        assert [set(plane.ravel()) for plane in planes] == [{30.0}, {20.0}, {10.0}]


@pytest.mark.parametrize("size", [(64, 96), (97, 131)])
def test_each_channel_is_normalised_by_its_own_mean_and_deviation(size):
    frame = picture((97, 131))
    # Multiply and subtract may be fused on a GPU; the stage rounds in between.
    np.testing.assert_allclose(
        run(frame, size), preprocess(frame, size, **NORMAL), rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("size", [(64, 96), (97, 131)])
def test_float16_is_the_rounded_float32(size):
    frame = picture((97, 131))
    exact = preprocess(frame, size, **NORMAL)
    found = run(frame, size, dtype=np.float16)
    assert found.dtype == np.float16
    # The last bit, where float32's own rounding moves a half.
    np.testing.assert_allclose(found, exact.astype(np.float16), rtol=2**-10, atol=1e-6)
    assert (found == exact.astype(np.float16)).mean() > 0.99


@pytest.mark.parametrize("size", [(64, 96), (48, 80), (31, 45)])
@pytest.mark.parametrize("layout", ["bgr", "bgrx", "nv12"])
@pytest.mark.parametrize(("padding", "shift"), [(0, 0), (1, 1), (13, 3), (32, 0)])
def test_layouts_are_read_at_any_pitch_and_address(layout, size, padding, shift):
    pixels = picture((48, 80), layout)
    expected = preprocess(TO_FRAME[layout](pixels), size, **RAW)
    for dtype in (np.float32, np.float16):
        found = run(pixels, size, layout=layout, dtype=dtype, padding=padding, shift=shift, **RAW)
        np.testing.assert_array_equal(found, expected)  # whole numbers: float16 holds them


def test_every_colour_of_nv12_is_opencvs():
    """All pairs of U and V, in steps, with dark, middle and bright luma."""
    values = np.arange(0, 256, 5, dtype=np.uint8)
    u, v = (grid.reshape(-1) for grid in np.meshgrid(values, values))
    pixels = np.empty((3, 2 * len(u)), np.uint8)
    pixels[2, 0::2], pixels[2, 1::2] = u, v
    for luma in (0, 15, 16, 17, 100, 128, 200, 235, 236, 255):
        pixels[:2] = luma
        expected = preprocess(nv12_to_frame(pixels), (2, pixels.shape[1]), **RAW)
        found = run(pixels, (2, pixels.shape[1]), layout="nv12", **RAW)
        np.testing.assert_array_equal(found, expected)


def test_real_scene_is_prepared_as_by_the_stage():
    from fcn_trt.scene.scene import StreetScene

    frame, _ = StreetScene(1).render(0, (270, 480))
    for size in ((128, 256), (270, 480), (301, 517)):
        np.testing.assert_array_equal(run(frame, size, **RAW), preprocess(frame, size, **RAW))


def test_frames_of_a_video_are_prepared_as_by_the_stage(shared_data):
    videos = sorted(path for path in shared_data.rglob("*") if path.suffix in (".mp4", ".avi"))
    if not videos:
        pytest.skip(f"no video in {shared_data}")
    for path in videos[:3]:
        capture = cv2.VideoCapture(str(path))
        try:
            has_frame, frame = capture.read()
        finally:
            capture.release()
        assert has_frame
        np.testing.assert_array_equal(
            run(frame, (256, 512), **RAW), preprocess(frame, (256, 512), **RAW)
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": (0, 4)}, "a frame of 0x4 has a side that is not 1 to 16384 pixels"),
        ({"size": (4, 20000), "pitch_bytes": 60000}, "a frame of 4x20000 has a side"),
        ({"pitch_bytes": 17}, "a bgr row of 6 pixels does not fit into a pitch of 17 bytes"),
        ({"layout": "bgrx"}, "a bgrx row of 6 pixels does not fit into a pitch of 18 bytes"),
        ({"layout": "rgb"}, "layout 'rgb' is none of bgr, bgrx, nv12"),
        ({"layout": "nv12", "size": (5, 6)}, "even height and width, not 5x6"),
    ],
)
def test_view_that_is_no_frame_is_refused(change, message):
    good: dict[str, Any] = {"address": 64, "size": (4, 6), "pitch_bytes": 18, "layout": "bgr"}
    assert FrameView(**good).layout == "bgr"
    with pytest.raises(ValueError, match=message):
        FrameView(**{**good, **change})


def test_tensor_of_another_type_is_refused():
    frame = FrameView(address=64, size=(4, 6), pitch_bytes=18)
    with pytest.raises(ValueError, match="float16 or float32, not int8"):
        preprocess_launch(frame, 64, (4, 6), **NORMAL, dtype=np.int8)
    with pytest.raises(ValueError, match="a network input of 4x0 has a side"):
        preprocess_launch(frame, 64, (4, 0), **NORMAL, dtype=np.float32)
