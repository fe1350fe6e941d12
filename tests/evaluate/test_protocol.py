import math

import numpy as np
import pytest

from fcn_trt.errors import DatasetError
from fcn_trt.evaluate.datasets import Sample
from fcn_trt.evaluate.protocol import check_classes, evaluate
from fcn_trt.labels import LabelSet, hub_palette
from fcn_trt.runtime.segmenter import Segmenter


class Labelled:
    """Labelled images in memory; pixel (0, 0, 0) of a frame says what is to be predicted."""

    name = "drawn"

    def __init__(self, classes, pairs):
        self.labels = LabelSet(name="custom", classes=classes, palette=hub_palette(len(classes)))
        self.pairs = pairs

    def __len__(self):
        return len(self.pairs)

    def __iter__(self):
        for index, (predicted, truth) in enumerate(self.pairs):
            truth = np.array(truth, dtype=np.uint8)
            frame = np.zeros((*truth.shape, 3), dtype=np.uint8)
            frame[..., 0] = predicted
            yield Sample(name=str(index), frame=frame, truth=truth)


def echo(frames):
    """A process that predicts what the frame says, and keeps two frames in flight."""
    waiting = []
    for frame in frames:
        waiting.append(frame)
        if len(waiting) == 2:
            done = waiting.pop(0)
            yield done, done[..., 0]
    yield from ((frame, frame[..., 0]) for frame in waiting)


def test_counts_are_summed_over_all_images_before_they_are_divided():
    # Class 0: 3 right, union 4; class 1: 4 right, union 5. Averaging images would give another.
    images = Labelled(("a", "b"), [([[0, 0, 0, 1]], [[0, 0, 0, 0]]), ([[1, 1, 1, 1]], [[1] * 4])])
    found = evaluate(echo, images)
    assert found.images == 2
    assert found.per_class == {"a": 3 / 4, "b": 4 / 5}
    assert found.miou == pytest.approx((3 / 4 + 4 / 5) / 2)
    assert found.pixel_accuracy == 7 / 8


def test_pixels_without_a_label_are_left_out():
    images = Labelled(("a", "b"), [([[0, 1, 1]], [[0, 1, 255]])])
    assert evaluate(echo, images).miou == 1


def test_class_that_occurs_nowhere_is_not_in_the_mean():
    found = evaluate(echo, Labelled(("a", "b", "c"), [([[0, 1]], [[0, 1]])]))
    assert found.miou == 1
    assert math.isnan(found.per_class["c"])


def test_each_image_is_announced_once():
    calls = []
    pairs = [([[0]], [[0]])] * 5
    evaluate(echo, Labelled(("a",), pairs), on_image=lambda: calls.append(1))
    assert len(calls) == 5


def test_images_of_several_sizes_are_each_measured_at_their_own(tiny_bundle, make_frame):
    class Frames(Labelled):
        def __iter__(self):
            for index, size in enumerate([(64, 96), (48, 64), (100, 30)]):
                frame = make_frame(size, seed=index)
                yield Sample(name="", frame=frame, truth=truths[index])

    with Segmenter.load(tiny_bundle.path) as segmenter:
        frames = [
            make_frame(size, seed=i) for i, size in enumerate([(64, 96), (48, 64), (100, 30)])
        ]
        truths = segmenter.segment_batch(frames)
        found = evaluate(segmenter.stream, Frames(segmenter.spec.classes, [None] * 3))
    assert (found.images, found.miou, found.pixel_accuracy) == (3, 1, 1)


def test_same_classes_are_accepted():
    check_classes(Labelled(("a", "b"), []), ("a", "b"))


@pytest.mark.parametrize(
    ("classes", "difference"),
    [
        (("a",), "1 instead of 2 classes"),
        (("a", "b", "c"), "3 instead of 2 classes"),
        (("b", "a"), "class 0 is 'b' instead of 'a'"),
        (("a", "c", "d"), "class 1 is 'c' instead of 'b'"),
    ],
)
def test_other_classes_are_refused_with_the_first_difference(classes, difference):
    message = f"does not predict the classes of drawn: {difference}; both need the same names"
    with pytest.raises(DatasetError, match=message):
        check_classes(Labelled(("a", "b"), []), classes)
