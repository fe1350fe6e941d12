import numpy as np
import pytest

from fcn_trt.metrics import ConfusionMatrix


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
