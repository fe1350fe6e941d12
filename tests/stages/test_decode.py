"""`decode` against torch, where two classes may only be exchanged if they are as good as equal."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from fcn_trt.stages import decode as module
from fcn_trt.stages.decode import decode, decode_with_confidence
from tests.stages.decode_cases import ALIGNMENTS, MAKERS, SIZES, draw_size, noise, smooth

TIE = 1e-5
"""Relative difference of the two best float64 logits under which float32 may exchange them."""


def upsampled(logits, size, align_corners):
    """(C, H, W) float64: torch's bilinear interpolation of the whole logits."""
    torch = pytest.importorskip("torch")
    wide = torch.nn.functional.interpolate(
        torch.from_numpy(np.asarray(logits, np.float64))[None],
        size=size,
        mode="bilinear",
        align_corners=align_corners,
    )
    return wide[0].numpy()


def check_labels(logits, size, align_corners):
    """Every pixel has torch's class, or one that is as good within `TIE`."""
    wide = upsampled(logits, size, align_corners)
    label_map = decode(logits, size, align_corners=align_corners)
    assert label_map.shape == size
    assert label_map.dtype == np.uint8
    chosen = np.take_along_axis(wide, label_map[None].astype(np.intp), axis=0)[0]
    best = wide.max(axis=0)
    scale = np.maximum(np.abs(wide).max(axis=0), np.abs(logits).max() * 1e-2)
    assert (best - chosen <= TIE * scale).all()
    assert (label_map != wide.argmax(axis=0)).mean() < 1e-3


@ALIGNMENTS
@MAKERS
@SIZES
def test_label_map_equals_interpolation_and_argmax(make, classes, source, size, align_corners):
    check_labels(make(classes, *source), size, align_corners)


