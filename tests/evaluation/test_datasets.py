import os

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from fcn_trt.errors import DatasetError
from fcn_trt.evaluation.datasets import open_dataset
from fcn_trt.evaluation.measure import evaluate
from fcn_trt.evaluation.sample import check_classes
from fcn_trt.labels import label_set
from fcn_trt.video.palette_png import encode_palette_png
from tests.plans import as_results


@pytest.fixture
def write(tmp_path):
    """Write one image with its labels; returns the root."""

    def make(name="a.png", labels=((0, 1), (2, 255)), size=(2, 2)):
        for kind in ("images", "labels"):
            (tmp_path / kind).mkdir(exist_ok=True)
        image = np.full((*size, 3), (10, 20, 30), dtype=np.uint8)
        assert cv2.imwrite(str(tmp_path / "images" / name), image)
        stem = name.rpartition(".")[0]
        truth = np.array(labels, dtype=np.uint8)
        assert cv2.imwrite(str(tmp_path / "labels" / f"{stem}.png"), truth)
        return tmp_path

    return make


@pytest.fixture
def classes(tmp_path):
    """Write the class list of the generic layout."""
    return lambda text: (tmp_path / "classes.txt").write_bytes(text)


def test_camvid_has_eleven_classes_and_leaves_out_the_twelfth(write):
    dataset = open_dataset("camvid", write(labels=((0, 10), (11, 11))))
    assert dataset.labels == label_set("camvid")
    (sample,) = dataset
    assert sample.truth.tolist() == [[0, 10], [255, 255]]


def test_generic_takes_its_classes_from_the_list(write, classes):
    classes(b"road\r\n\n  tree \nblue sky")
    dataset = open_dataset("generic", write())
    assert dataset.labels.classes == ("road", "tree", "blue sky")
    assert len(dataset.labels.palette) == 3
    (sample,) = dataset
    assert sample.truth.tolist() == [[0, 1], [2, 255]]


def test_images_are_read_in_bgr_and_sorted_by_name(write, tmp_path):
    for name in ("b.jpg", "a.png", "c.JPEG", "d.bmp", "e.webp", "f.tif", "g.PPM"):
        write(name, labels=((0, 1), (2, 3)))
    (tmp_path / "images" / "notes.txt").write_text("no image")
    dataset = open_dataset("camvid", tmp_path)
    (tmp_path / "images" / "._a.png").write_bytes(b"\0\5\x16\7")
    assert len(dataset) == 7
    samples = list(dataset)
    assert [sample.name for sample in samples] == list("abcdefg")
    assert samples[0].frame[0, 0].tolist() == [10, 20, 30]
    assert samples[0].frame.dtype == samples[0].truth.dtype == np.uint8


def test_dataset_can_be_read_twice(write):
    dataset = open_dataset("camvid", write(labels=((0, 1), (2, 11))))
    first, second = list(dataset), list(dataset)
    assert np.array_equal(first[0].truth, second[0].truth)


def test_unknown_data_set_is_refused_with_those_known(tmp_path):
    with pytest.raises(ValueError, match="unknown data set 'moon'; known are coco_voc, voc, cit"):
        open_dataset("moon", tmp_path)


def test_folder_of_another_layout_is_refused_with_the_right_one(tmp_path):
    layout = r"expected ROOT/images/NAME\.png or \.jpg with ROOT/labels/NAME\.png"
    with pytest.raises(DatasetError, match=rf"images cannot be read: No such file.*; {layout}"):
        open_dataset("camvid", tmp_path)
    (tmp_path / "images").mkdir()
    with pytest.raises(DatasetError, match=rf"images holds no image; .*\.bmp.*; {layout}"):
        open_dataset("camvid", tmp_path)


