"""Whether a series of times can be believed: what a busy or throttling machine does to it.

A `Moment` is what the system has counted so far. One before and one after a series say what else
ran meanwhile, and whether something slowed down; the series itself says how much it varied.

Source: Linux kernel, proc(5), /proc/stat: times in ticks since the start, guests' within user.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from pydantic import ConfigDict

from fcn_trt.bench.clocks import clocks_mhz, throttle_events
from fcn_trt.machine import read_system_file
from fcn_trt.timing import percentiles

__all__ = [
    "CEILING_BOUND",
    "CLOCK_BOUND",
    "DRIFT_BOUND",
    "OTHERS_BOUND",
    "SPREAD_BOUND",
    "STOLEN_BOUND",
    "Moment",
    "Steadiness",
    "disturbances",
    "steadiness",
    "this_moment",
]

SPREAD_BOUND = 0.10
"""Of the median; what lies between p10 and p90 of a quiet machine's times is less."""
DRIFT_BOUND = 0.05
"""Of the first half's median; how far the second half's may be from it."""
OTHERS_BOUND = 0.05
"""Of the time of all cores; what other processes may take."""
STOLEN_BOUND = 0.02
"""Of the time of all cores; what the machine around a virtual one may take."""
CLOCK_BOUND = 0.05
"""Of a clock rate; how far it may fall."""
CEILING_BOUND = 0.05
"""Of the better of two measurements of what a machine can do; how far the other may be below it."""

