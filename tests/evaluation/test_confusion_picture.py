import sys
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fcn_trt.errors import MissingExtraError, OutputError
from fcn_trt.evaluation.confusion_picture import draw_confusion, write_confusion_picture
from fcn_trt.evaluation.picture import save
from fcn_trt.evaluation.scores import Scores
from fcn_trt.foreign import printable
from fcn_trt.labels import label_set


@pytest.fixture(scope="module", autouse=True)
def _matplotlib():
    pytest.importorskip("matplotlib")


def evaluation(classes, label_map, truth):
    scores = Scores(classes)
    scores.update(np.array(label_map, dtype=np.uint8), np.array(truth, dtype=np.uint8))
    return scores.evaluation()


def cells(axes):
    """The numbers in the picture by (row, column)."""
    return {
        (text.get_position()[1], text.get_position()[0]): text.get_text() for text in axes.texts
    }


def test_rows_are_percentages_of_the_truth():
    found = evaluation(("a", "b", "c"), [[0, 0, 0, 1, 1, 1, 0]], [[0, 0, 0, 0, 1, 1, 255]])
    figure = draw_confusion(found, title="camvid")
    (axes,) = figure.axes
    assert cells(axes) == {(0, 0): "75", (0, 1): "25", (1, 1): "100"}
    shown: Any = axes.images[0].get_array()
    assert shown[:2].tolist() == [[75, 25, 0], [0, 100, 0]]
    assert shown.mask[2].all()  # the truth never has the third class
    assert axes.get_title() == "camvid"
    assert [text.get_text() for text in axes.get_xticklabels()] == ["a", "b", "c"]


def test_no_label_is_a_column_where_it_was_predicted():
    figure = draw_confusion(evaluation(("a", "b"), [[0, 255]], [[0, 0]]), title="")
    (axes,) = figure.axes
    assert cells(axes) == {(0, 0): "50", (0, 2): "50"}
    assert [text.get_text() for text in axes.get_xticklabels()] == ["a", "b", "no label"]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["a", "b"]


@pytest.mark.parametrize(("name", "numbered"), [("voc", True), ("ade20k", False)])
def test_all_classes_are_named_and_few_are_numbered(name, numbered):
    classes = label_set(name).classes
    diagonal = np.arange(len(classes))[None]
    figure = draw_confusion(evaluation(classes, diagonal, diagonal), title="")
    axes, *scale = figure.axes
    assert [text.get_text() for text in axes.get_yticklabels()] == list(classes)
    assert len(axes.texts) == (len(classes) if numbered else 0)
    # Where the cells have no numbers, a bar tells what their colours mean.
    assert [bar.get_ylabel() for bar in scale] == (
        [] if numbered else ["percent of the true class's pixels"]
    )
    assert all(bar.get_ylim() == (0, 100) for bar in scale)


def test_names_do_not_lie_on_each_other():
    classes = label_set("ade20k").classes
    diagonal = np.arange(len(classes))[None]
    figure = draw_confusion(evaluation(classes, diagonal, diagonal), title="")
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in figure.axes[0].get_yticklabels()]
    assert all(upper.y0 >= lower.y1 - 1 for upper, lower in pairwise(boxes))


def test_same_result_is_the_same_file(tmp_path):
    found = evaluation(("a", "b"), [[0, 1]], [[0, 0]])
    for name in ("one.png", "other.png"):
        write_confusion_picture(found, tmp_path / name, title="t")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "other.png").read_bytes()
    with Image.open(tmp_path / "one.png") as picture:
        assert min(picture.size) > 400


def test_folder_that_is_missing_is_named(tmp_path):
    found = evaluation(("a", "b"), [[0, 1]], [[0, 0]])
    with pytest.raises(OutputError, match=r"none/a\.png cannot be written: No such file"):
        write_confusion_picture(found, tmp_path / "none" / "a.png", title="t")


def test_missing_matplotlib_is_one_sentence(monkeypatch, tmp_path):
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    found = evaluation(("a", "b"), [[0, 1]], [[0, 0]])
    with pytest.raises(MissingExtraError, match=r"needs matplotlib, .*: pip install matplotlib$"):
        write_confusion_picture(found, tmp_path / "a.png", title="t")


NAMES = ["$\\frac{", "cost $a$ b", "a\nb", "\x1b[2J", r"a\$b$c$", "a\udcffb"]


@pytest.mark.parametrize("name", NAMES)
def test_name_is_neither_formula_nor_control_character(tmp_path, name):
    figure = draw_confusion(evaluation((name, "road"), [[0, 1]], [[0, 1]]), title=name)
    save(figure, tmp_path / "c.png")
    (axes,) = figure.axes
    written = [axes.title, axes.get_xticklabels()[0], axes.get_yticklabels()[0]]
    assert [text.get_text() for text in written] == [printable(name)] * 3
    assert not any(text.get_parse_math() for text in written)
