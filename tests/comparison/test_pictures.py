"""What is seen on the four panels of an image."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from fcn_trt.comparison.pictures import DIFFERENCE, PANEL_LABELS, draw_panels

PALETTE = np.array([[0, 0, 0], [0, 0, 255]], dtype=np.uint8)


def decoded(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == "JPEG"
        return np.array(image.convert("RGB"), dtype=int)


def marked(panel: np.ndarray) -> np.ndarray:
    return np.asarray(np.abs(panel - DIFFERENCE).max(axis=2) < 90)


def test_panels_show_frame_both_sides_and_where_they_differ():
    frame = np.zeros((40, 60, 3), dtype=np.uint8)
    frame[..., 0] = 200  # blue
    first = np.zeros((40, 60), dtype=np.uint8)
    second = first.copy()
    second[16:24, 32:40] = 1
    panels = draw_panels(frame, first, second, PALETTE)
    assert list(PANEL_LABELS) == list(panels.__slots__)
    shown = {name: decoded(getattr(panels, name)) for name in PANEL_LABELS}
    assert {panel.shape for panel in shown.values()} == {(40, 60, 3)}
    assert np.abs(shown["frame"] - (0, 0, 200)).max() < 8
    assert np.abs(shown["first"] - (0, 0, 70)).max() < 8  # 35 % of the frame, black over it
    assert np.abs(shown["second"][18:22, 34:38] - (166, 0, 70)).max() < 25
    assert np.abs(shown["second"][:8] - (0, 0, 70)).max() < 8
    found = np.argwhere(marked(shown["difference"]))
    assert found.min(axis=0).tolist() == [15, 31]  # a pixel more on each side
    assert found.max(axis=0).tolist() == [24, 40]


def test_one_different_pixel_of_a_large_image_is_seen():
    size = (3000, 4000)
    frame = np.full((*size, 3), 128, dtype=np.uint8)
    first = np.zeros(size, dtype=np.uint8)
    second = first.copy()
    second[1501, 2003] = 1
    panels = draw_panels(frame, first, second, PALETTE)
    difference = decoded(panels.difference)
    assert difference.shape == (480, 640, 3)
    found = np.argwhere(marked(difference))
    assert found.mean(axis=0).round().tolist() == [240, 320]
    assert len(found) == 9
    assert all(len(getattr(panels, name)) < 300_000 for name in PANEL_LABELS)


def test_equal_label_maps_leave_nothing_marked():
    frame = np.random.default_rng(0).integers(0, 256, (31, 33, 3), dtype=np.uint8)
    labels = np.full((31, 33), 255, dtype=np.uint8)
    assert not marked(decoded(draw_panels(frame, labels, labels, PALETTE).difference)).any()


def test_thin_images_keep_a_pixel():
    frame = np.zeros((1, 2_000_000, 3), dtype=np.uint8)
    labels = np.zeros((1, 2_000_000), dtype=np.uint8)
    assert decoded(draw_panels(frame, labels, labels, PALETTE).frame).shape[0] == 1
