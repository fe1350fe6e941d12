from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from fcn_trt.sensitivity.result import Bound

pytest.importorskip("matplotlib", reason="needs the extra: pip install 'fcn-trt[export]'")

from fcn_trt.sensitivity.picture import draw_picture, write_picture


def values(data) -> list[float]:
    """Of a line, one by one."""
    return [float(value) for value in np.asarray(data)]


def test_picture_shows_the_points_the_bound_and_the_set(analysed):
    found, _ = analysed
    axes = draw_picture(found).axes[0]
    lines = {str(line.get_label()): line for line in axes.get_lines()}
    grown = lines["the most useful ones in float"]
    assert values(grown.get_xdata()) == [point.quantised_share for point in found.points]
    assert values(grown.get_ydata()) == [point.score.agreement for point in found.points]
    assert values(lines["bound"].get_ydata()) == [found.question.bound.min_agreement] * 2
    assert values(lines["FP32"].get_ydata()) == [100, 100]
    star = lines[f"smallest set: {len(found.chosen.kept)} in float"]
    assert values(star.get_xdata()) == [found.chosen.quantised_share]
    assert values(star.get_ydata()) == [found.chosen.score.agreement]
    numbers = [text.get_text() for text in axes.texts]
    assert numbers[0] == "0"
    assert set(numbers) <= {str(len(point.kept)) for point in found.points}
    assert axes.get_xlabel() == "share of GMAC in INT8 (%)"
    assert axes.get_ylabel() == "pixels labelled as in FP32 (%)"


def test_bound_of_mean_iou_is_shown_in_mean_iou(analysed):
    found, _ = analysed
    question = replace(found.question, bound=Bound(max_drop=2.5))
    axes = draw_picture(replace(found, question=question, chosen=None)).axes[0]
    lines = {str(line.get_label()): line for line in axes.get_lines()}
    assert values(lines["bound"].get_ydata())[0] == pytest.approx(found.reference.miou - 2.5)
    ys = values(lines["the most useful ones in float"].get_ydata())
    assert ys == [point.score.miou for point in found.points]
    assert not any(label.startswith("smallest set") for label in lines)
    assert axes.get_ylabel() == "mean IoU (%)"


def test_picture_is_a_png_and_the_same_each_time(analysed, tmp_path):
    found, _ = analysed
    for name in ("a.png", "b.png"):
        write_picture(found, tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with Image.open(tmp_path / "a.png") as image:
        assert image.format == "PNG"
        assert image.size == (1200, 750)
        assert len(np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0)) > 20


def test_numbers_that_would_lie_on_each_other_are_left_out(analysed):
    found, _ = analysed
    first = found.points[0]
    near = replace(first, kept=("a",), quantised_share=first.quantised_share - 1e-3)
    far = replace(first, kept=("a", "b"), quantised_share=0.0)
    axes = draw_picture(replace(found, points=(first, near, far))).axes[0]
    assert [text.get_text() for text in axes.texts] == ["0", "2"]
