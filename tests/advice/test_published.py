from collections import Counter

import pytest

from fcn_trt.advice.calibrated import run_of
from fcn_trt.advice.devices import device
from fcn_trt.advice.published import STRIDE32_RESNET18, measurements

CITYSCAPES = {
    "fcn_r50-d8": (4.17, 1.80),
    "fcn_r101-d8": (2.66, 1.19),
    "fcn_r18-d8": (14.65, 6.40),
    "fcn_r18b-d8": (16.74, 6.70),
    "fcn_r50b-d8": (4.20, 1.82),
    "fcn_r101b-d8": (2.73, 1.15),
}
"""Rates of MMSegmentation's table: whole images, and windows of 769."""


def rates(**fields):
    return [
        row.published_fps
        for row in measurements()
        if all(getattr(row, name) == value for name, value in fields.items())
    ]


def test_every_row_of_the_promise_is_there():
    anchors = [row for row in measurements() if row.is_anchor]
    assert Counter(row.device for row in anchors) == {"rtx-2080-ti": 3, "t4": 3, "v100": 29}
    assert rates(device="rtx-2080-ti") == [43.32, 12.06, 3.06]
    assert [row.published_ms for row in anchors if row.device == "t4"] == [128.42, 23.97, 18.13]
    found = {
        (row.arch.name, row.windows): row.published_fps for row in anchors if row.device == "v100"
    }
    for name, (whole, slide) in CITYSCAPES.items():
        assert found[f"{name}_769x769", 8] == slide
        if name not in ("fcn_r50-d8", "fcn_r101-d8"):  # more rows at other sizes
            assert found[name, 1] == whole
    assert rates(device="v100", classes=150) == [23.49, 14.78]
    assert rates(device="v100", classes=21) == [23.28, 14.81]
    assert rates(device="v100", classes=60) == [9.93]


@pytest.mark.parametrize("row", measurements(), ids=lambda row: f"{row.name} {row.device}")
def test_rows_are_whole(row):
    assert row.precision in device(row.device).tops
    assert row.seconds > 0
    assert row.source.url.startswith("https://")
    assert len(row.source.times) > 20
    assert (row.published_fps is None) != (row.published_ms is None)


def test_windows_are_those_of_the_protocol():
    """ceil((image - crop) / stride) + 1 windows each way, as MMSegmentation slides them."""
    for row in measurements():
        if row.size == (769, 769):
            grid = [-(-(side - 769) // 513) + 1 for side in (1024, 2048)]
            assert row.windows == grid[0] * grid[1]
        elif row.classes == 60:
            assert row.windows == -(-(520 - 480) // 320) + 1
            assert row.size == (390, 480)
        else:
            assert row.windows == 1


def test_counts_are_the_published_ones():
    counted = [row for row in measurements() if row.published_gflops is not None]
    assert len(counted) == 3
    for row in counted:
        work = run_of(row).work
        gflops = sum(entry.operations for entry in work) / 1e9
        assert gflops == pytest.approx(row.published_gflops, rel=0.003)
        parameters = sum(entry.layer.parameters for entry in work)
        assert parameters / 1e6 == pytest.approx(row.published_parameters_m, abs=0.005)


def test_same_network_trained_for_longer_is_the_same_configuration():
    repeated = [
        count
        for count in Counter(row.configuration for row in measurements()).values()
        if count > 1
    ]
    # D6 models after 40k and 80k iterations, whole and slide; jetson-inference's at 320x512.
    assert repeated == [2] * (2 * 2 + 2)


def test_undilated_network_is_the_one_of_jetson_inference():
    rows = [row for row in measurements() if row.arch is STRIDE32_RESNET18]
    assert Counter(row.device for row in rows) == {"nano": 11, "agx-xavier": 11}
    assert STRIDE32_RESNET18.stride == 32