@ALIGNMENTS
@pytest.mark.parametrize("make", [noise, smooth])
@pytest.mark.parametrize("classes", [11, 21])
@pytest.mark.parametrize(
    "size",
    [
        (512, 1024),
        (1024, 2048),
    ],
)
def test_large_label_map_equals_interpolation_and_argmax(make, classes, size, align_corners):
    check_labels(make(classes, size[0] // 8, size[1] // 8), size, align_corners)


@ALIGNMENTS
def test_hundreds_of_small_cases_equal_interpolation_and_argmax(align_corners):
    random = np.random.default_rng(7)
    for seed in range(200):
        classes, height, width = random.integers(1, (9, 12, 12))
        size = draw_size(random)
        make = (noise, smooth)[seed % 2]
        check_labels(make(classes, height, width, seed), size, align_corners)


def test_pruning_changes_no_pixel(monkeypatch):
    """Bit for bit, with classes that are never, sometimes and almost always the best."""
    random = np.random.default_rng(11)
    cases = []
    for seed in range(300):
        classes, height, width = random.integers(1, (12, 10, 10))
        logits = (noise, smooth)[seed % 2](classes, height, width, seed)
        logits += random.choice([0, 1, 10]) * random.standard_normal((classes, 1, 1)).astype("f")
        if seed % 3 == 0:
            logits = np.rint(logits)  # ties between classes
        size = draw_size(random)
        cases.append((logits, size, bool(seed % 2)))
    pruned = [decode(case, size, align_corners=corners) for case, size, corners in cases]
    monkeypatch.setattr(module, "_contenders", lambda strips: np.arange(len(strips)))
    for label_map, (case, size, corners) in zip(pruned, cases, strict=True):
        np.testing.assert_array_equal(label_map, decode(case, size, align_corners=corners))


def test_one_class_is_everywhere_class_0():
    assert not decode(noise(1, 5, 7), (33, 47)).any()


def test_last_of_256_classes_has_the_label_255():
    logits = np.zeros((256, 3, 5), np.float32)
    logits[255] = 1
    assert (decode(logits, (24, 40)) == 255).all()


def test_ties_take_the_lower_index():
    logits = np.zeros((4, 3, 5), np.float32)
    logits[2:] = 1
    assert (decode(logits, (24, 40)) == 2).all()


def test_logits_of_the_frames_own_size_are_compared_as_they_are():
    logits = noise(5, 40, 60)
    np.testing.assert_array_equal(decode(logits, (40, 60)), logits.argmax(axis=0))


def test_float16_is_decoded_as_the_same_numbers_in_float32():
    logits = noise(21, 16, 24).astype(np.float16)
    expected = decode(logits.astype(np.float32), (128, 192))
    np.testing.assert_array_equal(decode(logits, (128, 192)), expected)


def test_part_of_a_larger_array_is_decoded():
    whole = noise(8, 20, 30)
    view = whole[::2, 3:17, ::-2]
    expected = decode(np.ascontiguousarray(view), (50, 70))
    np.testing.assert_array_equal(decode(view, (50, 70)), expected)


def test_no_seam_shows_where_threads_share_a_frame():
    """Larger than any tile, in both directions, and no multiple of it."""
    logits, size = smooth(6, 40, 30), (413, 1571)
    wide = upsampled(logits, size, align_corners=False)
    margin = np.diff(np.sort(wide, axis=0)[-2:], axis=0)[0]
    assert ((decode(logits, size) == wide.argmax(axis=0)) | (margin < 1e-4)).all()


class TestNotFinite:
    def test_nan_never_wins(self):
        logits = noise(4, 6, 8)
        logits[1] = np.nan
        expected = decode(np.delete(logits, 1, axis=0), (48, 64))
        np.testing.assert_array_equal(decode(logits, (48, 64)), np.array([0, 2, 3])[expected])

    @pytest.mark.parametrize("value", [np.nan, -np.inf])
    def test_pixel_without_any_logit_is_class_0_and_not_sure(self, value):
        logits = np.full((3, 4, 5), value, np.float32)
        assert not decode(logits, (32, 40)).any()
        label_map, confidence = decode_with_confidence(logits, (32, 40))
        assert not label_map.any()
        assert not confidence.any()

    def test_minus_infinity_loses_against_every_number(self):
        logits = np.full((3, 4, 5), -np.inf, np.float32)
        logits[2] = -1e30
        label_map, confidence = decode_with_confidence(logits, (32, 40))
        assert (label_map == 2).all()
        assert (confidence == 255).all()

    @pytest.mark.parametrize("align_corners", [False, True])
    @pytest.mark.parametrize("value", [np.inf, -np.inf])
    def test_infinite_logit_counts_as_nan(self, align_corners, value):
        logits = np.random.default_rng(0).standard_normal((3, 6, 8)).astype(np.float32)
        infinite, missing = logits.copy(), logits.copy()
        infinite[1, 2:4, 3:6] = value
        missing[1, 2:4, 3:6] = np.nan
        np.testing.assert_array_equal(
            decode(infinite, (48, 64), align_corners=align_corners),
            decode(missing, (48, 64), align_corners=align_corners),
        )
        assert not (
            decode(infinite, (48, 64), align_corners=align_corners)[20:24, 28:40] == 1
        ).any()

    def test_largest_float32_logits_do_not_overflow(self):
        logits = np.array([1, -1], np.float32).reshape(2, 1, 1) * np.finfo(np.float32).max
        label_map, confidence = decode_with_confidence(logits, (4, 4))
        assert not label_map.any()
        assert (confidence == 255).all()


class TestConfidence:
    @ALIGNMENTS
    @pytest.mark.parametrize("make", [noise, smooth])
    @pytest.mark.parametrize(
        ("classes", "source", "size"),
        [
            (21, (16, 24), (128, 192)),
            (11, (13, 17), (97, 131)),
            (1, (4, 4), (9, 9)),
            (255, (4, 6), (33, 47)),
            (5, (40, 60), (20, 25)),
            (4, (1, 1), (6, 6)),
        ],
    )
    def test_is_the_softmax_of_the_winning_class(self, make, classes, source, size, align_corners):
        logits = make(classes, *source)
        label_map, confidence = decode_with_confidence(logits, size, align_corners=align_corners)
        wide = upsampled(logits, size, align_corners)
        exact = 1 / np.exp(wide - wide.max(axis=0)).sum(axis=0)
        assert confidence.dtype == np.uint8
        # Half a step of rounding, and float32.
        assert np.abs(confidence / 255 - exact).max() <= 0.51 / 255
        expected = decode(logits, size, align_corners=align_corners)
        np.testing.assert_array_equal(label_map, expected)

    def test_label_map_is_that_of_decode_in_every_small_case(self):
        random = np.random.default_rng(3)
        for seed, corners in itertools.product(range(50), (False, True)):
            classes, height, width = random.integers(1, (9, 12, 12))
            logits = np.rint(2 * noise(classes, height, width, seed))
            size = draw_size(random)
            label_map, _ = decode_with_confidence(logits, size, align_corners=corners)
            np.testing.assert_array_equal(label_map, decode(logits, size, align_corners=corners))

    def test_large_logits_do_not_overflow(self):
        logits = noise(4, 5, 6) * 1e6
        _, confidence = decode_with_confidence(logits, (40, 48))
        assert np.median(confidence) == 255

    @pytest.mark.parametrize("unknown_below", [0, 1, 128, 255])
    def test_pixels_below_the_threshold_have_no_label(self, unknown_below):
        logits, size = smooth(6, 32, 40) / 8, (96, 120)
        label_map, confidence = decode_with_confidence(logits, size)
        unknown = confidence < unknown_below
        found = decode_with_confidence(logits, size, unknown_below=unknown_below)
        np.testing.assert_array_equal(found[0], np.where(unknown, 255, label_map))
        np.testing.assert_array_equal(found[1], confidence)
        assert unknown.any() == (unknown_below > 1)

    @pytest.mark.parametrize("unknown_below", [-1, 256])
    def test_threshold_that_is_no_confidence_is_refused(self, unknown_below):
        with pytest.raises(ValueError, match=r"unknown_below .* is not between 0 and 255"):
            decode_with_confidence(noise(2, 3, 3), (6, 6), unknown_below=unknown_below)

    def test_equally_good_classes_share_it(self):
        _, confidence = decode_with_confidence(np.zeros((5, 2, 2), np.float32), (16, 16))
        assert (confidence == 51).all()


@pytest.mark.parametrize("function", [decode, decode_with_confidence])
@pytest.mark.parametrize(
    ("logits", "size", "message"),
    [
        (np.zeros((1, 3, 4, 5), np.float32), (8, 8), r"one is \(1, 3, 4, 5\) float32"),
        (np.zeros((4, 5), np.float32), (8, 8), r"one is \(4, 5\) float32"),
        (np.zeros((3, 4, 5)), (8, 8), r"one is \(3, 4, 5\) float64"),
        (np.zeros((3, 4, 5), np.uint8), (8, 8), r"one is \(3, 4, 5\) uint8"),
        (np.zeros((257, 4, 5), np.float32), (8, 8), "1 to 256 classes, not 257"),
        (np.zeros((0, 4, 5), np.float32), (8, 8), r"\(0, 4, 5\) float32; it is empty"),
        (np.zeros((3, 0, 5), np.float32), (8, 8), r"\(3, 0, 5\) float32; it is empty"),
        (np.zeros((3, 4, 5), np.float32), (0, 8), r"a frame of \(0, 8\) has no pixels"),
        (np.zeros((3, 4, 5), np.float32), (8, -1), r"a frame of \(8, -1\) has no pixels"),
    ],
)
def test_what_cannot_be_decoded_is_refused(function, logits, size, message):
    with pytest.raises(ValueError, match=message):
        function(logits, size)
