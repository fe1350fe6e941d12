import json
import math

import numpy as np
import pytest

from fcn_trt.evaluation.boundary import boundary_f
from fcn_trt.evaluation.scores import Scores

CLASSES = ("sky", "road", "tree", "car")


def image(seed):
    rng = np.random.default_rng(seed)
    truth = np.kron(rng.integers(0, 3, (6, 8)), np.ones((10, 10))).astype(np.uint8)
    label_map = np.roll(truth, 1, 1)
    truth[:5, :5] = label_map[30:33, 30:33] = 255
    return label_map, truth


@pytest.fixture
def scores():
    """Scores of three images."""
    found = Scores(CLASSES)
    for seed in range(3):
        found.update(*image(seed))
    return found


def test_everything_is_measured_on_the_same_images():
    scores = Scores(("a", "b", "c"))
    truth = np.zeros((4, 10), dtype=np.uint8)
    truth[:, 5:] = 1
    label_map = truth.copy()
    label_map[0, 0] = 255
    label_map[3, 9] = 0
    truth[1, 1] = 255
    scores.update(label_map, truth)
    found = scores.evaluation()
    assert found.images == 1
    assert found.confusion == ((18, 0, 0, 1), (1, 19, 0, 0), (0, 0, 0, 0))
    assert found.pixel_accuracy == 37 / 39
    assert found.accuracy_per_class == pytest.approx(
        {"a": 18 / 19, "b": 19 / 20, "c": float("nan")}, nan_ok=True
    )
    assert found.mean_accuracy == pytest.approx((18 / 19 + 19 / 20) / 2)
    assert found.per_class == pytest.approx(
        {"a": 18 / 20, "b": 19 / 20, "c": float("nan")}, nan_ok=True
    )
    assert found.miou == pytest.approx((18 / 20 + 19 / 20) / 2)
    expected = boundary_f(label_map, truth, 3)
    assert list(found.boundary_f_per_class.values()) == pytest.approx(list(expected), nan_ok=True)
    assert found.boundary_f == pytest.approx(np.nanmean(expected))


def test_boundaries_are_averaged_over_images_and_then_over_classes(scores):
    pairs = map(image, range(3))
    per_image = np.array([boundary_f(label_map, truth, 3) for label_map, truth in pairs])
    found = scores.evaluation()
    assert found.boundary_f == pytest.approx(per_image.mean(0).mean(), rel=1e-12)
    assert math.isnan(found.boundary_f_per_class["car"])


def test_nothing_was_measured_on_no_image():
    found = Scores(CLASSES).evaluation()
    assert found.images == 0
    assert all(map(math.isnan, (found.miou, found.pixel_accuracy, found.boundary_f)))


def test_they_go_on_after_a_round_trip_through_json_as_if_there_had_been_none():
    straight = Scores(CLASSES)
    for seed in range(5):
        straight.update(*image(seed))
    scores = Scores(CLASSES)
    for seed in range(5):
        scores = Scores.from_json(CLASSES, json.loads(json.dumps(scores.to_json())))
        scores.update(*image(seed))
    assert json.dumps(scores.to_json()) == json.dumps(straight.to_json())
    assert repr(scores.evaluation()) == repr(straight.evaluation())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": -1}, r"these are no scores: images: .* greater than or equal to 0"),
        ({"images": 2.5}, r"these are no scores: images: .* valid integer"),
        ({"more": 1}, "these are no scores: more: "),
        ({"confusion": None}, "these are no scores: confusion: "),
        ({"confusion": {}}, "this is no confusion matrix: counts: "),
        ({"boundary": None}, "these are no scores: boundary: "),
        ({"boundary": {}}, "these are no boundary scores: sums: "),
        ({"boundary": {"sums": [], "images": []}}, "scores of 0 classes and images of 0 are none"),
        ({"images": 2}, "boundaries of more than the 2 images are scored"),
    ],
)
def test_json_of_another_form_is_refused(scores, change, message):
    with pytest.raises(ValueError, match=message):
        Scores.from_json(CLASSES, scores.to_json() | change)


def test_json_of_other_classes_is_refused(scores):
    with pytest.raises(ValueError, match="counts of 4 classes are no 3x3 matrix"):
        Scores.from_json(CLASSES[:3], scores.to_json())
    with pytest.raises(ValueError, match="these are no scores: they: "):
        Scores.from_json(CLASSES, [])


def test_labels_that_are_no_classes_are_refused():
    with pytest.raises(ValueError, match="truth has label 4, but there are 4 classes"):
        Scores(CLASSES).update(np.zeros((2, 2), np.uint8), np.full((2, 2), 4, np.uint8))
