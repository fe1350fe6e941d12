"""decode.cu, compiled for the host, against `stages.decode` and exact interpolation."""

from __future__ import annotations

import itertools
from typing import Any

import cv2
import numpy as np
import pytest

from fcn_trt.cuda.stage_launches import decode_launch
from fcn_trt.stages.decode import decode, decode_with_confidence
from tests.cuda.guarded import Guarded
from tests.cuda.host_kernels import run_on_host
from tests.stages.decode_cases import ALIGNMENTS, MAKERS, SIZES, draw_size, noise, smooth

TYPES = pytest.mark.parametrize("dtype", [np.float32, np.float16])

EXACT_TIE = 1e-6
"""Difference of the two best logits, relative to the largest, under which the kernel's float32
may exchange them: a few roundings."""
STAGE_TIE = 1e-5
"""The same against the stage, whose sampling positions are in float32 too."""


def run(logits, size, *, align_corners=False, confidence=False, unknown_below=0, shift=0):
    """The label map, and the confidence where it is asked for."""
    logits = np.ascontiguousarray(logits)
    label_map = Guarded(size, shift=shift)
    sure = Guarded(size, shift=shift) if confidence else None
    run_on_host(
        decode_launch(
            logits.ctypes.data,
            logits.shape,
            logits.dtype,
            size,
            label_map.address,
            align_corners=align_corners,
            confidence_address=sure.address if sure else 0,
            unknown_below=unknown_below,
        )
    )
    return (label_map.checked(), sure.checked()) if sure else label_map.checked()


def positions(source, target, align_corners):
    """Sample before each target, and the weight of the next, both exact."""
    index = np.arange(target)
    if align_corners:
        numerator, denominator = index * (source - 1) * (target > 1), max(target - 1, 1)
    else:
        numerator, denominator = (2 * index + 1) * source - target, 2 * target
    first = numerator // denominator
    return first, (numerator - first * denominator) / denominator


def upsampled(logits, size, align_corners):
    """(C, H, W) float64: each sample and the next, weighted; beyond an edge, the edge's."""
    wide = logits.astype(np.float64)
    for axis in (1, 2):
        source = logits.shape[axis]
        first, weight = positions(source, size[axis - 1], align_corners)
        weight = weight.reshape(-1, 1) if axis == 1 else weight
        before, after = (wide.take(np.clip(first + i, 0, source - 1), axis=axis) for i in (0, 1))
        wide = before + weight * (after - before)
    return wide


def value_of(wide, label_map):
    return np.take_along_axis(wide, label_map[None].astype(np.intp), axis=0)[0]


def check_labels(logits, size, align_corners):
    """Every pixel has the stage's class and the best one, or one that is as good."""
    label_map = run(logits, size, align_corners=align_corners)
    wide = upsampled(logits, size, align_corners)
    largest = np.abs(logits).max()
    chosen = value_of(wide, label_map)
    assert (wide.max(axis=0) - chosen <= EXACT_TIE * largest).all()
    of_stage = decode(logits, size, align_corners=align_corners)
    differ = label_map != of_stage
    assert (np.abs(chosen - value_of(wide, of_stage)) <= STAGE_TIE * largest)[differ].all()
    assert differ.mean() < 1e-3


@TYPES
@ALIGNMENTS
@MAKERS
@SIZES
def test_labels_are_the_stages_but_for_ties(make, classes, source, size, align_corners, dtype):
    check_labels(make(classes, *source).astype(dtype), size, align_corners)


@ALIGNMENTS
def test_hundreds_of_small_cases_have_the_stages_labels(align_corners):
    random = np.random.default_rng(7)
    for seed in range(300):
        classes, height, width = map(int, random.integers(1, (9, 12, 12)))
        logits = (noise, smooth)[seed % 2](classes, height, width, seed)
        check_labels(logits, draw_size(random), align_corners)


