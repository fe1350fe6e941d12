"""Miniature trees of every layout, with labels whose meaning is written out by hand."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from fcn_trt.errors import DatasetError
from fcn_trt.evaluation.datasets import open_dataset
from fcn_trt.labels import label_set


@pytest.fixture
def put(tmp_path):
    """Write an image, or a grey label map, into the tree; returns the root."""

    def write(name, labels=None):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if labels is None:
            content = np.full((2, 3, 3), (10, 20, 30), dtype=np.uint8)
        else:
            content = np.array(labels, dtype=np.uint8)
        assert cv2.imwrite(str(path), content)
        return tmp_path

    return write


@pytest.fixture
def listed(tmp_path):
    """Write a list of names into the tree."""

    def write(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text)

    return write


VOC = "ImageSets/Segmentation/val.txt"
CONTEXT = "ImageSets/SegmentationContext/val.txt"


def indexed(path: Path, labels) -> None:
    """Labels as VOC has them: indices with a palette that is for viewers only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.array(labels, dtype=np.uint8))
    image.putpalette([value for index in range(256) for value in (index // 2, 255 - index, 7)])
    image.save(path)


def test_voc_is_the_list_of_a_split(put, listed, tmp_path):
    for name in ("2007_b", "2007_a", "2007_train"):
        put(f"JPEGImages/{name}.jpg")
        indexed(tmp_path / f"SegmentationClass/{name}.png", [[0, 20, 255], [1, 2, 3]])
    listed(VOC, b"2007_b\r\n2007_a\n\n")
    listed("ImageSets/Segmentation/trainval.txt", b"2007_a\n2007_b\n2007_train\n")
    dataset = open_dataset("voc", tmp_path)
    assert dataset.labels == label_set("voc")
    assert [sample.name for sample in dataset] == ["2007_a", "2007_b"]
    assert dataset[0].truth.tolist() == [[0, 20, 255], [1, 2, 3]]
    assert dataset[0].frame.shape == (2, 3, 3)
    assert len(open_dataset("voc", tmp_path, split="trainval")) == 3


CITY = "aachen/aachen_000000_000019"


def test_cityscapes_turns_label_ids_into_train_ids(put):
    # 7 road, 8 sidewalk, 33 bicycle, 19 traffic light; 6 ground, 9 parking are left out.
    put(f"gtFine/val/{CITY}_gtFine_labelIds.png", [[7, 8, 33], [19, 6, 9]])
    put(f"gtFine/val/{CITY}_gtFine_color.png", [[0, 0, 0], [0, 0, 0]])
    put(f"leftImg8bit/train/{CITY}_leftImg8bit.png")
    root = put(f"leftImg8bit/val/{CITY}_leftImg8bit.png")
    dataset = open_dataset("cityscapes", root)
    assert dataset.labels == label_set("cityscapes")
    (sample,) = dataset
    assert sample.name == "aachen_000000_000019_leftImg8bit"
    assert sample.truth.tolist() == [[0, 1, 18], [6, 255, 255]]


# cityscapesScripts, cityscapesscripts/helpers/labels.py: the name of each id that is evaluated.
LABEL_IDS = {
    "road": 7,
    "sidewalk": 8,
    "building": 11,
    "wall": 12,
    "fence": 13,
    "pole": 17,
    "traffic light": 19,
    "traffic sign": 20,
    "vegetation": 21,
    "terrain": 22,
    "sky": 23,
    "person": 24,
    "rider": 25,
    "car": 26,
    "truck": 27,
    "bus": 28,
    "train": 31,
    "motorcycle": 32,
    "bicycle": 33,
}


def test_every_label_id_of_cityscapes_is_the_class_of_its_name(put):
    root = put(f"leftImg8bit/val/{CITY}_leftImg8bit.png")
    assert cv2.imwrite(
        str(root / f"leftImg8bit/val/{CITY}_leftImg8bit.png"), np.zeros((1, 34, 3), np.uint8)
    )
    put(f"gtFine/val/{CITY}_gtFine_labelIds.png", [range(34)])
    (sample,) = open_dataset("cityscapes", root)
    classes = label_set("cityscapes").classes
    found = {classes[index]: label for label, index in enumerate(sample.truth[0]) if index != 255}
    assert found == LABEL_IDS


def test_ade20k_has_its_first_class_at_one(put):
    put("annotations/validation/ADE_val_00000001.png", [[0, 1, 150], [2, 3, 255]])
    put("annotations/training/ADE_train_00000001.png", [[5, 5, 5], [5, 5, 5]])
    put("images/training/ADE_train_00000001.jpg")
    root = put("images/validation/ADE_val_00000001.jpg")
    dataset = open_dataset("ade20k", root)
    assert dataset.labels == label_set("ade20k")
    (sample,) = dataset
    assert sample.truth.tolist() == [[255, 0, 149], [1, 2, 255]]
    (sample,) = open_dataset("ade20k", root, split="train")
    assert sample.name == "ADE_train_00000001"


def test_pascal_context_counts_its_background_or_leaves_it_out(put, listed):
    put("SegmentationClassContext/2008_1.png", [[0, 1, 59], [2, 3, 0]])
    root = put("JPEGImages/2008_1.jpg")
    listed(CONTEXT, b"2008_1\n")
    whole = open_dataset("pascal_context_60", root)
    assert whole[0].truth.tolist() == [[0, 1, 59], [2, 3, 0]]
    assert whole.labels.classes[0] == "background"
    without = open_dataset("pascal_context_59", root)
    assert without[0].truth.tolist() == [[255, 0, 58], [1, 2, 255]]
    assert without.labels.classes == whole.labels.classes[1:]


@pytest.mark.parametrize(
    ("name", "image", "labels", "wrong", "message"),
    [
        (
            "voc",
            "JPEGImages/a.jpg",
            "SegmentationClass/a.png",
            21,
            "label 21, but voc has labels 0 to 20",
        ),
        (
            "cityscapes",
            "leftImg8bit/val/bonn/a_leftImg8bit.png",
            "gtFine/val/bonn/a_gtFine_labelIds.png",
            34,
            "label 34, but cityscapes has labelIds 0 to 33$",
        ),
        (
            "ade20k",
            "images/validation/a.jpg",
            "annotations/validation/a.png",
            151,
            "label 151, but ade20k has labels 1 to 150, and 0 is left out$",
        ),
        (
            "pascal_context_59",
            "JPEGImages/a.jpg",
            "SegmentationClassContext/a.png",
            60,
            "label 60, but pascal_context_59 has labels 1 to 59, and 0 is left out$",
        ),
        (
            "pascal_context_60",
            "JPEGImages/a.jpg",
            "SegmentationClassContext/a.png",
            60,
            "label 60, but pascal_context_60 has labels 0 to 59, and 255 is left out$",
        ),
    ],
)
def test_label_that_the_data_set_does_not_have_is_named(
    put, listed, name, image, labels, wrong, message
):
    listed(VOC, b"a")
    listed(CONTEXT, b"a")
    put(labels, [[1, 2, wrong], [255, 1, 1]])
    with pytest.raises(DatasetError, match=message):
        list(open_dataset(name, put(image)))
    (put(image) / labels).write_bytes(b"damaged")
    with pytest.raises(DatasetError, match=r"\.png is not a whole image; remove it or fetch"):
        list(open_dataset(name, put(image)))
    (put(image) / labels).unlink()
    with pytest.raises(
        DatasetError, match=r"1 of 1 images have no labels, the first is .*expected"
    ):
        open_dataset(name, put(image))


TREES = {
    "voc": "expected ROOT/JPEGImages/NAME.jpg with ROOT/SegmentationClass/NAME.png for each NAME "
    "in ROOT/ImageSets/Segmentation/val.txt, where ROOT is the folder VOCdevkit/VOC2012",
    "cityscapes": "expected ROOT/leftImg8bit/val/CITY/NAME_leftImg8bit.png with "
    "ROOT/gtFine/val/CITY/NAME_gtFine_labelIds.png",
    "ade20k": "expected ROOT/images/validation/NAME.jpg with ROOT/annotations/validation/NAME.png, "
    "where ROOT is the folder ADEChallengeData2016",
    "pascal_context_59": "expected ROOT/JPEGImages/NAME.jpg with "
    "ROOT/SegmentationClassContext/NAME.png for each NAME in "
    "ROOT/ImageSets/SegmentationContext/val.txt, where ROOT is the folder VOCdevkit/VOC2010 after "
    "MMSegmentation's tools/dataset_converters/pascal_context.py",
}
TREES["pascal_context_60"] = TREES["pascal_context_59"]


@pytest.mark.parametrize(("name", "tree"), TREES.items())
def test_wrong_layout_is_one_sentence_that_shows_the_right_one(tmp_path, name, tree):
    with pytest.raises(DatasetError) as caught:
        open_dataset(name, tmp_path)
    message = str(caught.value)
    assert message.removeprefix("folder ").startswith(f"{tmp_path}/")
    assert "No such file or directory" in message
    assert message.endswith(tree)
    assert "\n" not in message


@pytest.mark.parametrize("folder", ["leftImg8bit/val", "leftImg8bit/val/bonn"])
def test_cityscapes_without_images_is_refused(tmp_path, folder):
    (tmp_path / folder).mkdir(parents=True)
    with pytest.raises(DatasetError, match="leftImg8bit/val holds no images; expected ROOT/leftI"):
        open_dataset("cityscapes", tmp_path)


def test_images_of_a_list_that_are_missing_are_counted(put, listed, tmp_path):
    put("JPEGImages/b.jpg")
    listed(VOC, b"a\nb\nc\n")
    message = r"2 of the 3 images in .*val\.txt are missing, the first is .*a\.jpg; expected ROOT/"
    with pytest.raises(DatasetError, match=message):
        open_dataset("voc", tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b" \n", r"val\.txt names no images; expected ROOT/JPEGImages"),
        (b"\xff", r"val\.txt cannot be read \(it is no UTF-8 text\); expected ROOT/JPEGImages"),
    ],
)
def test_list_that_names_nothing_is_refused(listed, tmp_path, text, message):
    listed(VOC, text)
    with pytest.raises(DatasetError, match=message):
        open_dataset("voc", tmp_path)


@pytest.mark.parametrize(
    ("name", "splits"),
    [
        ("voc", "val, train, trainval"),
        ("cityscapes", "val, train"),
        ("ade20k", "val, train"),
        ("pascal_context_60", "val, train"),
    ],
)
def test_split_that_does_not_exist_is_refused_with_those_that_do(tmp_path, name, splits):
    with pytest.raises(DatasetError, match=f"{name} has no split 'test'; it has {splits}$"):
        open_dataset(name, tmp_path, split="test")
