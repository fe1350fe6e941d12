import json
import math

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from fcn_trt.errors import DatasetError
from fcn_trt.evaluation.measure import evaluate
from fcn_trt.evaluation.protocol import Protocol, Slide, scaled
from fcn_trt.evaluation.sample import Sample, check_classes
from fcn_trt.labels import named_label_set
from fcn_trt.runtime.segmenter import Segmenter


class Labelled:
    """Labelled images in memory; pixel (0, 0, 0) of a frame says what is to be predicted."""

    name = "drawn"

    def __init__(self, classes, pairs):
        self.labels = named_label_set(classes)
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


FULL = Protocol(
    name="x",
    source="y",
    resize="box",
    size=(512, 2048),
    slide=Slide(crop=(48, 64), stride=(32, 64)),
    scales=(0.5, 1.0),
    flip=True,
)


def test_protocol_is_read_back_from_json_strictly():
    reader = TypeAdapter(Protocol)
    text = json.dumps(FULL.to_dict())
    assert reader.validate_json(text) == FULL
    for wrong in (
        text.replace('"box"', '"tube"'),
        text.replace("true", '"yes"', 1),
        text.replace('"name"', '"nome"'),
        text.replace("[32, 64]", "[32, 65]"),  # leaves pixels out
    ):
        assert wrong != text
        with pytest.raises(ValidationError):
            reader.validate_json(wrong)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"resize": "engine", "size": (1, 1)}, r"resize 'engine' does not go with size \(1, 1\)"),
        ({"resize": "box"}, "resize 'box' does not go with size None"),
        ({"resize": "none", "scales": ()}, "must be positive, and at least one"),
        ({"resize": "none", "scales": (1.0, 0.0)}, "must be positive, and at least one"),
    ],
)
def test_protocol_that_means_nothing_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Protocol(name="x", source="y", **fields)


def test_windows_that_leave_pixels_out_are_refused():
    for stride in ((0, 1), (49, 1), (1, 65)):
        with pytest.raises(ValueError, match="would leave pixels out"):
            Slide(crop=(48, 64), stride=stride)


def test_scaled_sizes_are_rounded_as_mmcv_rounds_them():
    assert scaled((375, 500), 1) == (375, 500)
    assert scaled((375, 500), 0.5) == (188, 250)
    # A box of 281 x 376 first, in which 281 x 375 keeps the ratio; mmcv 2.1 gives the same.
    assert scaled((375, 501), 0.75) == (281, 375)
    assert scaled((375, 501), 1.75) == (656, 876)


@pytest.mark.parametrize("size", [(1, 3000), (3000, 1)])
def test_a_pixel_of_a_long_thin_image_stays(size):
    assert scaled(size, 0.1) == tuple(max(1, side // 10) for side in size)
    box = Protocol(name="x", source="", resize="box", size=(512, 1024))
    assert min(box.base_size(size, (1, 1))) == 1


def test_sentence_says_what_is_done():
    assert FULL.sentence() == (
        "protocol x: each image within 512x2048 at its ratio, in windows of 48x64 every 32x64, at "
        "scales 0.5, 1, also mirrored, compared at its own size (y)"
    )
