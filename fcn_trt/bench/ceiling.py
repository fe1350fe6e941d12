"""What this machine can do at most, measured: products of matrices, and copies of memory.

A network's rate as a share of these says how much is left to gain. They are the best of many short
runs of several shapes, because what disturbs a run only ever makes it slower. A ceiling is measured
before and after the networks, and holds for them where both times tell the same.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict

from fcn_trt.bench.environment import usable_cores
from fcn_trt.bench.series import Clock
from fcn_trt.bench.steadiness import CEILING_BOUND, disturbances, this_moment
from fcn_trt.errors import EngineError
from fcn_trt.spec import Precision

__all__ = ["COPIES", "Ceiling", "best_rate", "copy_gb_per_s", "measure_ceiling"]

COPIES = "copies"
"""What copies of memory are called beside the precisions."""

SECONDS = 2.0
"""How long each type, and copying, is measured."""

LEAST_ROUNDS = 3

SLICE_S = 0.02
"""Of one kind of work, before the next one has its turn."""

_COPY_BYTES = 256 << 20
"""Much more than caches hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceiling:
    """The most that this machine was seen to do.

    Attributes:
        gmac_per_s: 1e9 multiply-accumulates a second of a matrix product, by precision.
        copy_gb_per_s: 1e9 bytes a second of a copy, those read and those written; None where it was
            not measured.
        left_out: Why a precision, "copies" or all of a "gpu" was not measured.
        remarks: What disturbed the measurement, so that the machine may do more; a sentence each.
        apart: By precision or "copies", how far the worse of two measurements is below the better,
            as a share of that; nothing of what was measured once.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)

    gmac_per_s: dict[str, float]
    copy_gb_per_s: float | None
    left_out: dict[str, str]
    remarks: tuple[str, ...] = ()
    apart: dict[str, float] = field(default_factory=dict)

    def holds(self, kind: str) -> bool:
        """Whether a rate is what the machine did at most all along.

        Args:
            kind: A precision, or "copies".
        """
        return not self.remarks and self.apart.get(kind, 0.0) <= CEILING_BOUND

    def doubts(self) -> tuple[str, ...]:
        """Why its rates may not hold, a sentence each; none where they do."""
        return (
            *self.remarks,
            *(
                f"{kind}: one measurement was {share:.0%} below the other, of which the better is "
                "told"
                for kind, share in self.apart.items()
                if share > CEILING_BOUND
            ),
        )

    def best_with(self, other: Ceiling) -> Ceiling:
        """The better of this and another measurement of the same machine, rate by rate.

        What disturbed one of them is no matter where the other was quiet and tells the same.
        """
        mine, others = self._rates(), other._rates()
        best = {kind: max(mine.get(kind, 0.0), others.get(kind, 0.0)) for kind in mine | others}
        copies = best.pop(COPIES, None)
        is_one_quiet = not (self.remarks and other.remarks)
        return Ceiling(
            gmac_per_s=best,
            copy_gb_per_s=copies,
            left_out={
                kind: reason
                for kind, reason in (self.left_out | other.left_out).items()
                if kind not in mine | others
            },
            remarks=() if is_one_quiet else tuple(dict.fromkeys(self.remarks + other.remarks)),
            apart={
                kind: abs(rate - others[kind]) / max(rate, others[kind])
                for kind, rate in mine.items()
                if kind in others
            },
        )

    def _rates(self) -> dict[str, float]:
        copies = {} if self.copy_gb_per_s is None else {COPIES: self.copy_gb_per_s}
        return self.gmac_per_s | copies

    def least_seconds(self, gmac: Mapping[str, float]) -> float | None:
        """How long a network's multiply-accumulates take at these rates.

        Args:
            gmac: 1e9 multiply-accumulates by the precision that they are computed in.

        Returns:
            Seconds; None where a precision was not measured.
        """
        if not gmac or any(kind not in self.gmac_per_s for kind in gmac):
            return None
        return sum(amount / self.gmac_per_s[kind] for kind, amount in gmac.items())


def measure_ceiling(precisions: Iterable[Precision], *, seconds: float = SECONDS) -> Ceiling:
    """Measure what the CPU can do.

    Args:
        precisions: Types to multiply in; one that this CPU does not compute is left out.
        seconds: How long each is measured, and copying.
    """
    from fcn_trt.engine.openvino.matrix_product import SHAPES, matrix_product

    rates: dict[str, float] = {}
    left_out: dict[str, str] = {}
    before = this_moment()
    for precision in dict.fromkeys(precisions):
        try:
            products = [matrix_product(shape, precision) for shape in SHAPES]
        except EngineError as error:
            left_out[precision] = str(error)
            continue
        work = [(product.compute, product.shape.gmac) for product in products]
        rates[precision] = best_rate(work, seconds=seconds)
    return Ceiling(
        gmac_per_s=rates,
        copy_gb_per_s=copy_gb_per_s(seconds=seconds),
        left_out=left_out,
        remarks=disturbances(before, this_moment(), cores=os.cpu_count() or 1),
    )


def best_rate(
    work: Sequence[tuple[Callable[[], object], float]],
    *,
    seconds: float,
    clock: Clock = time.perf_counter,
) -> float:
    """The highest rate of some kinds of work, in turns.

    Args:
        work: Each with how much of it there is.
        seconds: How long; every kind is done at least `LEAST_ROUNDS` times, besides a first time
            that does not count.

    Returns:
        Amount a second, of the kind and run with the most.
    """
    for call, _ in work:
        call()
    best = 0.0
    begin, rounds = clock(), 0
    while rounds < LEAST_ROUNDS or clock() - begin < seconds:
        best = max(best, *(_best_of_slice(call, amount, clock) for call, amount in work))
        rounds += 1
    return best


def copy_gb_per_s(
    *,
    seconds: float = SECONDS,
    cores: int | None = None,
    size_bytes: int = _COPY_BYTES,
    clock: Clock = time.perf_counter,
) -> float:
    """1e9 bytes a second, those read and those written, of copies that all cores make.

    Args:
        cores: Threads that copy; None is as many as the process has cores.
        size_bytes: Of what is copied; more than caches hold.
    """
    threads = cores or usable_cores()
    part = max(1, size_bytes // threads // 8)
    # Written once here, so that the copies find their pages.
    pairs = [(np.ones(part), np.zeros(part)) for _ in range(threads)]
    with ThreadPoolExecutor(threads) as pool:

        def copy() -> None:
            list(pool.map(_copy, pairs))

        return best_rate([(copy, 2 * 8 * part * threads / 1e9)], seconds=seconds, clock=clock)


def _best_of_slice(call: Callable[[], object], amount: float, clock: Clock) -> float:
    """The highest rate within a slice of time, so that slow kinds leave others as much of it."""
    best, begin, now = 0.0, clock(), 0.0
    while not best or now - begin < SLICE_S:
        started = clock()
        call()
        now = clock()
        best = max(best, amount / max(now - started, 1e-9))
    return best


def _copy(pair: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]) -> None:
    source, target = pair
    np.copyto(target, source)  # without the interpreter's lock
