"""The two plots: what is drawn where."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="needs the extra: pip install 'fcn-trt[export]'")

from fcn_trt.bench.ceiling import Ceiling
from fcn_trt.bench.ladder import NO_CEILING, Job, Outcome, run_job
from fcn_trt.bench.pictures import (
    draw_latency,
    draw_roofline,
    write_pictures,
)
from fcn_trt.bench.series import Latency
from fcn_trt.errors import OutputError
from fcn_trt.spec import Precision

CEILING = Ceiling(gmac_per_s={"fp32": 100.0, "int8": 400.0}, copy_gb_per_s=20.0, left_out={})


@pytest.fixture(scope="module")
def outcomes(tiny_bundle):
    """One model in two types at two sizes, the larger first, and one that failed."""
    job = Job(name="tiny", source=tiny_bundle.path)
    real = run_job(job, ceilings={"openvino": CEILING}, frame_size=None, seconds=0.1)
    found, result = real.measurement, real.achieved
    assert found is not None
    assert result is not None
    made = []
    kind: Precision
    for kind, speed, ceiling in (("fp32", 1.0, 100.0), ("int8", 4.0, 400.0)):
        for size, ms in (((64, 128), 40.0), ((32, 64), 10.0)):
            shown = Latency(runs=9, p50_ms=ms / speed, p90_ms=0, p99_ms=2 * ms / speed)
            measurement = replace(found, precision=kind, input_size=size, label_map=shown)
            rate = replace(
                result, gmac_per_s=50 * speed, ceiling_gmac_per_s=ceiling, mac_per_byte=ms
            )
            made.append(Outcome(name="x", measurement=measurement, achieved=rate))
    return [*made, Outcome(name="bad", problem="it is broken")]


def lines(figure):
    """By label, what is drawn."""
    (axes,) = figure.axes
    handles, labels = axes.get_legend_handles_labels()
    return axes, dict(zip(labels, handles, strict=True))


def test_latency_has_a_line_for_each_type_from_small_to_large(outcomes):
    axes, found = lines(draw_latency(outcomes))
    assert list(found) == ["fcn_r18-d8, fp32 openvino", "fcn_r18-d8, int8 openvino"]
    data, _, (bars,) = found["fcn_r18-d8, int8 openvino"]
    np.testing.assert_array_equal(data.get_xdata(), [32 * 64, 64 * 128])
    np.testing.assert_array_equal(data.get_ydata(), [2.5, 10.0])
    assert [segment[:, 1].tolist() for segment in bars.get_segments()] == [[2.5, 5], [10, 20]]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert {text.get_text() for text in axes.get_xticklabels()} == {"32x64", "64x128"}


def test_roofline_has_the_rates_the_ceilings_and_the_copies(outcomes):
    axes, found = lines(draw_roofline(outcomes))
    np.testing.assert_array_equal(found["fcn_r18-d8, fp32 openvino"].get_xdata(), [10.0, 40.0])
    np.testing.assert_array_equal(found["fcn_r18-d8, fp32 openvino"].get_ydata(), [50.0, 50.0])
    texts = {text.get_text() for text in axes.texts}
    assert texts == {
        "fp32 product of matrices, 100 GMAC/s",
        "int8 product of matrices, 400 GMAC/s",
        "copies of memory, 20 GB/s",
    }
    levels = [line for line in axes.lines if len(set(line.get_ydata())) == 1]
    starts = {line.get_ydata()[0]: line.get_xdata()[0] for line in levels}
    # A level begins where memory is no longer the limit: rate / (20e9 bytes/s).
    assert starts[100.0] == pytest.approx(5.0)
    assert starts[400.0] == pytest.approx(20.0)


def test_ceiling_that_was_disturbed_is_no_line_that_holds(outcomes):
    slower = replace(CEILING, gmac_per_s={"fp32": 99.0, "int8": 300.0}, copy_gb_per_s=20.0)
    twice = CEILING.best_with(slower)
    shown = [
        replace(one, achieved=one.achieved and replace(one.achieved, ceiling=twice))
        for one in outcomes
    ]
    # The tiny network computes in FP32, whatever it is called here.
    typed = [
        replace(
            one,
            measurement=one.measurement
            and replace(one.measurement, gmac_by_type={one.measurement.precision: 1.0}),
        )
        for one in shown
    ]
    axes, _ = lines(draw_roofline(typed))
    assert {text.get_text() for text in axes.texts} == {
        "fp32 product of matrices, 100 GMAC/s",
        "int8 product of matrices, at least 400 GMAC/s: disturbed",
        "copies of memory, 20 GB/s",
    }
    styles = {
        line.get_ydata()[0]: line.get_linestyle()
        for line in axes.lines
        if len(set(line.get_ydata())) == 1
    }
    assert (styles[100.0], styles[400.0]) == ("-", "--")


def test_ceiling_that_a_network_beats_is_no_line_that_holds(outcomes):
    beaten = [
        replace(one, achieved=one.achieved and replace(one.achieved, ceiling_share=1.06))
        for one in outcomes
        if one.measurement and one.measurement.precision == "int8"
    ]
    axes, _ = lines(draw_roofline([*outcomes, *beaten]))
    texts = {text.get_text() for text in axes.texts}
    assert "int8 product of matrices, at least 400 GMAC/s: disturbed" in texts
    assert "fp32 product of matrices, 100 GMAC/s" in texts


def test_without_ceilings_the_rates_are_drawn_alone(outcomes):
    alone = [
        replace(
            one,
            achieved=one.achieved
            and replace(
                one.achieved, ceiling=NO_CEILING, ceiling_gmac_per_s=None, ceiling_share=None
            ),
        )
        for one in outcomes
    ]
    axes, found = lines(draw_roofline(alone))
    assert len(found) == 2
    assert len(axes.texts) == 0
    draw_roofline(
        [
            replace(one, achieved=one.achieved and replace(one.achieved, mac_per_byte=None))
            for one in outcomes
        ]
    )


def test_files_are_pictures_and_the_same_each_time(outcomes, tmp_path):
    first = write_pictures(outcomes, tmp_path / "a")
    second = write_pictures(outcomes, tmp_path / "b")
    assert [path.name for path in first] == ["latency.png", "roofline.png"]
    for one, other in zip(first, second, strict=True):
        assert np.asarray(cv2.imread(str(one))).shape == (817, 1350, 3)
        assert one.read_bytes() == other.read_bytes()


def test_nothing_measured_is_no_picture(outcomes, tmp_path):
    assert write_pictures(outcomes[-1:], tmp_path / "c") == []
    assert not (tmp_path / "c").exists()


def test_folder_that_cannot_be_made_is_one_sentence(outcomes, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file cannot be made: File exists; choose another"):
        write_pictures(outcomes, tmp_path / "file")
