import json
from functools import partial

import numpy as np
import pytest

from fcn_trt.evaluation.metrics import ConfusionMatrix


def matrix(label_map, truth, classes=3):
    confusion = ConfusionMatrix(classes)
    confusion.update(np.array(label_map, np.uint8), np.array(truth, np.uint8))
    return confusion


def test_perfect_prediction_scores_one():
    confusion = matrix([[0, 1], [2, 2]], [[0, 1], [2, 2]])
    assert confusion.miou() == 1.0
    assert confusion.pixel_accuracy() == 1.0


def test_iou_is_intersection_over_union_per_class():
    confusion = matrix([[0, 0, 1, 1]], [[0, 1, 1, 1]])
    np.testing.assert_allclose(confusion.iou(), [1 / 2, 2 / 3, np.nan])
    assert confusion.miou() == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert confusion.pixel_accuracy() == 3 / 4


def test_truth_255_is_left_out_and_predicted_255_is_wrong():
    assert matrix([[0, 1]], [[0, 255]]).pixel_accuracy() == 1.0
    confusion = matrix([[0, 255]], [[0, 1]])
    assert confusion.pixel_accuracy() == 0.5
    np.testing.assert_allclose(confusion.iou()[:2], [1.0, 0.0])


def test_images_are_summed_before_the_ratio():
    confusion = matrix([[0, 0]], [[0, 0]])
    confusion.update(np.array([[1, 1]], np.uint8), np.array([[0, 1]], np.uint8))
    np.testing.assert_allclose(confusion.iou()[:2], [2 / 3, 1 / 2])


def test_nothing_counted_is_not_a_number():
    confusion = ConfusionMatrix(2)
    assert np.isnan(confusion.miou())
    assert np.isnan(confusion.pixel_accuracy())


@pytest.mark.parametrize(
    ("label_map", "truth", "message"),
    [
        ([[0, 1]], [[0]], r"label map is \(1, 2\) but the truth is \(1, 1\)"),
        ([[3]], [[0]], "label map has label 3, but there are 3 classes"),
        ([[0]], [[9]], "truth has label 9, but there are 3 classes"),
    ],
)
def test_what_does_not_fit_is_refused(label_map, truth, message):
    with pytest.raises(ValueError, match=message):
        matrix(label_map, truth)


def test_accuracy_is_the_recall_of_a_true_class():
    confusion = matrix([[0, 1, 1, 255]], [[0, 0, 1, 1]])
    np.testing.assert_allclose(confusion.accuracy(), [1 / 2, 1 / 2, np.nan])
    assert confusion.mean_accuracy() == 1 / 2
    assert np.isnan(ConfusionMatrix(2).mean_accuracy())


def test_table_has_the_truth_in_rows_and_no_label_last():
    confusion = matrix([[0, 1, 1, 255]], [[0, 0, 1, 1]])
    assert confusion.table().tolist() == [[1, 1, 0, 0], [0, 1, 0, 1], [0, 0, 0, 0]]


CLASSES = 9


def images(seed, *, unlabelled):
    """Label maps of several sizes: noise on the truth, some left out, some classes absent."""
    rng = np.random.default_rng(seed)
    present = rng.choice(CLASSES, size=rng.integers(2, CLASSES), replace=False).astype(np.uint8)
    for _ in range(3):
        size = rng.integers(5, 40, 2)
        truth = rng.choice(present[1:], size=size)
        noise = rng.choice(present, size=size)  # its first class is predicted, but never true
        label_map = np.where(rng.random(size) < 0.6, truth, noise)
        truth[rng.random(size) < 0.2] = 255
        if unlabelled:
            label_map[rng.random(size) < 0.1] = 255
        yield label_map, truth


@pytest.fixture(params=range(12))
def summed(request):
    """Ours of several images, and all of their counted pixels for an oracle."""
    confusion, predicted, true = ConfusionMatrix(CLASSES), [], []
    for label_map, truth in images(request.param, unlabelled=False):
        confusion.update(label_map, truth)
        predicted.append(label_map.ravel())
        true.append(truth.ravel())
    return confusion, np.concatenate(predicted), np.concatenate(true)


