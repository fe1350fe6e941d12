"""COCO's objects painted as VOC's classes, on rectangles whose pixels can be counted by hand."""

import json
import sys

import cv2
import numpy as np
import pytest

from fcn_trt.errors import DatasetError, MissingExtraError
from fcn_trt.evaluation.coco import CATEGORIES
from fcn_trt.evaluation.datasets import open_dataset
from fcn_trt.labels import label_set

pytest.importorskip("pycocotools", reason="needs the extra: pip install 'fcn-trt[coco]'")

# pycocotools' compiled code has not followed NumPy 2 in one call; what it returns is right.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SIZE = (8, 10)
PERSON, CAR, DOG, TRUCK = 1, 3, 18, 8  # COCO's categories; VOC has no truck
VOC_PERSON, VOC_CAR, VOC_DOG = 15, 7, 12


def rectangle(top, left, bottom, right):
    """A polygon that covers these rows and columns, as [x, y, x, y, ...]."""
    return [float(v) for v in (left, top, right, top, right, bottom, left, bottom)]


def runs(mask):
    """A mask as lengths of runs down its columns, starting with the background."""
    flat = np.asarray(mask, dtype=np.uint8).T.ravel()
    ends = np.flatnonzero(np.diff(flat)) + 1
    lengths = np.diff([0, *ends, flat.size]).tolist()
    return {"counts": [0, *lengths] if flat[0] else lengths, "size": list(mask.shape)}


def annotation(category, segmentation, *, image=1, **more):
    return {
        "id": 1000 + image,
        "image_id": image,
        "category_id": category,
        "segmentation": segmentation,
        "iscrowd": 0,
        "area": 1.5,
        **more,
    }


@pytest.fixture
def write(tmp_path):
    """Write the annotations, and an image for each name; returns the root."""

    def make(annotations, names=("000000000001.jpg",), folder="val2017"):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / "annotations").mkdir(exist_ok=True)
        images = []
        for number, name in enumerate(names, start=1):
            frame = np.full((*SIZE, 3), (10, 20, 30), dtype=np.uint8)
            assert cv2.imwrite(str(tmp_path / folder / name), frame)
            images.append(
                {"id": number, "file_name": name, "height": SIZE[0], "width": SIZE[1], "license": 4}
            )
        content = {"info": {"year": 2017}, "images": images[::-1], "annotations": annotations}
        path = tmp_path / "annotations" / f"instances_{folder}.json"
        path.write_text(json.dumps(content))
        return tmp_path

    return make


def painted(root):
    (sample,) = open_dataset("coco_voc", root)
    return sample.truth


def test_object_is_painted_as_the_class_of_voc(write):
    expected = np.zeros(SIZE, dtype=np.uint8)
    expected[1:4, 2:7] = VOC_PERSON
    truth = painted(write([annotation(PERSON, [rectangle(1, 2, 4, 7)])]))
    np.testing.assert_array_equal(truth, expected)
    assert truth.dtype == np.uint8


def test_categories_are_those_of_voc_by_name():
    # COCO's own names of these categories, in the order of VOC's classes.
    names = {
        "airplane": 5,
        "bicycle": 2,
        "bird": 16,
        "boat": 9,
        "bottle": 44,
        "bus": 6,
        "car": 3,
        "cat": 17,
        "chair": 62,
        "cow": 21,
        "dining table": 67,
        "dog": 18,
        "horse": 19,
        "motorcycle": 4,
        "person": 1,
        "potted plant": 64,
        "sheep": 20,
        "couch": 63,
        "train": 7,
        "tv": 72,
    }
    renamed = {
        "airplane": "aeroplane",
        "motorcycle": "motorbike",
        "dining table": "diningtable",
        "potted plant": "pottedplant",
        "couch": "sofa",
        "tv": "tvmonitor",
    }
    assert tuple(names.values()) == CATEGORIES
    as_voc = tuple(renamed.get(name, name) for name in names)
    assert as_voc == label_set("voc").classes[1:]


def test_polygons_of_one_object_are_one_object(write):
    expected = np.zeros(SIZE, dtype=np.uint8)
    expected[0:4, 0:4] = VOC_CAR
    expected[2:6, 2:6] = VOC_CAR  # where they overlap it is no second object
    parts = [rectangle(0, 0, 4, 4), rectangle(2, 2, 6, 6)]
    np.testing.assert_array_equal(painted(write([annotation(CAR, parts)])), expected)