_FEWEST = 4
"""Times in a series that has halves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What the system has counted up to a moment.

    Attributes:
        at_s: Seconds of time.perf_counter.
        own_s: CPU seconds of this process and of the processes that it has waited for.
        busy_s: CPU seconds of all processes; None where the system does not tell.
        stolen_s: CPU seconds that a virtual machine wanted and did not get; None likewise.
        clocks_mhz: Clock rates by "cpu" and "gpu".
        throttle_events: How often something had to slow down; None where nothing counts it.
    """

    at_s: float
    own_s: float
    busy_s: float | None = None
    stolen_s: float | None = None
    clocks_mhz: dict[str, float] = field(default_factory=dict)
    throttle_events: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Steadiness:
    """How steady a series of times is. None stands for what the system does not tell.

    Attributes:
        runs: How many times there are.
        spread: What lies between p10 and p90, as a share of the median.
        drift: How much longer the second half's median is than the first half's, as a share of
            that; None of a series of less than four.
        others_share: Of the time of all cores, what other processes took meanwhile.
        stolen_share: Of the time of all cores, what the machine around a virtual one took.
        clock_falls: By clock, how far it fell, as a share.
        throttle_events: How often something had to slow down meanwhile.
        remarks: A sentence for each reason to doubt the figure; none for one to believe.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)

    runs: int
    spread: float
    drift: float | None
    others_share: float | None
    stolen_share: float | None
    clock_falls: dict[str, float]
    throttle_events: int | None
    remarks: tuple[str, ...]

    @property
    def is_steady(self) -> bool:
        """Whether there is no reason to doubt the figure."""
        return not self.remarks


def this_moment(root: Path = Path("/")) -> Moment:
    """What has been counted so far.

    Args:
        root: Where the files of the system are looked up.
    """
    clocks = clocks_mhz(root)  # first, because asking for a card's takes time of its own
    used = os.times()
    busy, stolen = _system_times(read_system_file(root / "proc/stat"))
    return Moment(
        at_s=time.perf_counter(),
        own_s=used.user + used.system + used.children_user + used.children_system,
        busy_s=busy,
        stolen_s=stolen,
        clocks_mhz=clocks,
        throttle_events=throttle_events(root),
    )


def steadiness(
    seconds: Sequence[float], *, before: Moment, after: Moment, cores: int
) -> Steadiness:
    """Judge a series of times.

    Args:
        seconds: The times, in the order in which they were taken; at least one.
        before: The moment before the first; not before the warm-up, whose clocks are others.
        after: The moment after the last.
        cores: Of the whole machine, which the system's counters are about.

    Raises:
        ValueError: there is no time.
    """
    low, middle, high = percentiles(seconds, (10.0, 50.0, 90.0))
    spread = (high - low) / middle if middle > 0 else 0.0
    drift = _drift(seconds)
    remarks = []
    if spread > SPREAD_BOUND:
        remarks.append(f"the times vary: p10 to p90 spans {spread:.0%} of the median")
    if drift is not None and abs(drift) > DRIFT_BOUND:
        less_or_more = "less" if drift < 0 else "more"
        remarks.append(
            f"the times drift: the second half's median is {abs(drift):.1%} {less_or_more} than "
            "the first's"
        )
    return Steadiness(
        runs=len(seconds),
        spread=spread,
        drift=drift,
        others_share=_others_share(before, after, cores),
        stolen_share=_stolen_share(before, after, cores),
        clock_falls=_clock_falls(before, after),
        throttle_events=_events(before, after),
        remarks=(*remarks, *disturbances(before, after, cores=cores)),
    )


def disturbances(before: Moment, after: Moment, *, cores: int) -> tuple[str, ...]:
    """What disturbed this process between two moments, a sentence for each; none if nothing did.

    Args:
        cores: Of the whole machine, which the system's counters are about.
    """
    others = _others_share(before, after, cores) or 0.0
    stolen = _stolen_share(before, after, cores) or 0.0
    events = _events(before, after)
    found = []
    if others > OTHERS_BOUND:
        found.append(f"the machine was busy: others took {others:.1%} of its cores")
    if stolen > STOLEN_BOUND:
        found.append(f"the virtual machine was slowed: {stolen:.1%} of its cores was stolen")
    found += [
        f"the {name.upper()}'s clock fell by {fall:.0%}"
        for name, fall in _clock_falls(before, after).items()
        if fall > CLOCK_BOUND
    ]
    if events:
        found.append(f"heat, current or a quota slowed the machine {events} times")
    return tuple(found)


def _drift(seconds: Sequence[float]) -> float | None:
    """How much longer the second half takes; a middle one of an odd number is in neither."""
    if len(seconds) < _FEWEST:
        return None
    half = len(seconds) // 2
    first, second = median(seconds[:half]), median(seconds[-half:])
    return second / first - 1 if first > 0 else 0.0


def _others_share(before: Moment, after: Moment, cores: int) -> float | None:
    """What ran besides this process; the system counts in ticks, so it may seem less than none."""
    all_of_it = _share(before.busy_s, after.busy_s, before, after, cores)
    own = _share(before.own_s, after.own_s, before, after, cores)
    return None if all_of_it is None or own is None else max(0.0, all_of_it - own)


def _stolen_share(before: Moment, after: Moment, cores: int) -> float | None:
    return _share(before.stolen_s, after.stolen_s, before, after, cores)


def _clock_falls(before: Moment, after: Moment) -> dict[str, float]:
    """How far each clock that both moments know is below where it was, as a share."""
    return {
        name: max(0.0, 1 - after.clocks_mhz[name] / clock)
        for name, clock in before.clocks_mhz.items()
        if clock > 0 and name in after.clocks_mhz
    }


def _events(before: Moment, after: Moment) -> int | None:
    if before.throttle_events is None or after.throttle_events is None:
        return None
    return after.throttle_events - before.throttle_events


def _share(
    begin: float | None, end: float | None, before: Moment, after: Moment, cores: int
) -> float | None:
    """CPU seconds between two moments, as a share of what all cores have."""
    wall_s = after.at_s - before.at_s
    if begin is None or end is None or wall_s <= 0:
        return None
    return (end - begin) / (wall_s * cores)


def _system_times(stat: str) -> tuple[float | None, float | None]:
    """(busy, stolen) CPU seconds of the whole machine."""
    line = stat.partition("\n")[0].split()
    if len(line) < 9 or line[0] != "cpu":
        return None, None
    tick_s = 1 / os.sysconf("SC_CLK_TCK")
    user, nice, system, _idle, _waiting, interrupts, soft, stolen = map(int, line[1:9])
    return (user + nice + system + interrupts + soft) * tick_s, stolen * tick_s
