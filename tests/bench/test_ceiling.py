"""The machine's ceilings: real ones of this CPU, and what they mean for a network."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from fcn_trt.bench import ceiling as module
from fcn_trt.bench.ceiling import Ceiling, best_rate, copy_gb_per_s, measure_ceiling
from fcn_trt.engine.openvino.builder import computes
from fcn_trt.spec import Precision


class Time:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_best_rate_is_of_the_fastest_run_of_any_kind():
    clock = Time()
    seconds = {"a": [9.0, 2.0, 0.5, 2.0], "b": [9.0, 3.0, 4.0, 1.0]}

    def work(name):
        def call():
            clock.now += seconds[name].pop(0)

        return call

    # 4 in 0.5 s, and 6 in 1 s; the first run of each warms up.
    rate = best_rate([(work("a"), 4.0), (work("b"), 6.0)], seconds=0.0, clock=clock)
    assert rate == 8.0
    assert seconds == {"a": [], "b": []}


def test_least_time_of_a_network_adds_up_its_types():
    ceiling = Ceiling(gmac_per_s={"int8": 400.0, "fp32": 100.0}, copy_gb_per_s=1.0, left_out={})
    assert ceiling.least_seconds({"int8": 40.0, "fp32": 5.0}) == pytest.approx(0.1 + 0.05)
    assert ceiling.least_seconds({"int8": 40.0, "fp16": 5.0}) is None
    assert ceiling.least_seconds({}) is None


BUSY = "the machine was busy: others took 30.0% of its cores"


def rates(fp32, copies, *remarks):
    return Ceiling(gmac_per_s={"fp32": fp32}, copy_gb_per_s=copies, left_out={}, remarks=remarks)


def test_better_of_two_measurements_is_taken_rate_by_rate():
    found = rates(100.0, 18.0).best_with(rates(80.0, 20.0))
    assert (found.gmac_per_s, found.copy_gb_per_s) == ({"fp32": 100.0}, 20.0)
    assert found.apart == pytest.approx({"fp32": 0.2, "copies": 0.1})
    assert found.doubts() == (
        "fp32: one measurement was 20% below the other, of which the better is told",
        "copies: one measurement was 10% below the other, of which the better is told",
    )
    assert not found.holds("fp32")
    assert found.best_with(found).apart == {"fp32": 0.0, "copies": 0.0}


def test_ceiling_holds_where_both_measurements_tell_the_same_and_one_was_quiet():
    assert rates(100.0, 20.0, BUSY).best_with(rates(98.0, 20.0)).holds("fp32")
    assert rates(100.0, 20.0).best_with(rates(96.0, 10.0)).holds("fp32")
    for first, second in (
        (rates(100.0, 20.0, BUSY), rates(100.0, 20.0, BUSY)),
        (rates(100.0, 20.0), rates(94.0, 20.0)),
        (rates(94.0, 20.0), rates(100.0, 20.0, BUSY)),
    ):
        assert not first.best_with(second).holds("fp32")
    both = rates(1.0, 1.0, BUSY).best_with(rates(1.0, 1.0, BUSY))
    assert both.doubts() == (BUSY,)


def test_rate_that_only_one_of_two_has_is_that_one():
    one = Ceiling(gmac_per_s={}, copy_gb_per_s=None, left_out={"fp32": "no", "fp8": "never"})
    found = one.best_with(rates(100.0, 20.0))
    assert (found.gmac_per_s, found.copy_gb_per_s) == ({"fp32": 100.0}, 20.0)
    assert found.left_out == {"fp8": "never"}
    assert found.apart == {}
    assert found.holds("fp32")


def test_this_cpus_ceilings():
    found = measure_ceiling(["fp32", "int8", "fp32"], seconds=0.1)
    assert found.gmac_per_s.keys() == {"fp32", "int8"}
    assert min(found.gmac_per_s.values()) > 0
    assert found.copy_gb_per_s is not None
    assert found.copy_gb_per_s > 0
    assert found.left_out == {}


def test_type_that_this_cpu_does_not_compute_is_left_out_with_the_reason():
    kinds: tuple[Precision, ...] = ("fp16", "bf16")
    unknown = [kind for kind in kinds if not computes(kind)]
    found = measure_ceiling([*unknown, "fp8"], seconds=0.05)
    assert found.gmac_per_s == {}
    assert found.left_out.keys() == {*unknown, "fp8"}
    assert found.left_out["fp8"] == ("no product in fp8 is computed on a CPU; choose fp32 or int8")


def test_copy_counts_what_is_read_and_what_is_written():
    ticks = itertools.count()  # a second from each look at the clock to the next
    rate = copy_gb_per_s(seconds=0, cores=2, size_bytes=8 << 20, clock=lambda: float(next(ticks)))
    assert rate == 2 * (8 << 20) / 1e9


def test_all_of_the_buffer_is_copied():
    pairs = [(np.arange(5.0), np.zeros(5)), (np.arange(3.0), np.zeros(3))]
    for pair in pairs:
        module._copy(pair)
        np.testing.assert_array_equal(*pair)