@pytest.mark.parametrize("second", [PERSON, DOG])
def test_pixels_of_two_objects_are_left_out(write, second):
    expected = np.zeros(SIZE, dtype=np.uint8)
    expected[0:4, 0:4] = VOC_PERSON
    expected[2:6, 2:6] = VOC_PERSON if second == PERSON else VOC_DOG
    expected[2:4, 2:4] = 255
    objects = [
        annotation(PERSON, [rectangle(0, 0, 4, 4)]),
        annotation(second, [rectangle(2, 2, 6, 6)]),
    ]
    np.testing.assert_array_equal(painted(write(objects)), expected)
    np.testing.assert_array_equal(painted(write(objects[::-1])), expected)


def test_pixels_of_three_objects_stay_left_out(write):
    objects = [annotation(PERSON, [rectangle(0, 0, 2, 2)]) for _ in range(3)]
    assert painted(write(objects))[:3, :3].tolist() == [[255, 255, 0], [255, 255, 0], [0, 0, 0]]


def test_crowd_is_painted_like_any_object(write):
    mask = np.zeros(SIZE, dtype=bool)
    mask[0:8, 0] = mask[3, 5] = mask[0:5, 9] = True
    expected = mask * np.uint8(VOC_PERSON)
    expected[0:2, 0:2] = [[255, VOC_DOG], [255, VOC_DOG]]
    objects = [
        annotation(PERSON, runs(mask), iscrowd=1),
        annotation(DOG, [rectangle(0, 0, 2, 2)]),
    ]
    np.testing.assert_array_equal(painted(write(objects)), expected)


def test_other_categories_are_background_and_hide_nothing(write):
    objects = [
        annotation(TRUCK, [rectangle(0, 0, 8, 10)]),
        annotation(DOG, [rectangle(0, 0, 2, 2)]),
    ]
    expected = np.zeros(SIZE, dtype=np.uint8)
    expected[:2, :2] = VOC_DOG
    np.testing.assert_array_equal(painted(write(objects)), expected)


def test_images_without_objects_count_and_are_in_the_order_of_their_ids(write):
    names = ("c.jpg", "b.jpg", "a.jpg")  # of the images 1, 2 and 3
    root = write([annotation(DOG, [rectangle(0, 0, 2, 2)], image=2)], names)
    dataset = open_dataset("coco_voc", root)
    assert dataset.labels == label_set("voc")
    assert [sample.name for sample in dataset] == ["c", "b", "a"]
    assert [int(sample.truth.max()) for sample in dataset] == [0, VOC_DOG, 0]
    assert dataset[1].truth[0, 0] == VOC_DOG
    assert dataset[0].frame.shape == (*SIZE, 3)
    assert len(dataset) == 3


def test_train_is_a_split_of_its_own(write):
    root = write([], folder="train2017")
    assert len(open_dataset("coco_voc", root, split="train")) == 1
    with pytest.raises(DatasetError, match=r"coco_voc has no split 'test'; it has val, train$"):
        open_dataset("coco_voc", root, split="test")


TREE = (
    r"; expected ROOT/val2017/NAME\.jpg with ROOT/annotations/instances_val2017\.json, as "
    r"cocodataset\.org publishes them$"
)


def test_wrong_layout_is_one_sentence_that_shows_the_right_one(write, tmp_path):
    with pytest.raises(DatasetError, match=rf"val2017\.json cannot be read \(No such file.*{TREE}"):
        open_dataset("coco_voc", tmp_path)
    root = write([], ("a.jpg", "b.jpg"))
    (root / "val2017" / "b.jpg").unlink()
    message = r"1 of the 2 images in .*val2017\.json are missing, the first is .*b\.jpg"
    with pytest.raises(DatasetError, match=message + TREE):
        open_dataset("coco_voc", root)
    with pytest.raises(DatasetError, match=r"instances_val2017\.json names no images" + TREE):
        open_dataset("coco_voc", write([], ()))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "the file: Invalid JSON"),
        (b"[]", "the file: "),
        (b'{"images": []}', "annotations: Field required"),
        (b'{"images": [{"id": 1}], "annotations": []}', r"images\.0\.file_name: Field required"),
        (
            b'{"images": [{"id": 1, "file_name": "../a.jpg", "height": 8, "width": 8}], '
            b'"annotations": []}',
            r"images\.0\.file_name: String should match",
        ),
    ],
)
def test_annotations_of_another_form_are_refused(write, content, message):
    root = write([])
    (root / "annotations" / "instances_val2017.json").write_bytes(content)
    message = rf"val2017\.json holds no COCO instances: {message}.*; fetch it again$"
    with pytest.raises(DatasetError, match=message):
        open_dataset("coco_voc", root)


