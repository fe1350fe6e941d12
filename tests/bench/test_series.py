"""What each figure means, with a clock that moves only as a test says."""

from __future__ import annotations

import pytest

from fcn_trt.bench.series import (
    FEWEST_WINDOWS,
    LEAST_RUNS,
    WINDOW_RUNS,
    interleave,
    latency,
    sustained_fps,
    warm_up,
)


class Time:
    """A clock that work moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def work(self, *seconds: float):
        """A call that takes these seconds in turn, and then always the last of them."""
        left = list(seconds)

        def call() -> None:
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return call


def test_latency_is_percentiles_in_milliseconds():
    found = latency([0.001 * value for value in range(101)])
    assert found.runs == 101
    assert (found.p50_ms, found.p90_ms, found.p99_ms) == pytest.approx((50, 90, 99))


def test_latency_of_nothing_is_refused():
    with pytest.raises(ValueError, match="no values"):
        latency([])


def test_warm_up_ends_when_two_windows_are_alike():
    clock = Time()
    cold = [8.0] * WINDOW_RUNS + [4.0] * WINDOW_RUNS
    found = warm_up(clock.work(*cold, 2.0), most_s=1000.0, clock=clock)
    assert found.is_stable
    assert found.runs == 4 * WINDOW_RUNS  # 8, 4, 2, and 2 once more
    assert found.duration_s == pytest.approx(WINDOW_RUNS * (8 + 4 + 2 + 2))


@pytest.mark.parametrize(("second", "stable"), [(1.019, True), (0.981, True), (1.03, False)])
def test_alike_is_within_two_percent(second, stable):
    clock = Time()
    call = clock.work(*[1.0] * WINDOW_RUNS, second)
    assert warm_up(call, most_s=WINDOW_RUNS + 1.0, clock=clock).is_stable is stable


def test_warm_up_gives_up_and_says_so():
    clock = Time()
    found = warm_up(clock.work(*[float(n) for n in range(100, 0, -1)]), most_s=50.0, clock=clock)
    assert not found.is_stable
    assert found.runs == FEWEST_WINDOWS * WINDOW_RUNS


def test_window_of_fast_calls_lasts_a_quarter_of_a_second():
    clock = Time()
    found = warm_up(clock.work(0.01), most_s=10.0, clock=clock)
    assert found.is_stable
    assert found.runs == pytest.approx(2 * 25, abs=2)


def test_calls_take_turns_and_each_has_its_own_times():
    clock, order = Time(), []

    def call(name, seconds):
        def work():
            order.append(name)
            clock.now += seconds

        return work

    found = interleave({"a": call("a", 0.5), "b": call("b", 2.0)}, seconds=20.0, clock=clock)
    assert found == {"a": pytest.approx([0.5] * 8), "b": pytest.approx([2.0] * 8)}
    assert order == ["a", "b", "b", "a"] * 4


def test_slow_calls_are_still_made_a_few_times():
    clock = Time()
    found = interleave({"a": clock.work(60.0)}, seconds=1.0, clock=clock)
    assert found["a"] == [60.0] * LEAST_RUNS


def results(clock, *times):
    for seconds in times:
        clock.now += seconds
        yield object()


def test_throughput_is_results_by_the_time_between_the_first_and_the_last():
    clock = Time()
    # The first one takes long, since nothing was in flight.
    assert sustained_fps(results(clock, 9.0, 0.5, 0.25, 0.25), clock=clock) == (3.0, 4)


def test_throughput_of_batches_counts_whole_batches():
    clock = Time()
    times = (9.0, 0, 0, 2.0, 0, 0, 1.0, 0, 0)  # three batches of three: two of them in 3 s
    fps, count = sustained_fps(results(clock, *times), batch=3, clock=clock)
    assert fps == pytest.approx(2 * 3 / 3.0)
    assert count == 9


def test_one_result_has_no_throughput():
    clock = Time()
    assert sustained_fps(results(clock, 1.0), clock=clock) == (0.0, 1)


def test_rest_comes_before_each_call_and_is_not_timed():
    clock, order = Time(), []

    def work() -> None:
        order.append("work")
        clock.now += 1.0

    def rest() -> None:
        order.append("rest")
        clock.now += 10.0

    found = interleave({"a": work}, seconds=0, least_runs=2, rest=rest, clock=clock)
    assert found == {"a": [1.0, 1.0]}
    assert order == ["rest", "work"] * 2
