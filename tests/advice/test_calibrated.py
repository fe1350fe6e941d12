import statistics
from dataclasses import replace

import pytest

from fcn_trt.advice.calibrated import compare_published, fitted, run_of
from fcn_trt.advice.fit import fit, seconds
from fcn_trt.advice.published import measurements


@pytest.fixture(scope="module")
def comparison():
    return compare_published()


def test_median_error_keeps_the_promise(comparison):
    """Under 25 %, no row fitted on itself; even with its whole device left out."""
    summary = comparison.summary()
    assert summary["anchors"]["rows"] == 35
    assert summary["all"]["rows"] == len(comparison.rows) == 67
    assert summary["tensorrt"]["rows"] == 32
    for group in summary.values():
        assert group["median"] < 0.1
        assert group["median_without_device"] < 0.25


def test_summary_is_that_of_the_rows(comparison):
    def errors(rows, name):
        published = [row.measurement.seconds for row in rows]
        estimated = [getattr(row, name) for row in rows]
        return [abs(p / e - 1) for p, e in zip(published, estimated, strict=True)]

    rows = comparison.rows
    anchors = [row for row in rows if row.measurement.is_anchor]
    tensorrt = [row for row in rows if row.measurement.stack == "tensorrt"]
    assert comparison.summary().keys() == {"all", "anchors", "tensorrt"}
    for name, group in (("all", rows), ("anchors", anchors), ("tensorrt", tensorrt)):
        found = comparison.summary()[name]
        left_out = errors(group, "estimated_s")
        assert found["median"] == pytest.approx(statistics.median(left_out))
        assert found["worst"] == pytest.approx(max(left_out))
        new_device = errors(group, "without_device_s")
        assert found["median_without_device"] == pytest.approx(statistics.median(new_device))
        assert found["worst_without_device"] == pytest.approx(max(new_device))


def test_repeated_measurement_is_left_out_with_its_twin(comparison):
    found = {row.measurement.name: row for row in comparison.rows}
    for name in ("R50-D16 whole", "R101-D16 slide 769"):
        short, long = (found[f"Cityscapes D6 {name} {length}"] for length in ("40k", "80k"))
        assert short.estimated_s == long.estimated_s
        assert short.ratio != long.ratio


@pytest.mark.parametrize("name", ["t4", "v100", "nano"])
def test_device_that_is_left_out_is_left_out_as_a_whole(comparison, name):
    others = [m for m in measurements() if m.device != name]
    shares = fit([run_of(m) for m in others], [m.seconds for m in others])
    for row in comparison.rows:
        if row.measurement.device == name:
            (alone,) = seconds([run_of(row.measurement)], shares)
            assert row.without_device_s == pytest.approx(alone, rel=5e-3)


def test_row_of_the_only_measurement_of_a_device_is_new_either_way(comparison):
    (tx2,) = (row for row in comparison.rows if row.measurement.device == "tx2")
    assert tx2.estimated_s == pytest.approx(tx2.without_device_s)


def test_shares_are_possible(comparison):
    shares = fitted()
    assert all(0.3 < share < 1.5 for share in shares.compute.values())
    assert all(0.1 < share < 1 for share in shares.bandwidth.values())
    assert all(1 < launch < 100 for launch in shares.launch_us.values())


def test_share_above_a_peak_is_explained():
    shares = fitted()
    (*said, why) = shares.sentences()
    assert any("107 % of the peak of the lanes" in sentence for sentence in said)
    assert why.startswith("above 100 % of a peak is no mistake: Winograd's method needs fewer")
    below = replace(shares, compute={pair: min(0.9, s) for pair, s in shares.compute.items()})
    assert len(below.sentences()) == len(said)


def test_description_and_sources_hide_nothing(comparison):
    text = comparison.describe()
    summary = comparison.summary()
    assert "on the 32 of TensorRT alone" in text
    for group in summary.values():
        for name in ("median", "worst", "median_without_device", "worst_without_device"):
            if name.endswith("device") and group is summary["anchors"]:
                continue
            assert f"{100 * group[name]:.1f} %" in text
    assert len(comparison.sources()) == 6
    assert all("https://" in line for line in comparison.sources())
