"""The canvas of every plot, and the file it becomes."""

import sys

import pytest
from PIL import Image

from fcn_trt.errors import MissingExtraError, OutputError
from fcn_trt.evaluation.picture import COLOURS, canvas, require_matplotlib, save


@pytest.fixture
def drawn():
    pytest.importorskip("matplotlib", reason="needs the extra: pip install 'fcn-trt[export]'")
    figure, axes = canvas(4.0, 3.0)
    axes.plot([0, 1], [0, 1], color=COLOURS[0])
    return figure


def test_picture_has_its_size_and_no_trace_of_the_library(drawn, tmp_path):
    save(drawn, tmp_path / "a.png")
    save(drawn, tmp_path / "b.png", dots_per_inch=50)
    with Image.open(tmp_path / "a.png") as image:
        assert (image.format, image.size) == ("PNG", (600, 450))
        assert "Software" not in image.info
        colours = {pixel for _, pixel in image.convert("RGB").getcolors(1 << 20) or []}
        assert tuple(bytes.fromhex(COLOURS[0][1:])) in colours
    with Image.open(tmp_path / "b.png") as image:
        assert image.size == (200, 150)


def test_drawing_asks_for_no_window_and_leaves_pyplot_alone(drawn):
    assert type(drawn.canvas).__name__ == "FigureCanvasAgg"
    assert (
        "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()
    )


def test_colours_differ():
    assert len(set(COLOURS)) == len(COLOURS) == 7


def test_folder_that_is_missing_is_named(drawn, tmp_path):
    with pytest.raises(OutputError, match=r"none/a\.png cannot be written: No such file"):
        save(drawn, tmp_path / "none" / "a.png")


def test_missing_matplotlib_is_one_sentence(monkeypatch):
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    for draw in (require_matplotlib, lambda: canvas(1.0, 1.0)):
        with pytest.raises(MissingExtraError, match=r"needs matplotlib, .*: pip install matplotl"):
            draw()
