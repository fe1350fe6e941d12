"""Agreement of label maps against loops that count pixel by pixel."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fcn_trt.evaluation.agreement import Agreement, near_boundary


def blobs(rng: np.random.Generator, size=(13, 17), *, side=3) -> np.ndarray:
    """Square patches of 4 classes, with some "no label" among them."""
    labels = rng.choice([0, 1, 2, 3, 255], size=(-(-size[0] // side), -(-size[1] // side)))
    return np.kron(labels, np.ones((side, side)))[: size[0], : size[1]].astype(np.uint8)


def loop_near(labels: np.ndarray, radius: int) -> np.ndarray:
    height, width = labels.shape
    edge = np.zeros(labels.shape, dtype=bool)
    for y, x in np.ndindex(height, width):
        for other in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
            inside = 0 <= other[0] < height and 0 <= other[1] < width
            edge[y, x] |= inside and labels[other] != labels[y, x]
    near = np.zeros(labels.shape, dtype=bool)
    for y, x in np.ndindex(height, width):
        for v, u in np.argwhere(edge):
            near[y, x] |= max(abs(v - y), abs(u - x)) <= radius
    return near


@pytest.mark.parametrize("radius", [0, 1, 3])
@pytest.mark.parametrize("size", [(13, 17), (1, 9), (9, 1), (1, 1)])
def test_near_a_boundary_is_what_a_loop_finds(radius, size):
    labels = blobs(np.random.default_rng(radius), size)
    np.testing.assert_array_equal(near_boundary(labels, radius), loop_near(labels, radius))


def test_a_single_edge_makes_a_band_of_its_radius_on_both_sides():
    labels = np.zeros((5, 20), dtype=np.uint8)
    labels[:, 10:] = 1
    # Columns 9 and 10 are the boundary; 6 and 13 are three pixels from it.
    assert np.flatnonzero(near_boundary(labels)[2]).tolist() == list(range(6, 14))


def test_all_counts_are_those_of_a_loop_over_the_pixels():
    rng = np.random.default_rng(1)
    agreement = Agreement(4, radius=2)
    same = {True: 0, False: 0}
    total = {True: 0, False: 0}
    both, first_has, either = ([0] * 4 for _ in range(3))
    for _ in range(3):
        first = blobs(rng, (20, 30), side=10)
        second = np.where(rng.random(first.shape) < 0.2, blobs(rng, first.shape), first)
        near = loop_near(first, 2)
        found = agreement.update(first, second)
        for at in np.ndindex(first.shape):
            total[near[at]] += 1
            same[near[at]] += first[at] == second[at]
            for label in range(4):
                first_has[label] += first[at] == label
                either[label] += label in (first[at], second[at])
                both[label] += first[at] == second[at] == label
        assert found.pixels == pytest.approx((first == second).mean())
        assert found.near_boundary == pytest.approx((first == second)[near].mean())
    assert agreement.near_boundary == same[True] / total[True]
    assert agreement.elsewhere == same[False] / total[False]
    assert agreement.pixels == sum(same.values()) / sum(total.values())
    assert agreement.boundary_share == total[True] / sum(total.values())
    assert agreement.iou().tolist() == [b / e for b, e in zip(both, either, strict=True)]
    assert agreement.kept().tolist() == [b / h for b, h in zip(both, first_has, strict=True)]


def test_no_label_on_both_sides_agrees_and_on_one_side_counts_against_the_class():
    agreement = Agreement(2)
    agreement.update(
        np.array([[255, 255, 0, 1]], dtype=np.uint8), np.array([[255, 0, 0, 255]], dtype=np.uint8)
    )
    assert agreement.pixels == 0.5
    assert agreement.iou().tolist() == [0.5, 0.0]
    assert agreement.kept().tolist() == [1.0, 0.0]


def test_what_occurs_nowhere_is_nan():
    agreement = Agreement(3)
    assert math.isnan(agreement.pixels)
    found = agreement.update(np.zeros((4, 4), np.uint8), np.ones((4, 4), np.uint8))
    assert math.isnan(found.near_boundary)
    assert math.isnan(agreement.near_boundary)
    assert agreement.elsewhere == agreement.pixels == agreement.boundary_share == 0
    assert agreement.iou()[:2].tolist() == [0, 0]
    assert np.isnan(agreement.iou()[2])
    assert np.isnan(agreement.kept()[1:]).all()  # the first has no class 1


def test_the_boundaries_are_those_of_the_first():
    flat = np.zeros((20, 20), dtype=np.uint8)
    split = flat.copy()
    split[:, 10:] = 1
    agreement = Agreement(2)
    assert agreement.update(split, flat).near_boundary == 0.5
    assert math.isnan(agreement.update(flat, split).near_boundary)


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.uint8), r"is \(2, 3\), the second \(3, 2"),
        (np.full((2, 2), 2, np.uint8), np.zeros((2, 2), np.uint8), "first label map has label 2"),
        (np.zeros((2, 2), np.uint8), np.full((2, 2), 254, np.uint8), "second label map has label"),
        (np.zeros((2, 2), np.int64), np.zeros((2, 2), np.int64), r"this one is \(2, 2\) int64"),
        (np.zeros((0, 2), np.uint8), np.zeros((0, 2), np.uint8), r"this one is \(0, 2\) uint8"),
    ],
)
def test_label_maps_that_are_none_are_refused(first, second, message):
    with pytest.raises(ValueError, match=message):
        Agreement(2).update(first, second)
