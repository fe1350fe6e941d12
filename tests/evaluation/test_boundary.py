import json

import numpy as np
import pytest

from fcn_trt.evaluation.boundary import BoundaryScore, boundary_f

CLASSES = 6


def edge(labels, index, counted):
    """Pixels of a class with a counted 4-neighbour of another label."""
    other = np.pad((labels != index) & counted, 1)
    beside = other[2:, 1:-1] | other[:-2, 1:-1] | other[1:-1, 2:] | other[1:-1, :-2]
    return np.asarray(beside & (labels == index) & counted)


def oracle(label_map, truth, index):
    """The score from SciPy's exact distances and scikit-learn's precision and recall."""
    distance_to = pytest.importorskip("scipy.ndimage").distance_transform_edt
    metrics = pytest.importorskip("sklearn.metrics")
    counted = truth != 255
    occurs = [np.any(side[counted] == index) for side in (truth, label_map)]
    if not any(occurs):
        return np.nan
    true, predicted = edge(truth, index, counted), edge(label_map, index, counted)
    if all(occurs) and not true.any() and not predicted.any():
        return np.nan
    if not true.any() or not predicted.any():
        return 0.0
    tolerance = 0.0075 * np.hypot(*truth.shape) + 1e-9
    near_true = distance_to(~true) <= tolerance
    near_predicted = distance_to(~predicted) <= tolerance
    found, missed = predicted | near_true, true | near_predicted  # the rest counts for neither
    precision = metrics.precision_score(near_true[found], predicted[found])
    recall = metrics.recall_score(true[missed], near_predicted[missed])
    return 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)


