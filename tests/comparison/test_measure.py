"""Numbers of a comparison against numbers by hand, and that memory stays where it is."""

from __future__ import annotations

import dataclasses
import math
import weakref

import cv2
import numpy as np
import pytest

from fcn_trt.comparison.images import ImageChoice
from fcn_trt.comparison.measure import WORST_IMAGES, compare
from fcn_trt.comparison.predictor import open_predictors
from fcn_trt.errors import DatasetError, SourceError
from fcn_trt.evaluation.agreement import near_boundary
from fcn_trt.evaluation.metrics import ConfusionMatrix
from fcn_trt.runtime.segmenter import Segmenter


def no_picture(image, first, second):
    return image.name


def test_shares_are_those_counted_by_hand(grey, write_images):
    # 8x20 pixels: 0 on the left half, 1 on the right; B calls the last two columns class 2.
    left = np.zeros((8, 20))
    left[:, 10:] = 1
    marked = left.copy()
    marked[:, 18:] = 9
    folder = write_images({"a.png": left, "b.png": marked})
    first = grey(lambda blue: np.minimum(blue, 1))
    second = grey(lambda blue: np.where(blue == 9, 2, blue))
    images = ImageChoice(folder=folder).find(first.spec)
    found = compare(first, second, images, draw=no_picture)
    assert found.images == 2
    assert found.pixels == pytest.approx(1 - 16 / 320)
    assert found.near_boundary == 1  # columns 6 to 13
    assert found.boundary_share == pytest.approx(8 / 20)
    assert found.elsewhere == pytest.approx(1 - 16 / 192)
    zero, one, two = found.per_class.values()
    assert (zero.iou, zero.kept) == (1, 1)
    assert (one.iou, one.kept) == pytest.approx((144 / 160, 144 / 160))
    assert two.iou == 0
    assert math.isnan(two.kept)
    assert found.accuracy is None
    assert found.miou_drop is None
    assert [(w.name, w.pixels, w.picture) for w in found.worst] == [("b.png", 0.9, "b.png")]


def test_labels_give_the_accuracy_of_both_without_what_is_ignored(grey, write_images):
    image = np.repeat([[0, 1, 2, 3]], 4, axis=0)
    truth = np.array([[0, 1, 1, 2], [0, 1, 1, 2], [255, 1, 1, 2], [7, 7, 1, 2]])
    folder = write_images({"a.png": image})
    labels = write_images({"a.png": truth}, "labels")
    first = grey(lambda blue: np.minimum(blue, 2))
    second = grey(lambda blue: np.minimum(blue, 1))
    images = ImageChoice(folder=folder, labels=labels, ignore=7).find(first.spec)
    found = compare(first, second, images, draw=no_picture)
    assert found.accuracy is not None
    exact, coarse = found.accuracy
    # A: 0 has 2 of 2; 1 has 3 of 7; 2 has 4 of 8. B: 0 the same; 1 has 7 of 11; 2 has 0 of 4.
    assert list(exact.per_class.values()) == pytest.approx([1, 3 / 7, 4 / 8])
    assert list(coarse.per_class.values()) == pytest.approx([1, 7 / 11, 0])
    assert exact.pixel_accuracy == pytest.approx(9 / 13)
    assert coarse.pixel_accuracy == pytest.approx(9 / 13)
    drop = 100 * ((1 + 3 / 7 + 4 / 8) / 3 - (1 + 7 / 11) / 3)
    assert found.miou_drop == pytest.approx(drop)


def test_the_worst_images_come_worst_first_and_equal_ones_in_their_order(grey, write_images):
    rng = np.random.default_rng(0)
    wrong = [int(n) for n in rng.integers(0, 9, 40)]
    images = {}
    for index, count in enumerate(wrong):
        image = np.zeros(100)
        image[:count] = 1
        images[f"{index}.png"] = image.reshape(10, 10)
    folder = write_images(images)
    first, second = grey(lambda blue: blue * 0), grey(lambda blue: blue)
    drawn = []

    def draw(image, here, there):
        drawn.append(image.name)
        assert int(there.sum()) == int(image.frame[..., 0].sum())
        return int(there.sum())

    found = compare(first, second, ImageChoice(folder=folder).find(first.spec), draw=draw)
    expected = sorted(range(40), key=lambda index: (-wrong[index], index))[:WORST_IMAGES]
    assert [w.name for w in found.worst] == [f"{index}.png" for index in expected]
    assert [w.picture for w in found.worst] == [wrong[index] for index in expected]
    assert [w.pixels for w in found.worst] == [(100 - wrong[index]) / 100 for index in expected]
    assert len(drawn) < 40
    same = compare(first, first, ImageChoice(folder=folder).find(first.spec), draw=draw)
    assert same.worst == ()


