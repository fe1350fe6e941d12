import numpy as np
import pytest

from fcn_trt.advice.calibrated import run_of
from fcn_trt.advice.fit import fit, leave_out, seconds
from fcn_trt.advice.published import measurements
from fcn_trt.advice.roofline import Efficiencies, layer_times

TRUTH = Efficiencies(
    compute={
        ("pytorch", "lanes"): 0.9,
        ("pytorch", "tensor cores"): 0.5,
        ("tensorrt", "lanes"): 1.1,
        ("tensorrt", "tensor cores"): 0.6,
    },
    bandwidth={"pytorch": 0.5, "tensorrt": 0.8},
    launch_us={"pytorch": 25.0, "tensorrt": 6.0},
)


@pytest.fixture(scope="module")
def rows():
    return measurements()


@pytest.fixture(scope="module")
def runs(rows):
    return [run_of(row) for row in rows]


@pytest.fixture(scope="module")
def measured(rows):
    return [row.seconds for row in rows]


def test_time_of_a_run_is_that_of_its_layers_and_of_what_comes_after(runs):
    found = seconds(runs, TRUTH)
    for run, whole in zip(runs, found, strict=True):
        network_ms = sum(layer.total_ms for layer in layer_times(run, TRUTH))
        after_s = run.after_bytes / (run.bandwidth * TRUTH.bandwidth[run.stack])
        assert whole == pytest.approx(network_ms / 1e3 + after_s)


def test_fit_finds_the_shares_that_made_the_times(runs):
    """So many rows outweigh the guess, which is far from them."""
    many = runs * 40
    found = fit(many, seconds(many, TRUTH).tolist())
    assert found.compute == pytest.approx(TRUTH.compute, rel=0.015)
    assert found.bandwidth == pytest.approx(TRUTH.bandwidth, rel=0.08)
    assert found.launch_us == pytest.approx(TRUTH.launch_us, rel=0.04)


def test_fit_explains_times_that_other_shares_made(runs):
    """The shares that few rows tell are drawn to the guess; the times are met all the same."""
    times = seconds(runs, TRUTH)
    found = fit(runs, times.tolist())
    assert np.abs(seconds(runs, found) / times - 1).max() < 0.08
    for pair in (("pytorch", "lanes"), ("tensorrt", "lanes"), ("tensorrt", "tensor cores")):
        assert found.compute[pair] == pytest.approx(TRUTH.compute[pair], rel=0.15)


def test_fit_is_the_same_each_time(runs, measured):
    assert fit(runs, measured) == fit(runs, measured)


def test_left_out_row_is_estimated_as_by_a_fit_of_the_others(rows, runs, measured):
    keys = [row.configuration for row in rows]
    found = leave_out(runs, measured, keys=keys)
    for index in (0, 5, 6, 30, 66):
        others = [i for i, key in enumerate(keys) if key != keys[index]]
        alone = fit([runs[i] for i in others], [measured[i] for i in others])
        assert found[index] == pytest.approx(seconds([runs[index]], alone)[0], rel=2e-3)


@pytest.mark.parametrize("index", [0, 5, 23, 24])
def test_left_out_row_does_not_know_its_own_time(rows, runs, measured, index):
    keys = [row.configuration for row in rows]
    wrong = [
        value * (1.5 if key == keys[index] else 1)
        for key, value in zip(keys, measured, strict=True)
    ]
    first, second = leave_out(runs, measured, keys=keys), leave_out(runs, wrong, keys=keys)
    assert second[index] == pytest.approx(first[index], rel=2e-3)
    assert np.abs(second / first - 1).max() > 5e-3  # the others do learn from it


def test_stack_with_no_row_takes_the_mean_of_its_kind(rows, runs, measured):
    only = [i for i, row in enumerate(rows) if row.stack == "tensorrt"]
    found = fit([runs[i] for i in only], [measured[i] for i in only])
    assert 0.5 < found.compute["pytorch", "lanes"] < 1.2
    assert found.bandwidth["pytorch"] != found.bandwidth["tensorrt"]