@ALIGNMENTS
@pytest.mark.parametrize("make", [noise, smooth])
def test_labels_of_a_whole_frame_are_the_stages(make, align_corners):
    """1024x2048, where positions in float32 would be off by 1e-4 of a sample."""
    logits = make(21, 128, 256).astype(np.float16)
    size = (1024, 2048)
    label_map = run(logits, size, align_corners=align_corners)
    of_stage = decode(logits, size, align_corners=align_corners)
    rows, columns = np.nonzero(label_map != of_stage)
    assert len(rows) < 1e-4 * label_map.size
    top, down = positions(128, 1024, align_corners)
    left, across = positions(256, 2048, align_corners)
    for y, x in zip(rows[:500], columns[:500], strict=True):
        above, below = np.clip([top[y], top[y] + 1], 0, 127)
        before, after = np.clip([left[x], left[x] + 1], 0, 255)
        pair = logits[[label_map[y, x], of_stage[y, x]]].astype(np.float64)
        upper = pair[:, above, before] * (1 - across[x]) + pair[:, above, after] * across[x]
        lower = pair[:, below, before] * (1 - across[x]) + pair[:, below, after] * across[x]
        first, second = upper * (1 - down[y]) + lower * down[y]
        assert abs(first - second) <= STAGE_TIE * np.abs(logits).max()


@pytest.mark.parametrize("classes", [1, 2, 3, 31, 32, 33, 255, 256])
def test_any_number_of_classes_is_decoded(classes):
    check_labels(noise(classes, 9, 17, seed=classes), (70, 132), False)
    best = np.zeros((classes, 3, 5), np.float32)
    best[-1] = 1
    assert (run(best, (24, 40)) == classes - 1).all()


@ALIGNMENTS
@pytest.mark.parametrize("classes", [2, 21])
def test_ties_take_the_lower_index(classes, align_corners):
    logits = np.rint(noise(classes, 6, 7))  # whole numbers: many classes are equally good
    label_map = run(logits, (6 * 8, 7 * 8), align_corners=align_corners)
    wide = upsampled(logits, label_map.shape, align_corners)
    margin = np.abs(wide - wide.max(axis=0))
    # Where whole numbers meet at weights of 1/16, float32 is exact.
    exact = np.ones(label_map.shape, bool) if not align_corners else (margin < 1e-12).sum(0) == 1
    exact &= ((margin > 1e-4) | (margin < 1e-12)).all(axis=0)
    assert exact.mean() > 0.3
    np.testing.assert_array_equal(label_map[exact], wide.argmax(axis=0)[exact])


def test_class_that_is_best_at_no_corner_can_win_between_them():
    logits = np.array([[[4.0, 0.0]], [[0.0, 4.0]], [[3.0, 3.0]]], np.float32)
    assert run(logits, (1, 16)).tolist() == decode(logits, (1, 16)).tolist()
    assert 2 in run(logits, (1, 16))


@pytest.mark.parametrize("shift", [0, 1, 2, 3])
@pytest.mark.parametrize("width", [64, 65, 66, 67])
def test_maps_may_lie_at_any_address(width, shift):
    logits, size = noise(5, 8, 9), (61, width)
    label_map, confidence = decode_with_confidence(logits, size)
    np.testing.assert_array_equal(run(logits, size, shift=shift), label_map)
    found = run(logits, size, confidence=True, shift=shift)
    np.testing.assert_array_equal(found[0], label_map)
    assert np.abs(found[1].astype(int) - confidence).max() <= 1


