"""When a series of times is doubted: made-up counters, and a machine that is really busy."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from fcn_trt.bench.steadiness import Moment, disturbances, steadiness, this_moment

QUIET = [1.0, 1.01, 0.99, 1.0, 1.02, 0.98, 1.0, 1.01]
BEFORE = Moment(at_s=10.0, own_s=5.0, busy_s=100.0, stolen_s=1.0, clocks_mhz={"cpu": 2000.0})


def after(**changes):
    """Ten seconds later on two cores, 15 CPU seconds of which were this process's own."""
    values = {
        "at_s": 20.0,
        "own_s": 20.0,
        "busy_s": 115.2,
        "stolen_s": 1.1,
        "clocks_mhz": {"cpu": 1990.0},
    }
    return Moment(**{**values, **changes})


def judge(seconds=QUIET, before=BEFORE, **changes):
    return steadiness(seconds, before=before, after=after(**changes), cores=2)


def test_quiet_machine_leaves_nothing_to_doubt():
    found = judge()
    assert found.is_steady
    assert found.remarks == ()
    assert found.runs == 8
    assert found.others_share == pytest.approx(0.2 / 20)
    assert found.stolen_share == pytest.approx(0.1 / 20)
    assert found.clock_falls == {"cpu": pytest.approx(0.005)}
    assert found.throttle_events is None


def test_spread_is_from_p10_to_p90_of_the_median():
    found = judge([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0][::-1])
    assert found.spread == pytest.approx((10 - 2) / 6)
    assert "the times vary: p10 to p90 spans 133% of the median" in found.remarks


@pytest.mark.parametrize(("share", "doubted"), [(0.09, False), (0.11, True)])
def test_bound_of_the_spread(share, doubted):
    alternating = [1 - share / 2, 1.0, 1 + share / 2] * 12  # p10 and p90 are the outer ones
    assert judge(alternating).spread == pytest.approx(share)
    assert judge(alternating).is_steady is not doubted


@pytest.mark.parametrize(
    ("second", "sentence"),
    [
        (1.07, "the times drift: the second half's median is 7.0% more than the first's"),
        (0.93, "the times drift: the second half's median is 7.0% less than the first's"),
    ],
)
def test_drift_is_the_second_half_against_the_first(second, sentence):
    found = judge([1.0] * 10 + [123.0] + [second] * 10)  # the one in the middle is in neither
    assert found.drift == pytest.approx(second - 1)
    assert sentence in found.remarks


def test_few_times_have_no_halves():
    assert judge([1.0, 1.0, 2.0]).drift is None


def test_no_times_are_refused():
    with pytest.raises(ValueError, match="no values"):
        judge([])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"busy_s": 119.0}, "the machine was busy: others took 20.0% of its cores"),
        ({"stolen_s": 2.0}, "the virtual machine was slowed: 5.0% of its cores was stolen"),
        ({"clocks_mhz": {"cpu": 1500.0}}, "the CPU's clock fell by 25%"),
    ],
)
def test_what_disturbs_is_one_sentence(changes, sentence):
    assert judge(**changes).remarks == (sentence,)
    assert disturbances(BEFORE, after(**changes), cores=2) == (sentence,)


def test_throttling_that_was_counted_meanwhile():
    before = Moment(at_s=0.0, own_s=0.0, throttle_events=7)
    remarks = judge(before=before, throttle_events=9).remarks
    assert remarks == ("heat, current or a quota slowed the machine 2 times",)
    assert judge(before=before, throttle_events=7).is_steady


def test_what_the_system_does_not_tell_is_none_and_no_remark():
    found = judge(before=Moment(at_s=0.0, own_s=0.0), busy_s=None, stolen_s=None, clocks_mhz={})
    assert (found.others_share, found.stolen_share, found.throttle_events) == (None, None, None)
    assert found.clock_falls == {}
    assert found.is_steady


def test_ticks_that_are_behind_are_not_less_than_nobody():
    assert judge(busy_s=114.0).others_share == 0.0


def test_clock_that_rose_did_not_fall():
    assert judge(clocks_mhz={"cpu": 3000.0}).clock_falls == {"cpu": 0.0}


def test_counters_are_read_from_proc_stat(tmp_path):
    (tmp_path / "proc").mkdir()
    ticks = os.sysconf("SC_CLK_TCK")
    seconds = (1, 2, 4, 800, 900, 8, 16, 32, 5, 0)  # user, nice, system, idle, waiting, ...
    line = " ".join(str(value * ticks) for value in seconds)
    (tmp_path / "proc" / "stat").write_text(f"cpu  {line}\ncpu0 1 2 3 4 5 6 7 8 9 0\n")
    found = this_moment(tmp_path)
    assert found.busy_s == 1 + 2 + 4 + 8 + 16
    assert found.stolen_s == 32


@pytest.mark.parametrize("text", ["", "cpu 1 2 3\n", "intr 1 2 3 4 5 6 7 8 9 10\n"])
def test_system_without_counters_tells_nothing(tmp_path, text):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "stat").write_text(text)
    assert this_moment(tmp_path).busy_s is None


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_own_work_is_told_from_that_of_a_process_beside():
    cores = os.cpu_count() or 1
    spin = [sys.executable, "-c", "while True: pass"]
    others = [subprocess.Popen(spin) for _ in range(2)]
    try:
        time.sleep(0.3)
        before, own_before_s = this_moment(), time.process_time()
        until = time.perf_counter() + 0.5
        while time.perf_counter() < until:
            pass
        time.sleep(1.0)
        after, own_s = this_moment(), time.process_time() - own_before_s
    finally:
        for process in others:
            process.kill()
            process.wait()
    assert after.own_s - before.own_s == pytest.approx(own_s, abs=0.1)
    assert before.busy_s is not None
    assert after.busy_s is not None
    assert after.busy_s - before.busy_s > own_s
    found = steadiness([1.0], before=before, after=after, cores=cores)
    assert found.others_share is not None
    # Two that spin take what they can get, whatever else runs here now.
    assert found.others_share > 0.3 * min(2, cores) / cores
    assert any("the machine was busy" in remark for remark in found.remarks)
