"""overlay.cu, compiled for the host, against `stages.overlay`."""

from __future__ import annotations

import numpy as np
import pytest

from fcn_trt.cuda.stage_launches import FrameView, overlay_launch, palette_table
from fcn_trt.stages.overlay import colour, overlay
from fcn_trt.stages.preprocess import bgrx_to_frame, nv12_to_frame
from tests.cuda.guarded import Guarded
from tests.cuda.host_kernels import run_on_host

PALETTE = np.random.default_rng(9).integers(0, 256, (255, 3), dtype=np.uint8)
PIXEL_BYTES = {"bgr": 3, "bgrx": 4, "nv12": 1}


def noise(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def run(
    pixels, labels, *, layout="bgr", opacity=0.5, padding=0, shift=0, palette=PALETTE
) -> np.ndarray:
    """The view; None for pixels paints the labels alone."""
    label_map = Guarded(labels.shape, shift=shift)
    label_map.array[...] = labels
    frame, memory = None, None
    if pixels is not None:
        rows, row_bytes = pixels.shape[0], labels.shape[1] * PIXEL_BYTES[layout]
        memory = Guarded((rows, row_bytes + padding), shift=shift)
        memory.array[:, :row_bytes] = pixels.reshape(rows, row_bytes)
        frame = FrameView(
            address=memory.address,
            size=labels.shape,
            pitch_bytes=row_bytes + padding,
            layout=layout,
        )
    table = Guarded((256, 4))
    table.array[...] = palette_table(palette)
    view = Guarded((*labels.shape, 3), shift=shift)
    launch = overlay_launch(
        frame, label_map.address, labels.shape, table.address, view.address, opacity=opacity
    )
    run_on_host(launch)
    return view.checked()


def check(found, expected):
    assert np.abs(found.astype(int) - expected).max() <= 1
    assert (found == expected).mean() > 0.98  # halves may round either way


@pytest.mark.parametrize("opacity", [0.0, 0.25, 0.3, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("size", [(63, 96), (63, 97), (5, 1), (1, 2), (2, 3), (33, 130)])
def test_view_is_the_stages_but_for_halves(size, opacity):
    frame, labels = noise((*size, 3)), noise(size, seed=1)
    check(run(frame, labels, opacity=opacity), overlay(frame, labels, PALETTE, opacity=opacity))


@pytest.mark.parametrize("opacity", [0.3, 0.5])
def test_blend_is_rounded_to_the_nearest(opacity):
    frame, labels = noise((40, 60, 3)), noise((40, 60), seed=1)
    painted = colour(labels, PALETTE).astype(np.float64)
    exact = (1 - opacity) * frame + opacity * painted
    assert np.abs(run(frame, labels, opacity=opacity) - exact).max() <= 0.5 + 1e-4


@pytest.mark.parametrize("layout", ["bgr", "bgrx", "nv12"])
@pytest.mark.parametrize("width", [96, 98])
@pytest.mark.parametrize(("padding", "shift"), [(0, 0), (4, 0), (1, 1), (13, 3), (2, 2)])
def test_layouts_are_read_at_any_pitch_and_address(layout, width, padding, shift):
    size = (64, width)
    labels = noise(size, seed=2)
    if layout == "nv12":
        pixels = noise((96, width))
        frame = nv12_to_frame(pixels)
    elif layout == "bgrx":
        pixels = noise((*size, 4))
        frame = bgrx_to_frame(pixels)
    else:
        pixels = frame = noise((*size, 3))
    found = run(pixels, labels, layout=layout, padding=padding, shift=shift)
    check(found, overlay(frame, labels, PALETTE))


@pytest.mark.parametrize("shift", [0, 1])
@pytest.mark.parametrize("size", [(63, 96), (63, 97), (1, 1)])
def test_without_a_frame_labels_are_painted_alone(size, shift):
    labels = noise(size)
    np.testing.assert_array_equal(run(None, labels, shift=shift), colour(labels, PALETTE))


def test_no_label_and_labels_beyond_the_palette_are_black():
    labels = np.array([[0, 2, 3, 255]], np.uint8)
    palette = np.full((3, 3), 9, np.uint8)
    assert run(None, labels, palette=palette)[0, :, 0].tolist() == [9, 9, 0, 0]
    whole = np.full((256, 3), 9, np.uint8)
    assert run(None, labels, palette=whole)[0, :, 0].tolist() == [9, 9, 9, 0]


def test_real_scene_is_painted_as_by_the_stage():
    from fcn_trt.scene.scene import StreetScene

    frame, labels = StreetScene(2).render(0, (270, 480))
    check(run(frame, labels), overlay(frame, labels, PALETTE))


def test_what_does_not_fit_is_refused():
    frame = FrameView(address=64, size=(4, 6), pitch_bytes=18)
    with pytest.raises(ValueError, match=r"the frame is \(4, 6\) but the label map is \(4, 5\)"):
        overlay_launch(frame, 64, (4, 5), 64, 64, opacity=0.5)
    for opacity in (1.01, -0.1, float("nan")):
        with pytest.raises(ValueError, match=r"opacity .* is not between 0 and 1"):
            overlay_launch(frame, 64, (4, 6), 64, 64, opacity=opacity)
    with pytest.raises(ValueError, match="a label map of 0x6 has a side"):
        overlay_launch(None, 64, (0, 6), 64, 64, opacity=0.5)