def test_images_without_labels_are_counted(write, tmp_path):
    for name in ("a.png", "b.png", "c.png"):
        write(name)
    for name in ("b.png", "c.png"):
        (tmp_path / "labels" / name).unlink()
    with pytest.raises(DatasetError, match=r"2 of 3 images have no labels, the first is .*b\.png"):
        open_dataset("camvid", tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"classes\.txt cannot be read \(No such file or directory\); the generic layout"),
        (b"\xff\xfe", r"classes\.txt cannot be read \(it is no UTF-8 text\); the generic layout"),
        (b"\n \n", r"classes\.txt names 0 classes; 1 to 255 were expected"),
        (b"x\n" * 256, r"classes\.txt names 256 classes; 1 to 255 were expected"),
    ],
)
def test_class_list_that_cannot_be_used_is_named(write, classes, content, message):
    if content is not None:
        classes(content)
    with pytest.raises(DatasetError, match=message):
        open_dataset("generic", write())


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (((0, 1, 2),), r"labels/a\.png is 1x3, but labels of a\.png are 2x2$"),
        (
            np.zeros((2, 2, 3)),
            r"a\.png is of mode RGB, but labels of a\.png are uint8 or uint16",
        ),
        (((0, 12), (0, 0)), r"a\.png has label 12, but camvid has 11 classes and leaves out 11; "),
        (((0, 255), (0, 77)), r"a\.png has label 77, but camvid has 11 classes and leaves out 11"),
    ],
)
def test_labels_that_do_not_fit_are_named(write, labels, message):
    dataset = open_dataset("camvid", write(labels=labels))
    with pytest.raises(DatasetError, match=message):
        list(dataset)


def test_labels_of_16_bits_are_read(write, classes):
    root = write()
    classes(b"road\ntree\nsky")
    path = root / "labels" / "a.png"
    cv2.imwrite(str(path), np.array([[0, 1], [2, 255]], dtype=np.uint16))
    (sample,) = open_dataset("generic", root)
    assert sample.truth.tolist() == [[0, 1], [2, 255]]
    cv2.imwrite(str(path), np.array([[0, 1], [300, 65535]], dtype=np.uint16))
    with pytest.raises(DatasetError, match=r"a\.png has label 65535, .*; --label-map NUMBER=CLA"):
        list(open_dataset("generic", root))
    (sample,) = open_dataset("generic", root, said={65535: 255, 300: 2, 1: 0})
    assert sample.truth.tolist() == [[0, 0], [2, 255]]


@pytest.mark.parametrize("kind", ["images", "labels"])
def test_damaged_file_is_named(write, kind):
    root = write()
    (root / kind / "a.png").write_bytes(b"damaged")
    with pytest.raises(DatasetError, match=rf"{kind}/a\.png is not a whole image; remove it or"):
        list(open_dataset("camvid", root))


def test_indexed_labels_are_read_as_their_indices(write):
    root = write()
    image = Image.new("P", (2, 2))
    image.putpalette([200, 10, 10, 0, 0, 0, 0, 0, 0, 9, 9, 9])
    image.putdata([3, 0, 1, 2])
    image.save(root / "labels" / "a.png")
    (sample,) = open_dataset("camvid", root)
    assert sample.truth.tolist() == [[3, 0], [1, 2]]


def test_labels_of_1_bit_are_0_and_1(write):
    root = write()
    truth = np.array([[0, 1], [1, 0]], dtype=bool)
    Image.fromarray(truth).save(root / "labels" / "a.png")
    (sample,) = open_dataset("camvid", root)
    assert sample.truth.tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize("mode", ["LA", "RGB", "RGBA"])
def test_labels_of_another_kind_of_image_are_refused(write, mode):
    root = write()
    Image.new(mode, (2, 2)).save(root / "labels" / "a.png")
    with pytest.raises(
        DatasetError, match=r"a\.png is .*, but labels of a\.png are .* of class in"
    ):
        list(open_dataset("camvid", root))