class TestNotFinite:
    @staticmethod
    def weights_nothing(source, size, align_corners):
        """Pixels that lie on a sample or beyond the edge, where a logit may weigh nothing."""
        on = []
        for axis in (0, 1):
            first, weight = positions(source[axis], size[axis], align_corners)
            on.append((weight == 0) | (first < 0) | (first >= source[axis] - 1))
        return on[0][:, None] | on[1]

    @TYPES
    @ALIGNMENTS
    @pytest.mark.parametrize("confidence", [False, True])
    def test_labels_are_the_stages_among_scattered_nan_and_infinity(
        self, align_corners, confidence, dtype
    ):
        random = np.random.default_rng(3)
        compared = 0
        for seed in range(150):
            classes, height, width = map(int, random.integers(1, (9, 12, 12)))
            size = (8 * height, 8 * width) if seed % 2 else draw_size(random)
            logits = noise(classes, height, width, seed).astype(dtype)
            lost = random.random(logits.shape) < 0.1
            logits[lost] = random.choice([np.nan, np.inf, -np.inf], lost.sum())
            expected, sure = decode_with_confidence(logits, size, align_corners=align_corners)
            # OpenCV takes a logit of weight 0 into account or not, from size to size.
            clear = ~self.weights_nothing(logits.shape[1:], size, align_corners)
            found = run(logits, size, align_corners=align_corners, confidence=confidence)
            if confidence:
                found, found_sure = found
                assert (np.abs(found_sure.astype(int) - sure)[clear] <= 1).all()
            assert (found != expected)[clear].mean() <= 1e-3 if clear.any() else True
            compared += clear.sum()
        assert compared > 10_000

    @TYPES
    @ALIGNMENTS
    def test_best_class_without_nan_wins_on_every_pixel(self, align_corners, dtype):
        """Edges and samples included, against exact interpolation."""
        random = np.random.default_rng(5)
        for seed in range(100):
            classes, height, width = map(int, random.integers(1, (9, 8, 8)))
            size = draw_size(random)
            finite = noise(classes, height, width, seed).astype(dtype)
            lost = random.random(finite.shape) < 0.15
            logits = finite.copy()
            logits[lost] = random.choice([np.nan, np.inf, -np.inf], lost.sum())
            label_map = run(logits, size, align_corners=align_corners)
            wide = upsampled(finite, size, align_corners)
            weighs = upsampled(lost.astype(np.float32), size, align_corners) > 1e-9
            near = lost
            for axis in (1, 2):
                first, _ = positions(lost.shape[axis], size[axis - 1], align_corners)
                both = (np.clip(first + i, 0, lost.shape[axis] - 1) for i in (0, 1))
                near = np.logical_or(*(near.take(taps, axis=axis) for taps in both))
            nothing = near.all(axis=0)
            label_of = label_map[None].astype(np.intp)
            assert not np.take_along_axis(weighs, label_of, axis=0)[0][~nothing].any()
            best = np.where(near, -np.inf, wide).max(axis=0)
            assert (value_of(wide, label_map) >= best - EXACT_TIE * np.abs(finite).max()).all()
            assert not label_map[weighs.all(axis=0)].any()

    @TYPES
    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_frame_without_any_logit_is_class_0_and_not_sure(self, value, dtype):
        logits = np.full((3, 4, 5), value, dtype)
        assert not run(logits, (32, 40)).any()
        label_map, confidence = run(logits, (32, 40), confidence=True)
        assert not label_map.any()
        assert not confidence.any()
        assert (run(logits, (32, 40), unknown_below=1) == 255).all()

    def test_nan_class_loses_everywhere(self):
        logits = noise(4, 6, 8)
        logits[1] = np.nan
        expected = decode(np.delete(logits, 1, axis=0), (48, 64))
        np.testing.assert_array_equal(run(logits, (48, 64)), np.array([0, 2, 3])[expected])

    def test_nan_does_not_spread_where_nothing_is_interpolated(self):
        logits = noise(4, 6, 8)
        logits[2] += 10
        logits[2, 3, 4] = np.nan
        label_map = run(logits, (6, 8))
        np.testing.assert_array_equal(label_map, decode(logits, (6, 8)))
        assert (label_map != 2).sum() == 1

    @ALIGNMENTS
    @pytest.mark.parametrize("confidence", [False, True])
    def test_largest_numbers_do_not_overflow(self, align_corners, confidence):
        largest = np.finfo(np.float32).max
        logits = np.full((3, 2, 2), -largest, np.float32)
        logits[1, 0], logits[2, 1] = largest, largest
        found = run(logits, (16, 16), align_corners=align_corners, confidence=confidence)
        label_map = found[0] if confidence else found
        assert (label_map[:8] == 1).all()
        assert (label_map[8:] == 2).all()