@pytest.mark.parametrize("of", [b'{"images": [%b]}', b'{"a": [%b]}', b"[%b]"])
def test_annotations_of_many_lists_are_refused_before_they_are_made(write, of):
    root = write([])
    (root / "annotations" / "instances_val2017.json").write_bytes(of % (b"[]," * 5_000_000))
    with pytest.raises(DatasetError, match="at most 5000000 are read, which COCO's own files do n"):
        open_dataset("coco_voc", root)


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([], "object 1001 has a polygon of fewer than three points"),
        ([[1.0, 1.0, 2.0, 2.0]], "object 1001 has a polygon of fewer than three points"),
        ([[1.0, 1.0, 2.0, 2.0, 3.0, 1.0, 2.0]], "object 1001 has a polygon of fewer than three"),
        ([[1e5, 1e5, -1e5, -1e5] * 5000], "object 1001 has an outline of over 1000000 pixels"),
        ([[0.0, 0.0, 9e4, 0.0, 0.0, 0.0]] * 9, "object 1001 has an outline of over 1000000 pixels"),
        ({"counts": [4, 4], "size": [8, 10]}, "runs of object 1001 do not fill 8x10 pixels"),
        ({"counts": [40, 40], "size": [10, 8]}, "runs of object 1001 do not fill 8x10 pixels"),
    ],
)
def test_object_that_cannot_be_painted_is_named(write, segmentation, message):
    dataset = open_dataset("coco_voc", write([annotation(DOG, segmentation)]))
    with pytest.raises(DatasetError, match=rf"val2017\.json is damaged: {message}.*; fetch it ag"):
        list(dataset)


@pytest.mark.parametrize(
    "segmentation",
    [[[1e9] * 6], [[float("nan")] * 6], {"counts": "abc", "size": [8, 10]}, "polygon", None],
)
def test_object_of_another_form_is_refused(write, segmentation):
    root = write([annotation(DOG, segmentation)])
    with pytest.raises(
        DatasetError, match=r"holds no COCO instances: annotations\.0\.segmentation"
    ):
        open_dataset("coco_voc", root)


def test_image_of_another_size_is_refused(write):
    root = write([])
    path = root / "val2017" / "000000000001.jpg"
    assert cv2.imwrite(str(path), np.zeros((4, 4, 3), dtype=np.uint8))
    message = r"1\.jpg is \(4, 4\), but .*val2017\.json says \(8, 10\); fetch both again"
    with pytest.raises(DatasetError, match=message):
        list(open_dataset("coco_voc", root))
    path.write_bytes(b"damaged")
    with pytest.raises(DatasetError, match=r"1\.jpg is not a whole image; remove it or fetch"):
        list(open_dataset("coco_voc", root))


def test_key_follows_images_and_annotations(write):
    keys = [tuple(open_dataset("coco_voc", write([])).key_parts((0,)))]
    root = write([annotation(DOG, [rectangle(0, 0, 2, 2)])])
    keys.append(tuple(open_dataset("coco_voc", root).key_parts((0,))))
    path = root / "val2017" / "000000000001.jpg"
    path.write_bytes(path.read_bytes() + b"more")
    keys.append(tuple(open_dataset("coco_voc", root).key_parts((0,))))
    assert len(set(keys)) == 3


def test_missing_pycocotools_is_one_sentence(monkeypatch, write):
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    with pytest.raises(MissingExtraError, match=r"not installed: pip install 'fcn-trt\[coco\]'$"):
        open_dataset("coco_voc", write([]))
