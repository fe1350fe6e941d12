import numpy as np
import pytest

from fcn_trt.labels import (
    LabelSet,
    hsv_palette,
    hub_palette,
    label_set,
    label_set_for,
    label_set_names,
    numbered_label_set,
    palette_array,
)

COUNTS = {
    "voc": 21,
    "cityscapes": 19,
    "ade20k": 150,
    "pascal_context_59": 59,
    "pascal_context_60": 60,
    "camvid": 11,
}


def rgb(palette):
    return [[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in palette]


@pytest.mark.parametrize(("name", "count"), COUNTS.items())
def test_label_sets_have_their_classes(name, count):
    labels = label_set(name)
    assert (labels.name, len(labels.classes), len(labels.palette)) == (name, count, count)


@pytest.mark.parametrize("name", label_set_names())
def test_label_sets_are_consistent(name):
    labels = label_set(name)
    assert len(set(labels.classes)) == len(labels.classes)
    if name in ("voc", "cityscapes", "camvid"):  # the other palettes repeat colours, as published
        assert len(set(labels.palette)) == len(labels.palette)
    assert all(text and text == text.strip() for text in labels.classes)


def test_all_label_sets_of_the_readme_are_known():
    assert set(COUNTS) <= set(label_set_names())


def test_voc_colours_follow_the_bit_formula():
    # VOCdevkit VOClabelcolormap.m: three bits of the index go to the top bits of R, G and B.
    expected = []
    for index in range(21):
        colour = [0, 0, 0]
        for bit in range(8):
            for channel in range(3):
                colour[channel] |= (index >> (3 * bit + channel) & 1) << (7 - bit)
        expected.append(colour)
    assert rgb(label_set("voc").palette) == expected


@pytest.mark.parametrize(
    ("name", "label", "colour"),
    [
        ("cityscapes", "road", (128, 64, 128)),
        ("cityscapes", "sidewalk", (244, 35, 232)),
        ("cityscapes", "car", (0, 0, 142)),
        ("cityscapes", "person", (220, 20, 60)),
        ("cityscapes", "sky", (70, 130, 180)),
        ("cityscapes", "bicycle", (119, 11, 32)),
        ("camvid", "sky", (128, 128, 128)),
        ("camvid", "road", (128, 64, 128)),
        ("camvid", "bicyclist", (0, 128, 192)),
        ("voc", "background", (0, 0, 0)),
        ("voc", "person", (192, 128, 128)),
        ("ade20k", "wall", (120, 120, 120)),
        ("pascal_context_60", "background", (120, 120, 120)),
    ],
)
def test_well_known_colours(name, label, colour):
    labels = label_set(name)
    assert rgb(labels.palette)[labels.classes.index(label)] == list(colour)


def test_order_is_that_of_the_train_ids():
    assert label_set("cityscapes").classes[::6] == ("road", "traffic light", "rider", "bicycle")
    assert label_set("voc").classes[15] == "person"
    assert label_set("camvid").classes[0] == "sky"


def test_context_59_is_context_60_without_background():
    full, without = label_set("pascal_context_60"), label_set("pascal_context_59")
    assert without.classes == full.classes[1:]


@pytest.mark.parametrize("count", [1, 21, 255])
def test_hub_palette_is_that_of_pytorch_hub(count):
    # As written there, in numpy instead of torch.
    palette = np.array([2**25 - 1, 2**15 - 1, 2**21 - 1])
    colours = (np.arange(count)[:, None] * palette % 255).astype("uint8")
    assert rgb(hub_palette(count)) == colours.tolist()


def matplotlib_hsv_to_rgb(h, s, v):
    """matplotlib.colors.hsv_to_rgb of one colour."""
    i = int(h * 6.0)
    f = (h * 6.0) - i
    p, q, t = v * (1.0 - s), v * (1.0 - s * f), v * (1.0 - s * (1.0 - f))
    return [(v, t, p), (q, v, p), (p, v, t), (p, q, v), (t, p, v), (v, p, q)][i % 6]


@pytest.mark.parametrize("count", [1, 21, 255])
def test_hsv_palette_is_that_of_the_onnx_model_zoo(count):
    palette = [0] * count * 3
    for hue in range(count):
        colours = (0, 0, 0) if hue == 0 else matplotlib_hsv_to_rgb(hue / count, 0.75, 0.75)
        for i in range(3):
            palette[hue * 3 + i] = int(colours[i] * 255)
    assert np.ravel(rgb(hsv_palette(count))).tolist() == palette


def test_palette_array_is_bgr():
    table = palette_array(("#010203", "#ff8000"))
    assert table.dtype == np.uint8
    assert table.tolist() == [[3, 2, 1], [0, 128, 255]]


def test_numbered_classes_have_colours():
    labels = numbered_label_set(3)
    assert labels.classes == ("class_0", "class_1", "class_2")
    assert labels.palette == hub_palette(3)


@pytest.mark.parametrize(("name", "count"), COUNTS.items())
def test_label_set_for_a_number_of_classes(name, count):
    assert label_set_for(count) == label_set(name)
    assert label_set_for(count, name) == label_set(name)


def test_label_set_for_other_numbers_is_numbered():
    assert label_set_for(3) == numbered_label_set(3)


def test_label_set_for_another_number_is_refused():
    with pytest.raises(ValueError, match="voc has 21 classes, but the network has 19"):
        label_set_for(19, "voc")


def test_unknown_label_set_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"unknown label set 'mars'; known are ade20k, camvid"):
        label_set("mars")


@pytest.mark.parametrize(
    ("classes", "palette", "message"),
    [
        ((), (), "0 classes: a label map holds 1 to 255"),
        (("a",) * 256, ("#000000",) * 256, "256 classes: a label map holds 1 to 255"),
        (("a", "b"), ("#000000",), "2 classes but 1 colours in 'x'"),
        (("a",), ("#00000G",), "'#00000G' is not of the form #rrggbb in lower case"),
        (("a",), ("#FFFFFF",), "'#FFFFFF' is not of the form #rrggbb in lower case"),
        (("a",), ("#0000000",), "'#0000000' is not of the form #rrggbb"),
        (("a",), ("#000000\n",), r"'#000000\\n' is not of the form #rrggbb"),
    ],
)
def test_label_sets_that_cannot_be_drawn_are_refused(classes, palette, message):
    with pytest.raises(ValueError, match=message):
        LabelSet(name="x", classes=classes, palette=palette)


def test_palette_array_refuses_other_forms():
    with pytest.raises(ValueError, match="'red' is not of the form #rrggbb"):
        palette_array(["red"])