class TestConfidence:
    @TYPES
    @ALIGNMENTS
    @pytest.mark.parametrize("make", [noise, smooth])
    @pytest.mark.parametrize(
        ("classes", "source", "size"),
        [
            (21, (16, 24), (128, 192)),
            (11, (13, 17), (97, 131)),
            (1, (4, 4), (9, 9)),
            (256, (4, 6), (33, 47)),
            (5, (40, 60), (20, 25)),
            (4, (1, 1), (6, 6)),
        ],
    )
    def test_is_the_softmax_of_the_winner(self, make, classes, source, size, align_corners, dtype):
        logits = make(classes, *source).astype(dtype)
        label_map, confidence = run(logits, size, align_corners=align_corners, confidence=True)
        wide = upsampled(logits, size, align_corners)
        exact = 1 / np.exp(wide - wide.max(axis=0)).sum(axis=0)
        # Half a step of rounding, and float32.
        assert np.abs(confidence / 255 - exact).max() <= 0.51 / 255
        expected = decode_with_confidence(logits, size, align_corners=align_corners)
        assert np.abs(confidence.astype(int) - expected[1]).max() <= 1
        plain = run(logits, size, align_corners=align_corners)
        assert (label_map != plain).mean() < 1e-3

    @pytest.mark.parametrize("unknown_below", [1, 100, 128, 255])
    def test_pixels_below_the_threshold_have_no_label(self, unknown_below):
        logits, size = smooth(6, 32, 40) / 8, (96, 120)
        expected, sure = decode_with_confidence(logits, size, unknown_below=unknown_below)
        near = np.abs(sure.astype(int) - unknown_below) <= 1
        found, found_sure = run(logits, size, confidence=True, unknown_below=unknown_below)
        np.testing.assert_array_equal(found[~near], expected[~near])
        np.testing.assert_array_equal(found == 255, found_sure < unknown_below)
        alone = run(logits, size, unknown_below=unknown_below)
        np.testing.assert_array_equal(alone, found)
        if unknown_below in (100, 128):
            assert 0.02 < (found == 255).mean() < 0.98

    def test_equally_good_classes_share_it(self):
        assert (run(np.zeros((5, 2, 2), np.float32), (16, 16), confidence=True)[1] == 51).all()


def test_real_scene_has_the_stages_labels():
    """Class by class, a blurred picture of where it is: the borders of a real frame."""
    from fcn_trt.scene.scene import StreetScene

    _, labels = StreetScene(3).render(0, (256, 512))
    planes = [
        cv2.resize((labels == c).astype(np.float32), (64, 32), interpolation=cv2.INTER_AREA)
        for c in range(11)
    ]
    logits = 10 * np.stack(planes)
    for align_corners, dtype in itertools.product((False, True), (np.float32, np.float16)):
        check_labels(logits.astype(dtype), (256, 512), align_corners)
    assert (run(logits, (256, 512)) == labels).mean() > 0.9


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"logits_shape": (257, 4, 5)}, "1 to 256 classes, not 257"),
        ({"logits_shape": (0, 4, 5)}, "1 to 256 classes, not 0"),
        ({"logits_shape": (3, 0, 5)}, "a logits of 0x5 has a side"),
        ({"size": (0, 8)}, "a frame of 0x8 has a side that is not 1 to 16384"),
        ({"size": (8, 20000)}, "a frame of 8x20000 has a side"),
        ({"dtype": np.float64}, "float16 or float32, not float64"),
        ({"unknown_below": 256}, "unknown_below 256 is not between 0 and 255"),
    ],
)
def test_what_cannot_be_decoded_is_refused(change, message):
    good: dict[str, Any] = {
        "logits_address": 64,
        "logits_shape": (3, 4, 5),
        "dtype": np.float32,
        "size": (8, 8),
        "label_address": 64,
        "align_corners": False,
    }
    assert decode_launch(**good).kernel == "decode_float32"
    with pytest.raises(ValueError, match=message):
        decode_launch(**{**good, **change})
