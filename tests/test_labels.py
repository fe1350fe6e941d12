import itertools

import numpy as np
import pytest

from fcn_trt.labels import (
    LabelSet,
    binary_label_set,
    distinct_palette,
    find_label_set,
    label_set,
    label_set_for,
    label_set_names,
    named_label_set,
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


def test_palette_array_is_bgr():
    table = palette_array(("#010203", "#ff8000"))
    assert table.dtype == np.uint8
    assert table.tolist() == [[3, 2, 1], [0, 128, 255]]


def test_numbered_classes_have_colours():
    labels = numbered_label_set(3)
    assert labels.classes == ("class_0", "class_1", "class_2")
    assert labels.palette == distinct_palette(labels.classes)


@pytest.mark.parametrize("count", [2, 3, 11, 19, 21, 60, 150, 255, 256])
def test_every_class_has_a_colour_of_its_own(count):
    palette = distinct_palette(["thing"] * count)
    assert len(set(palette)) == count
    colours = np.array(rgb(palette))
    apart = [np.abs(a - b).max() for a, b in itertools.pairwise(colours)]
    assert min(apart) > 60  # neighbours are told apart at a glance
    assert colours.max(1).min() > 100  # none is nearly black, which stands for nothing


@pytest.mark.parametrize("first", ["background", "Background", "void", "unlabeled"])
def test_background_is_not_painted(first):
    assert distinct_palette((first, "cat"))[0] == "#000000"
    assert distinct_palette(("cat", first)) == distinct_palette(("cat", "dog"))


@pytest.mark.parametrize("count", COUNTS.values())
def test_number_of_classes_says_nothing_of_what_they_are(count):
    assert label_set_for(count) == numbered_label_set(count)


def test_label_set_for_another_number_is_refused():
    with pytest.raises(ValueError, match="voc has 21 classes, but the network has 19"):
        label_set_for(19, label_set("voc"))


def test_one_logit_has_a_background_beside_what_it_finds():
    assert binary_label_set().classes == ("background", "foreground")
    crack = named_label_set(["crack"], ["#FF0000"])
    assert binary_label_set(crack).classes == ("background", "crack")
    assert binary_label_set(crack).palette == ("#000000", "#ff0000")
    both = named_label_set(["sound", "crack"])
    assert binary_label_set(both) == both
    with pytest.raises(ValueError, match="has 21 classes, but the network has 2"):
        binary_label_set(label_set("voc"))


class TestFile:
    """A line per class."""

    @pytest.fixture
    def read(self, tmp_path):
        def read(text, encoding="utf-8"):
            path = tmp_path / "labels.txt"
            path.write_bytes(text.encode(encoding))
            return find_label_set("labels.txt", tmp_path)

        return read

    def test_names_and_colours(self, read):
        labels = read("#mine\nroad #804080\n\n  traffic light   #FAAA1E\nsky\n")
        assert labels.classes == ("road", "traffic light", "sky")
        assert labels.palette[:2] == ("#804080", "#faaa1e")
        assert labels.palette[2] == distinct_palette(labels.classes)[2]
        assert labels.name == "custom"

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
    def test_every_end_of_line_and_a_byte_order_mark(self, read, encoding):
        assert read("a\r\nb\rc\nDächer", encoding).classes == ("a", "b", "c", "Dächer")

    def test_names_with_other_signs(self, read):
        assert read("building;edifice\nsofa, couch\nT-shirt (new)\nno 5\n").classes == (
            *("building;edifice", "sofa, couch", "T-shirt (new)", "no 5"),
        )

    def test_names_may_repeat(self, read):
        assert read("a\na\nno 5\n").classes == ("a", "a", "no 5")

    @pytest.mark.parametrize(
        "line",
        [
            *("sky #12345", "sky #ff0000 # the sky", "0,sky,0,0,128", "0: sky", "sky 0 0 128"),
            *(
                "0 0 128\t\tsky",
                "name,r,g,b",
                "names:",
                "- sky",
                '"sky",',
                "names: [a, b]",
                '{"0": "sky"}',
                "\x1b[31mred",
                "no #5",
            ),
        ],
    )
    def test_line_of_another_form_is_refused_by_its_number(self, read, line):
        with pytest.raises(ValueError, match=r"labels\.txt has .* in line 2; a line is a class's "):
            read(f"road\n{line}\n")

    @pytest.mark.parametrize(
        ("text", "encoding", "reason"),
        [
            ("", "utf-8", "names 0 classes"),
            ("x\n" * 256, "utf-8", "names 256 classes"),
            ("x" * (1 << 21), "utf-8", "at most 1048576 bytes are read, and it has 2097152"),
            ("Straße", "latin-1", "it is no UTF-8 text"),
        ],
    )
    def test_what_is_no_such_file_is_refused(self, read, text, encoding, reason):
        with pytest.raises(ValueError, match=reason):
            read(text, encoding)

    def test_known_set_is_found_by_name(self, tmp_path):
        assert find_label_set("voc", tmp_path) == label_set("voc")

    def test_what_is_neither_is_refused_with_the_known_ones(self, tmp_path):
        with pytest.raises(ValueError, match=r"neither a file .* known are ade20k, camvid"):
            find_label_set("mars", tmp_path)


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