def test_figures_equal_those_of_torchmetrics(summed):
    torch = pytest.importorskip("torch")
    classification = pytest.importorskip("torchmetrics.classification")
    confusion, predicted, true = summed

    def theirs(name, **options):
        metric = getattr(classification, name)(CLASSES, ignore_index=255, **options)
        half = len(true) // 2  # summed over calls, as ours over images
        metric.update(torch.from_numpy(predicted[:half]), torch.from_numpy(true[:half]).long())
        metric.update(torch.from_numpy(predicted[half:]), torch.from_numpy(true[half:]).long())
        return metric.compute().numpy()

    close = partial(np.testing.assert_allclose, rtol=1e-6)  # theirs are float32
    assert np.array_equal(confusion.counts, theirs("MulticlassConfusionMatrix"))
    iou, accuracy = confusion.iou(), confusion.accuracy()
    close(np.nan_to_num(iou), theirs("MulticlassJaccardIndex", average="none"))
    close(confusion.miou(), theirs("MulticlassJaccardIndex"))
    close(np.nan_to_num(accuracy), theirs("MulticlassAccuracy", average="none"))
    close(confusion.pixel_accuracy(), theirs("MulticlassAccuracy", average="micro"))
    # Their macro average has a 0 for a class that is predicted, but never true: ours has none.
    predicted_or_true = ~np.isnan(iou)
    close(
        np.nan_to_num(accuracy)[predicted_or_true].mean(),
        theirs("MulticlassAccuracy", average="macro"),
    )


def test_figures_equal_those_of_scikit_learn(summed):
    metrics = pytest.importorskip("sklearn.metrics")
    confusion, predicted, true = summed
    counted = true != 255
    pair = true[counted], predicted[counted]
    every = {"labels": range(CLASSES), "average": None}
    assert np.array_equal(confusion.counts, metrics.confusion_matrix(*pair, labels=range(CLASSES)))
    occur = np.isin(range(CLASSES), pair)
    assert np.array_equal(~np.isnan(confusion.iou()), occur)
    iou = metrics.jaccard_score(*pair, **every, zero_division=0)
    np.testing.assert_allclose(confusion.iou()[occur], iou[occur], rtol=1e-12)
    np.testing.assert_allclose(confusion.miou(), iou[occur].mean(), rtol=1e-12)
    recall = metrics.recall_score(*pair, **every, zero_division=np.nan)
    np.testing.assert_allclose(confusion.accuracy(), recall, rtol=1e-12)
    mean = metrics.recall_score(*pair, labels=np.unique(pair[0]), average="macro")
    assert confusion.mean_accuracy() == pytest.approx(mean, rel=1e-12)
    assert confusion.pixel_accuracy() == pytest.approx(metrics.accuracy_score(*pair), rel=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_no_label_counts_as_a_wrong_class_of_its_own(seed):
    metrics = pytest.importorskip("sklearn.metrics")
    confusion, predicted, true = ConfusionMatrix(CLASSES), [], []
    for label_map, truth in images(seed, unlabelled=True):
        confusion.update(label_map, truth)
        predicted.append(label_map[truth != 255])
        true.append(truth[truth != 255])
    pair = np.concatenate(true), np.concatenate(predicted)
    table = metrics.confusion_matrix(*pair, labels=[*range(CLASSES), 255])
    assert np.array_equal(confusion.table(), table[:-1])
    iou = metrics.jaccard_score(*pair, labels=range(CLASSES), average=None, zero_division=0)
    np.testing.assert_allclose(np.nan_to_num(confusion.iou()), iou, rtol=1e-12)
    assert confusion.pixel_accuracy() == pytest.approx(metrics.accuracy_score(*pair), rel=1e-12)


def test_it_is_the_same_after_a_round_trip_through_json(summed):
    confusion, *_ = summed
    confusion.missed[1] = 2**40
    again = ConfusionMatrix.from_json(CLASSES, json.loads(json.dumps(confusion.to_json())))
    assert np.array_equal(again.table(), confusion.table())
    assert again.counts.dtype == again.missed.dtype == np.int64
    again.update(np.zeros((1, 1), np.uint8), np.zeros((1, 1), np.uint8))
    assert again.counts[0, 0] == confusion.counts[0, 0] + 1


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "no confusion matrix: it: "),
        ({"counts": [[1]]}, "no confusion matrix: missed: "),
        ({"counts": [[1]], "missed": [0], "more": 1}, "no confusion matrix: more: "),
        ({"counts": [[1.5, 0], [0, 0]], "missed": [0, 0]}, r"matrix: counts\.0\.0: .* integer"),
        ({"counts": [[-1, 0], [0, 0]], "missed": [0, 0]}, r"matrix: counts\.0\.0: .* than or equa"),
        ({"counts": [[1, 0], [0, 0]], "missed": [0, 2**48]}, r"matrix: missed\.1: .* less than"),
        ({"counts": [[True, 0], [0, 0]], "missed": [0, 0]}, r"matrix: counts\.0\.0: .* integer"),
        ({"counts": [[1, 0]], "missed": [0, 0]}, "counts of 1 classes are no 2x2 matrix"),
        ({"counts": [[1, 0], [0]], "missed": [0, 0]}, "counts of 2 classes are no 2x2 matrix"),
        ({"counts": [[1, 0], [0, 0]], "missed": [0]}, "1 classes were missed, but 2 are"),
    ],
)
def test_json_of_another_form_is_refused(value, message):
    with pytest.raises(ValueError, match=message):
        ConfusionMatrix.from_json(2, value)