def test_label_maps_that_the_sink_wrote_agree_with_themselves(write, classes):
    root = write(labels=np.zeros((2, 2)), size=(2, 2))
    classes(b"road\ntree\nsky")
    palette = np.array([[0, 0, 9], [10, 20, 30], [255, 0, 0]], dtype=np.uint8)
    truth = np.array([[0, 1], [2, 255]], dtype=np.uint8)
    (root / "labels" / "a.png").write_bytes(encode_palette_png(truth, palette))
    result = evaluate(
        lambda frames: as_results((frame, truth.copy()) for frame in frames),
        open_dataset("generic", root),
    )
    assert (result.miou, result.pixel_accuracy) == (1.0, 1.0)


def test_names_of_a_known_data_set_can_stand_in_the_class_list(write, classes):
    names = label_set("ade20k").classes
    classes("\n".join(names).encode())
    check_classes(open_dataset("generic", write()), names)


def test_samples_can_be_had_one_by_one(write):
    write("a.png", labels=((0, 1), (2, 3)))
    dataset = open_dataset("camvid", write("b.png", labels=((4, 5), (6, 7))))
    assert [dataset[index].name for index in (1, 0)] == ["b", "a"]
    assert dataset[1].truth.tolist() == [[4, 5], [6, 7]]


@pytest.mark.parametrize("file", ["images/a.jpg", "labels/a.png"])
def test_file_that_was_cut_off_is_named(write, file):
    rng = np.random.default_rng(0)
    root = write("a.jpg", labels=rng.integers(0, 11, (64, 64)), size=(64, 64))
    frame = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert cv2.imwrite(str(root / "images" / "a.jpg"), frame)
    data = (root / file).read_bytes()
    (root / file).write_bytes(data[: len(data) * 3 // 4])
    with pytest.raises(DatasetError, match=rf"{file} is not a whole (image|PNG); remove it or"):
        list(open_dataset("camvid", root))


def test_split_is_a_folder_of_the_root(write, classes, tmp_path):
    classes(b"road\ntree\nsky")
    write()
    (tmp_path / "val").mkdir()
    for kind in ("images", "labels"):
        (tmp_path / kind).rename(tmp_path / "val" / kind)
    for name in ("camvid", "generic"):
        (sample,) = open_dataset(name, tmp_path, split="val")
        assert sample.name == "a"
        with pytest.raises(DatasetError, match=r"train/images cannot be read"):
            open_dataset(name, tmp_path, split="train")


def key(root, *indices):
    return tuple(open_dataset("camvid", root).key_parts(indices))


def test_key_tells_other_files_and_other_content_apart(write):
    root = write("a.png")
    keys = [key(root, 0)]
    write("b.png")
    keys += [key(root, 0, 1), key(root, 1)]
    path = root / "labels" / "b.png"
    before = path.stat()
    write("b.png", labels=((1, 0), (2, 255)))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    keys += [key(root, 0, 1), key(root, 1)]
    assert len(set(keys)) == 5
    assert key(root, 0) == keys[0]


def turned(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize("orientation", [3, 6])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_an_image_that_is_turned_otherwise_than_its_labels_is_refused(write, orientation, suffix):
    root = write(f"a{suffix}")
    image = Image.new("RGB", (2, 2))
    image.save(root / "images" / f"a{suffix}", exif=turned(orientation))
    with pytest.raises(
        DatasetError,
        match=rf"a\{suffix} is turned by its EXIF data \(orientation {orientation}\) and its label"
        r".*labels/a\.png are not so \(orientation 1\).*; save the image without that",
    ):
        list(open_dataset("camvid", root))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_and_its_labels_are_turned_alike(write, orientation):
    root = write()
    numbers = np.array([[0, 1, 2], [3, 4, 5]], dtype=np.uint8)
    grey = Image.fromarray(numbers * 40)
    grey.convert("RGB").save(root / "images" / "a.png", exif=turned(orientation))
    Image.fromarray(numbers).save(root / "labels" / "a.png", exif=turned(orientation))
    (sample,) = open_dataset("camvid", root)
    assert sample.truth.shape == ((2, 3) if orientation < 5 else (3, 2))
    assert np.array_equal(sample.frame, sample.truth[..., None] * np.full(3, 40))
    with Image.open(root / "labels" / "a.png") as labels:
        upright = ImageOps.exif_transpose(labels)
        assert np.array_equal(sample.truth, np.asarray(upright))


@pytest.mark.parametrize("name", ["camvid", "generic"])
def test_root_without_images_takes_those_of_val(write, tmp_path, name):
    write()
    (tmp_path / "classes.txt").write_text("road\nsky\n")
    (tmp_path / "val").mkdir()
    for kind in ("images", "labels"):
        (tmp_path / kind).rename(tmp_path / "val" / kind)
    found = open_dataset(name, tmp_path)
    assert found.split == "val"
    assert found.pairs == open_dataset(name, tmp_path, split="val").pairs
    with pytest.raises(DatasetError, match=r"labels/NAME\.png$"):
        open_dataset(name, tmp_path, split="train")
    (tmp_path / "images").mkdir()
    with pytest.raises(DatasetError, match="images holds no image;"):
        open_dataset(name, tmp_path)


def test_key_of_a_file_that_is_gone_is_refused(write):
    dataset = open_dataset("camvid", write())
    dataset.pairs[0][1].unlink()
    with pytest.raises(DatasetError, match=r"labels/a\.png cannot be read: No such file"):
        tuple(dataset.key_parts((0,)))


def test_two_images_with_the_same_labels_are_refused(write):
    write("a.png")
    root = write("a.jpg")
    with pytest.raises(
        DatasetError, match=r"a\.jpg and a\.png would both have the labels .*labels/a\.png; give"
    ):
        open_dataset("camvid", root)


def masks(write, *content):
    (root,) = {write(f"{index}.png", labels=labels) for index, labels in enumerate(content)}
    return root


ALL, NONE, HALF = ((255, 255), (255, 255)), ((0, 0), (0, 0)), ((0, 255), (0, 0))


@pytest.mark.parametrize("content", [[HALF, NONE], [NONE, ALL]])
def test_masks_of_0_and_255_are_refused_with_what_helps(write, classes, content):
    classes(b"background\nroad")
    root = masks(write, *content)
    dataset = open_dataset("generic", root)
    with pytest.raises(
        DatasetError, match=r"are masks of 0 and 255, .*that no pixel would be 'road'; .*p 255=1 f"
    ):
        dataset.require_no_masks(range(len(content)))
    for said in ({255: 1}, {255: 255}):
        open_dataset("generic", root, said=said).require_no_masks(range(len(content)))
    road = open_dataset("generic", root, said={255: 1})
    assert [sample.truth.tolist() for sample in road] == [
        (np.array(labels) // 255).tolist() for labels in content
    ]


@pytest.mark.parametrize("content", [[HALF, ((1, 0), (0, 0))], [NONE, NONE], [ALL]])
def test_labels_with_other_numbers_or_without_255_are_no_masks(write, classes, content):
    classes(b"background\nroad")
    open_dataset("generic", masks(write, *content)).require_no_masks(range(len(content)))


def test_masks_of_one_class_are_no_masks(write, classes):
    classes(b"road")
    open_dataset("generic", masks(write, HALF)).require_no_masks([0])


def test_what_is_said_of_numbers_is_part_of_the_key(write, classes):
    classes(b"background\nroad")
    root = masks(write, HALF)
    keys = {
        tuple(open_dataset("generic", root, said=said).key_parts([0]))
        for said in (None, {255: 1}, {255: 255})
    }
    assert len(keys) == 3


def test_a_number_cannot_be_a_class_that_there_is_not(write, classes):
    classes(b"background\nroad")
    dataset = open_dataset("generic", masks(write, HALF), said={255: 2})
    with pytest.raises(DatasetError, match="label 255 cannot be class 2, as generic has classes 0"):
        list(dataset)
    with pytest.raises(ValueError, match="numbers in the label files of camvid are known"):
        open_dataset("camvid", dataset.pairs[0][0].parent.parent, said={255: 1})