def test_frames_do_not_pile_up(tiny_network, grey, make_frame, write_images):
    folder = write_images({f"{i}.png": make_frame(seed=i) for i in range(30)})
    alive: list[weakref.ref[np.ndarray]] = []
    most = []

    def watched(frames):
        for frame in frames:
            alive.append(weakref.ref(frame))
            yield frame

    with open_predictors(str(tiny_network), str(tiny_network)) as (first, second):
        stream = first.process
        first = dataclasses.replace(first, process=lambda frames: stream(watched(frames)))
        compare(
            first,
            second,
            ImageChoice(folder=folder).find(first.spec),
            draw=no_picture,
            on_image=lambda: most.append(sum(ref() is not None for ref in alive)),
        )
    assert len(alive) == len(most) == 30
    assert max(most) <= 4  # two slots, one being read, one being measured


def test_engines_in_flight_give_the_numbers_of_one_image_after_the_other(
    tiny_bundle, tiny_network, make_model, write_network, make_frame, write_images, tmp_path
):
    other = write_network(make_model(seed=0), tmp_path / "half.onnx", size=(32, 48), batch=2)
    frames = [make_frame((50 + i, 70), seed=i) for i in range(5)]
    folder = write_images({f"{i}.png": frame for i, frame in enumerate(frames)})
    truths = [np.full(frame.shape[:2], i % 3) for i, frame in enumerate(frames)]
    labels = write_images({f"{i}.png": truth for i, truth in enumerate(truths)}, "labels")
    with open_predictors(str(tiny_bundle.path), str(other)) as (first, second):
        images = ImageChoice(folder=folder, labels=labels).find(first.spec)
        found = compare(first, second, images, draw=no_picture)
        there = [next(iter(second.process([frame]))).label_map for frame in frames]
    with Segmenter.load(tiny_bundle.path) as segmenter:
        here = [segmenter.segment(frame) for frame in frames]
    same = [a == b for a, b in zip(here, there, strict=True)]
    near = [near_boundary(a) for a in here]
    assert found.pixels == sum(s.sum() for s in same) / sum(s.size for s in same)
    assert 0.1 < found.pixels < 1
    assert found.near_boundary == sum((s & n).sum() for s, n in zip(same, near, strict=True)) / sum(
        n.sum() for n in near
    )
    assert found.accuracy is not None
    for accuracy, maps in zip(found.accuracy, (here, there), strict=True):
        confusion = ConfusionMatrix(3)
        for label_map, truth in zip(maps, truths, strict=True):
            confusion.update(label_map, truth.astype(np.uint8))
        assert accuracy.miou == confusion.miou()
        assert accuracy.pixel_accuracy == confusion.pixel_accuracy()


def test_limit_spreads_over_the_folder(grey, write_images):
    folder = write_images({f"{i}.png": np.zeros((2, 2)) for i in range(10)})
    spec = grey(lambda blue: blue).spec
    for limit, names in ((1, "0"), (3, "036"), (4, "0257"), (99, "0123456789"), (None, None)):
        images = ImageChoice(folder=folder, limit=limit).find(spec)
        assert "".join(still.name.removesuffix(".png") for still in images.stills) == (
            names or "0123456789"
        )
        assert [image.name for image in images] == [still.name for still in images.stills]


@pytest.mark.parametrize(
    ("spoil", "kind", "message"),
    [
        ("missing", DatasetError, r"1 of 2 images have no labels, the first is .*b\.png; each"),
        ("size", DatasetError, r"labels/b\.png is 3x3, but labels of b\.png are 4x4"),
        ("class", DatasetError, r"b\.png has label 3, but .* leaves out 255; .*; --ignore"),
        ("empty", SourceError, "holds no image"),
        ("damaged", DatasetError, r"b\.png is not a whole image"),
    ],
)
def test_images_and_labels_that_do_not_fit_are_refused(grey, write_images, spoil, kind, message):
    first = grey(lambda blue: blue)
    plain = np.zeros((4, 4))
    folder = write_images({} if spoil == "empty" else {"a.png": plain, "b.png": plain})
    truth = {"size": np.zeros((3, 3)), "class": plain + 3}.get(spoil, plain)
    labels = write_images(
        {"a.png": plain} | ({} if spoil == "missing" else {"b.png": truth}), "labels"
    )
    if spoil == "damaged":
        (folder / "b.png").write_bytes(b"\x89PNG")
    with pytest.raises(kind, match=message):
        compare(
            first,
            first,
            ImageChoice(folder=folder, labels=labels).find(first.spec),
            draw=no_picture,
        )


def test_damaged_image_is_refused_without_labels_too(grey, write_images):
    first = grey(lambda blue: blue)
    folder = write_images({"a.png": np.zeros((4, 4))})
    _, data = cv2.imencode(".jpg", np.zeros((40, 40), dtype=np.uint8))
    (folder / "b.jpg").write_bytes(data.tobytes()[:-30])
    with pytest.raises(SourceError, match=r"b\.jpg is not a whole image"):
        compare(first, first, ImageChoice(folder=folder).find(first.spec), draw=no_picture)
