import numpy as np
import pytest

from fcn_trt.stages.overlay import colour, overlay

PALETTE = np.array([[0, 0, 0], [10, 200, 30], [255, 1, 128]], np.uint8)


@pytest.fixture
def random():
    return np.random.default_rng(0)


def test_labels_are_painted_in_the_colours_of_their_classes():
    painted = colour(np.array([[0, 1, 2], [2, 1, 0]], np.uint8), PALETTE)
    assert painted.dtype == np.uint8
    np.testing.assert_array_equal(painted, PALETTE[[[0, 1, 2], [2, 1, 0]]])


def test_no_label_and_labels_beyond_the_palette_are_black():
    palette = np.full((255, 3), 9, np.uint8)
    np.testing.assert_array_equal(
        colour(np.array([[254, 255]], np.uint8), palette), [[[9, 9, 9], [0, 0, 0]]]
    )
    assert not colour(np.array([[3, 255]], np.uint8), PALETTE).any()


def test_part_of_a_label_map_is_painted(random):
    label_map = random.integers(0, 3, (40, 60), dtype=np.uint8)
    view = label_map[3:33:2, ::-3]
    np.testing.assert_array_equal(colour(view, PALETTE), PALETTE[view])


@pytest.mark.parametrize("opacity", [0.0, 0.25, 0.3, 0.5, 0.9, 1.0])
def test_blend_is_the_weighted_mean_rounded(opacity, random):
    frame = random.integers(0, 256, (63, 97, 3), dtype=np.uint8)
    label_map = random.integers(0, 3, (63, 97), dtype=np.uint8)
    blended = overlay(frame, label_map, PALETTE, opacity=opacity)
    exact = (1 - opacity) * frame.astype(np.float64) + opacity * PALETTE[label_map]
    assert blended.dtype == np.uint8
    # Halves may go either way: OpenCV weighs in float32.
    assert np.abs(blended - exact).max() <= 0.5 + 1e-4


def test_half_of_the_colour_is_the_default_and_no_label_darkens(random):
    frame = random.integers(0, 128, (4, 6, 3), dtype=np.uint8) * 2
    nothing = np.full((4, 6), 255, np.uint8)
    np.testing.assert_array_equal(overlay(frame, nothing, PALETTE), frame // 2)


def test_inputs_are_left_as_they_are(random):
    frame = random.integers(0, 256, (4, 6, 3), dtype=np.uint8)
    label_map = random.integers(0, 3, (4, 6), dtype=np.uint8)
    copies = frame.copy(), label_map.copy(), PALETTE.copy()
    overlay(frame, label_map, PALETTE)
    for array, copy in zip((frame, label_map, PALETTE), copies, strict=True):
        np.testing.assert_array_equal(array, copy)


FRAME, LABELS = np.zeros((4, 6, 3), np.uint8), np.zeros((4, 6), np.uint8)


@pytest.mark.parametrize(
    ("frame", "label_map", "opacity", "message"),
    [
        (FRAME[..., 0], LABELS, 0.5, r"a frame is .* this one is \(4, 6\) uint8"),
        (FRAME, LABELS[:3], 0.5, r"the frame is \(4, 6\) but the label map is \(3, 6\)"),
        (FRAME, FRAME, 0.5, r"a label map is .* this one is \(4, 6, 3\) uint8"),
        (FRAME, LABELS.astype(int), 0.5, r"a label map is \(height, width\) uint8, but .* int64"),
        (FRAME, LABELS, 1.01, r"opacity 1\.01 is not between 0 and 1"),
        (FRAME, LABELS, -0.1, r"opacity -0\.1 is not between 0 and 1"),
        (FRAME, LABELS, float("nan"), r"opacity nan is not between 0 and 1"),
    ],
)
def test_what_does_not_fit_is_refused(frame, label_map, opacity, message):
    with pytest.raises(ValueError, match=message):
        overlay(frame, label_map, PALETTE, opacity=opacity)
