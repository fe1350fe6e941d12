from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from fcn_trt.labels import label_set, palette_array
from fcn_trt.video.palette_png import encode_palette_png

BGR = np.array([[0, 0, 0], [10, 20, 30], [255, 0, 0]], dtype=np.uint8)
LABELS = np.array([[0, 1, 2], [2, 1, 255]], dtype=np.uint8)


def test_pixels_are_classes_and_the_palette_is_inside():
    image = Image.open(io.BytesIO(encode_palette_png(LABELS, BGR)))
    assert image.mode == "P"
    assert image.size == (3, 2)
    assert np.array_equal(np.asarray(image), LABELS)
    palette = image.getpalette()
    assert palette is not None
    assert palette[:9] == [0, 0, 0, 30, 20, 10, 0, 0, 255]
    assert palette[255 * 3 :] == [0, 0, 0]


def test_opencv_reads_the_colours():
    encoded = np.frombuffer(encode_palette_png(LABELS, BGR), dtype=np.uint8)
    image = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    assert image is not None
    table = np.zeros((256, 3), dtype=np.uint8)
    table[:3] = BGR
    assert np.array_equal(image, table[LABELS])


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (37, 53), (720, 1280)])
@pytest.mark.parametrize("name", ["cityscapes", "ade20k"])
def test_every_size_and_label_survives(size, name):
    palette = palette_array(label_set(name).palette)
    labels = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
    image = Image.open(io.BytesIO(encode_palette_png(labels, palette)))
    image.load()
    assert np.array_equal(np.asarray(image), labels)
    assert np.array_equal(
        np.asarray(image.convert("RGB"))[labels == 5], palette[labels[labels == 5], ::-1]
    )


def test_labels_that_are_not_contiguous_are_written_as_they_look():
    labels = np.arange(200, dtype=np.uint8).reshape(10, 20)[::2, ::-3]
    image = Image.open(io.BytesIO(encode_palette_png(labels, BGR)))
    assert np.array_equal(np.asarray(image), labels)


@pytest.mark.parametrize(
    ("labels", "palette", "message"),
    [
        (np.zeros((2, 3, 3), np.uint8), BGR, r"a label map is .* \(2, 3, 3\) uint8"),
        (np.zeros((2, 3), np.int64), BGR, r"a label map is .* \(2, 3\) int64"),
        (np.zeros((0, 3), np.uint8), BGR, r"a label map is .* \(0, 3\) uint8"),
        (LABELS, np.zeros((3, 4), np.uint8), r"a palette is .* \(3, 4\) uint8"),
        (LABELS, np.zeros((3, 3), np.float32), r"a palette is .* \(3, 3\) float32"),
        (LABELS, np.zeros((256, 3), np.uint8), "palette has 256 colours; a label map holds 255"),
    ],
)
def test_arrays_of_another_kind_are_refused_with_their_shape(labels, palette, message):
    with pytest.raises(ValueError, match=message):
        encode_palette_png(labels, palette)