def blobs(rng, size, classes):
    """A label map of patches, so that boundaries are neither everywhere nor nowhere."""
    cells = rng.choice(classes, size=(size[0] // 16 + 1, size[1] // 16 + 1)).astype(np.uint8)
    return np.kron(cells, np.ones((16, 16), dtype=np.uint8))[: size[0], : size[1]]


def images(seed):
    """Prediction and truth: patches that are shifted against each other, noise, and left-outs."""
    rng = np.random.default_rng(seed)
    size = (int(rng.integers(60, 200)), int(rng.integers(60, 400)))
    classes = rng.choice(CLASSES, size=4, replace=False)
    truth = blobs(rng, size, classes[:3])  # the fourth class is predicted, but never true
    label_map = np.roll(truth, rng.integers(-4, 5, 2), (0, 1))
    noise = rng.random(size) < 0.002
    label_map[noise] = rng.choice(classes, size=int(noise.sum()))
    label_map[rng.random(size) < 0.001] = 255
    truth[rng.random(size) < 0.05] = 255
    truth[5:20, 7:30] = 255
    return label_map, truth


@pytest.mark.parametrize("seed", range(15))
def test_scores_equal_those_from_exact_distances(seed):
    label_map, truth = images(seed)
    expected = [oracle(label_map, truth, index) for index in range(CLASSES)]
    np.testing.assert_allclose(boundary_f(label_map, truth, CLASSES), expected, rtol=0, atol=1e-9)
    assert np.isnan(expected).any()
    assert 0 < np.nanmax(expected) < 1


@pytest.mark.parametrize("seed", range(3))
def test_scores_of_pure_noise_equal_those_from_exact_distances(seed):
    rng = np.random.default_rng(seed)
    label_map, truth = rng.integers(0, CLASSES, (2, 90, 70)).astype(np.uint8)
    truth[rng.random(truth.shape) < 0.5] = 255
    expected = [oracle(label_map, truth, index) for index in range(CLASSES)]
    np.testing.assert_allclose(boundary_f(label_map, truth, CLASSES), expected, rtol=0, atol=1e-9)


def test_scores_of_many_classes_in_many_parts_equal_those_from_exact_distances():
    """More classes than bits of a word, on an image of more parts than are computed at once."""
    rng = np.random.default_rng(0)
    truth = blobs(rng, (600, 610), range(70))
    label_map = np.roll(truth, (3, -5), (0, 1))
    noise = rng.random(truth.shape) < 0.01
    label_map[noise] = rng.integers(0, 70, int(noise.sum()))
    expected = [oracle(label_map, truth, index) for index in range(70)]
    np.testing.assert_allclose(boundary_f(label_map, truth, 70), expected, rtol=0, atol=1e-9)
    assert 0 < min(expected) < max(expected) < 1


def halves(boundary, *, size=(240, 320)):
    """Class 0 left of a column, class 1 from it on."""
    labels = np.zeros(size, dtype=np.uint8)
    labels[:, boundary:] = 1
    return labels


@pytest.mark.parametrize(("shift", "score"), [(0, 1.0), (3, 1.0), (4, 0.0), (-3, 1.0), (-4, 0.0)])
def test_distance_of_exactly_the_tolerance_is_within_it(shift, score):
    # 0.75 % of the 400 pixels of this diagonal are 3 pixels.
    scores = boundary_f(halves(100 + shift), halves(100), 2)
    np.testing.assert_array_equal(scores, [score, score])


def test_precision_and_recall_are_weighed_against_each_other():
    truth = halves(100)
    label_map = truth.copy()
    label_map[100:140, 200:240] = 0  # a square far inside of class 1
    # Class 0: 240 pixels are right; 4 * 40 - 4 of the square are not. Class 1: its ring around.
    hits, square, ring = 240, 156, 160
    expected = [2 * hits / (2 * hits + wrong) for wrong in (square, ring)]
    np.testing.assert_allclose(boundary_f(label_map, truth, 2), expected, rtol=1e-12)


def test_class_on_one_side_alone_scores_nothing():
    truth = halves(100)
    label_map = truth.copy()
    label_map[:10, :10] = 2
    scores = boundary_f(label_map, truth, 4)
    assert scores[2] == 0
    assert np.isnan(scores[3])
    assert boundary_f(truth, label_map, 4)[2] == 0


def test_one_class_everywhere_has_no_boundary_to_judge():
    full = np.ones((20, 30), dtype=np.uint8)
    assert np.isnan(boundary_f(full, full, 2)).all()
    np.testing.assert_array_equal(boundary_f(full, full - 1, 2), [0, 0])


def test_class_with_a_boundary_on_one_side_scores_nothing():
    np.testing.assert_array_equal(
        boundary_f(halves(15, size=(20, 30)), np.zeros((20, 30), dtype=np.uint8), 2), [0, 0]
    )


def test_what_is_left_out_counts_on_neither_side_and_makes_no_boundary():
    truth, label_map = halves(100), halves(100)
    truth[50:80, 150:250] = 255
    label_map[55:75, 160:240] = 0  # wrong, but only where the truth is left out
    np.testing.assert_array_equal(boundary_f(label_map, truth, 2), [1, 1])
    truth[:] = 255
    assert np.isnan(boundary_f(label_map, truth, 2)).all()


def test_no_label_makes_a_boundary_but_is_no_class():
    truth, label_map = halves(100), halves(100)
    label_map[100:140, 200:240] = 255
    scores = boundary_f(label_map, truth, 2)
    np.testing.assert_allclose(scores, [1, 2 * 240 / (2 * 240 + 160)], rtol=1e-12)


def test_sides_of_several_sizes_are_refused():
    with pytest.raises(ValueError, match=r"label map is \(1, 2\) but the truth is \(2, 1\)"):
        boundary_f(np.zeros((1, 2), np.uint8), np.zeros((2, 1), np.uint8), 2)


def test_class_score_is_the_mean_over_the_images_that_have_it():
    score = BoundaryScore(3)
    score.update(halves(100), halves(100))
    score.update(halves(150), halves(100))
    full = np.zeros((240, 320), dtype=np.uint8)
    score.update(full, full)
    np.testing.assert_array_equal(score.per_class(), [1 / 2, 1 / 2, np.nan])


def test_it_is_the_same_after_a_round_trip_through_json():
    score = BoundaryScore(CLASSES)
    for seed in range(3):
        score.update(*images(seed))
    again = BoundaryScore.from_json(CLASSES, json.loads(json.dumps(score.to_json())))
    for scores in (score, again):
        scores.update(*images(3))
    np.testing.assert_array_equal(again.per_class(), score.per_class())


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "no boundary scores: it: "),
        ({"sums": [0.5]}, "no boundary scores: images: "),
        ({"sums": [0.5], "images": [1], "more": 0}, "no boundary scores: more: "),
        ({"sums": [float("nan")], "images": [1]}, r"no boundary scores: sums\.0: .* finite"),
        ({"sums": [-0.1], "images": [1]}, r"no boundary scores: sums\.0: "),
        ({"sums": [0.5], "images": [-1]}, r"no boundary scores: images\.0: "),
        ({"sums": [0.5, 0], "images": [1, 0]}, "scores of 2 classes and images of 2 are none of 1"),
        ({"sums": [0.5], "images": [1, 0]}, "scores of 1 classes and images of 2 are none of 1 cl"),
        ({"sums": [1.5], "images": [1]}, "a boundary score is above 1, which none can be"),
    ],
)
def test_json_of_another_form_is_refused(value, message):
    with pytest.raises(ValueError, match=message):
        BoundaryScore.from_json(1, value)
