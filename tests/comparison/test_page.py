"""The pages stand alone, show any name as it is, and say what was measured."""

from __future__ import annotations

import base64
import dataclasses
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from fcn_trt.comparison.images import ImageChoice
from fcn_trt.comparison.measure import compare
from fcn_trt.comparison.page import write_page
from fcn_trt.comparison.pictures import draw_panels
from fcn_trt.comparison.summary import Summary, class_rows, summary_rows, worst_rows
from fcn_trt.comparison.thresholds import Thresholds
from fcn_trt.errors import OutputError
from fcn_trt.labels import palette_array

HOSTILE = "a<script>alert(1)</script>|`[x](y)*_\"'&amp;.png"
VOID = {"meta", "img"}


class Strict(HTMLParser):
    """Collects a page, and fails where tags do not close in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.text: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture
def page(grey, write_images) -> Summary:
    """Two images, of which the one with the hostile name differs in one column of four."""
    image = np.zeros((8, 20))
    image[:, 10:] = 1
    marked = image.copy()
    marked[:, 15:] = 9
    folder = write_images({"a.png": image, "b.png": marked})
    labels = write_images({"a.png": image, "b.png": image}, "labels")
    first = grey(lambda blue: np.minimum(blue, 1), model="A & <b>B</b>", source_sha256="x")
    second = grey(
        lambda blue: np.where(blue == 9, 2, blue), input_size=(32, 48), mean=(0.0, 0.0, 0.0)
    )
    palette = palette_array(first.spec.palette)
    found = compare(
        first,
        second,
        ImageChoice(folder=folder, labels=labels).find(first.spec),
        draw=lambda image, a, b: draw_panels(image.frame, a, b, palette),
    )
    worst = tuple(dataclasses.replace(image, name=HOSTILE) for image in found.worst)
    found = dataclasses.replace(found, worst=worst)
    return Summary(
        first=first,
        second=second,
        images="folder <of> images",
        comparison=found,
        verdicts=Thresholds(min_agreement=99, max_miou_drop=100).verdicts(found),
    )


def test_rows_say_what_was_measured(page):
    assert summary_rows(page.comparison)[1:] == [
        ["all", "87.50"],
        ["within 3 pixels of a boundary (40.00 %)", "100.00"],
        ["elsewhere", "79.17"],
        ["mean IoU of A against the labels", "100.00"],
        ["mean IoU of B against the labels", "58.33"],
        ["difference, B - A", "-41.67"],
    ]
    assert class_rows(page.comparison)[1:] == [
        ["class_0", "100.00", "100.00", "100.00", "100.00", "+0.00"],
        ["class_1", "75.00", "75.00", "100.00", "75.00", "-25.00"],
        ["class_2", "0.00", "-", "-", "0.00", "-"],
    ]
    assert worst_rows(page.comparison)[1:] == [[HOSTILE, "75.00", "100.00"]]


def test_almost_all_is_not_shown_as_all(page):
    found = dataclasses.replace(page.comparison, pixels=0.99996, elsewhere=1.0)
    rows = summary_rows(found)
    assert (rows[1][1], rows[3][1]) == (">99.99", "100.00")


def test_remarks_name_what_else_differs(page):
    sizes, normalised, source = page.remarks
    assert sizes == "The inputs have different sizes: 64x96 in A, 32x48 in B."
    assert "mean (0.0, 0.0, 0.0)" in normalised
    assert source == "The two come from different checkpoints or files."
    assert dataclasses.replace(page, second=page.first).remarks == []


def test_html_stands_alone_and_shows_names_as_they_are(page, tmp_path):
    write_page(page, tmp_path / "p.html")
    text = (tmp_path / "p.html").read_text(encoding="utf-8")
    parser = Strict()
    parser.feed(text)
    parser.close()
    assert parser.open == []
    assert "script" not in parser.seen
    assert "link" not in parser.seen
    assert "b" in parser.seen  # of the verdicts, and not the one in the model's name
    shown = "".join(parser.text)
    assert HOSTILE in shown
    assert "A & <b>B</b>" in shown
    assert "folder <of> images" in shown
    assert "failed: pixel agreement 87.5000 %, --min-agreement 99" in shown
    assert "passed: mIoU drop 41.6667 points, --max-miou-drop 100" in shown
    for tag, name, value in parser.attributes:
        assert not name.startswith("on")
        assert name != "href"
        if name == "src":
            assert tag == "img"
            header, _, data = value.partition(",")
            assert header == "data:image/jpeg;base64"
            with Image.open(io.BytesIO(base64.b64decode(data, validate=True))) as image:
                assert image.size == (20, 8)
    assert parser.seen.count("img") == 4
    assert "url(" not in text
    assert 'name="viewport"' in text
    assert "prefers-color-scheme: dark" in text


def test_markdown_names_pictures_that_are_there(page, tmp_path):
    path = tmp_path / "my page <1>.md"
    write_page(page, path)
    text = path.read_text(encoding="utf-8")
    links = re.findall(r"!\[[^\]]*\]\(<((?:[^<>\\]|\\.)*)>\)", text)
    assert len(links) == 4
    for link in links:
        file = tmp_path / re.sub(r"\\(.)", r"\1", link)
        with Image.open(file) as image:
            assert image.size == (20, 8)
    assert "<script>" not in re.sub(r"\\<", "", text)
    title = next(line for line in text.splitlines() if line.startswith("### "))
    assert re.sub(r"\\(.)", r"\1", title) == f"### {HOSTILE}: 75.00 % the same, 100.00 % near " + (
        "boundaries"
    )
    rows = [line for line in text.splitlines() if line.startswith("| class_2 ") or "2 |" in line]
    assert rows
    assert "| class\\_1 | 75.00 | 75.00 | 100.00 | 75.00 | -25.00 |" in text


def test_pages_without_a_difference_say_so(page, tmp_path):
    same = dataclasses.replace(page, comparison=dataclasses.replace(page.comparison, worst=()))
    for name in ("p.html", "p.md"):
        write_page(same, tmp_path / name)
        assert "Every pixel of every image has the same label in both." in (
            tmp_path / name
        ).read_text(encoding="utf-8")
    assert not (tmp_path / "p_files").exists()


def test_file_where_the_pictures_go_is_refused(page, tmp_path):
    (tmp_path / "p_files").write_text("mine")
    with pytest.raises(OutputError, match=r"p_files cannot be made: a file is in its way"):
        write_page(page, tmp_path / "p.md")
    assert not (tmp_path / "p.md").exists()


UNPRINTED = "a\x1b[2J\n# b\u202ec\udcff\x9b\u2028.png"


@pytest.mark.parametrize("suffix", [".html", ".md"])
def test_name_that_no_terminal_and_no_encoding_takes_is_shown_escaped(page, tmp_path, suffix):
    worst = [dataclasses.replace(image, name=UNPRINTED) for image in page.comparison.worst]
    found = dataclasses.replace(page.comparison, worst=tuple(worst))
    hostile = dataclasses.replace(page, comparison=found, images=UNPRINTED)
    path = tmp_path / f"p\udcff{suffix}"
    write_page(hostile, path)
    text = path.read_text(encoding="utf-8")
    assert all(line.isprintable() for line in text.splitlines())
    assert r"\x1b" in text.replace(r"\\", "\\").replace(r"\[", "[")
    assert not any(line.startswith("# b") for line in text.splitlines())
    if suffix == ".md":
        assert "p%FF_files/01-frame.jpg" in text
        assert (tmp_path / "p\udcff_files" / "01-frame.jpg").is_file()
