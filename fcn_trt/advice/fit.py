"""How much of a device's peaks each stack reaches, fitted on what is published.

Few numbers explain all rows: a share of the compute peak for each stack and unit, a share of the
bandwidth and a launch time for each stack. They are fitted by least squares of the logarithm of
time, so that a row of 2 ms counts as much as one of 2 s, and each is drawn a little towards the
mean of its kind, so that a stack with few rows borrows from the others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from fcn_trt.advice.devices import Unit
from fcn_trt.advice.published import Stack
from fcn_trt.advice.roofline import Efficiencies, Run

__all__ = ["fit", "leave_out", "seconds"]

Vector: TypeAlias = npt.NDArray[np.float64]

STACKS: tuple[Stack, ...] = get_args(Stack)
UNITS: tuple[Unit, ...] = get_args(Unit)
COMPUTE = tuple((stack, unit) for stack in STACKS for unit in UNITS)

ROW_DEVIATION = 0.15
"""Of the logarithm of a row's time around its estimate, as the fit weighs it."""

PRIORS = ((0.7, 0.5, 0.4, len(COMPUTE)), (0.6, 0.5, 0.4, len(STACKS)), (8.0, 1.0, 0.7, len(STACKS)))
"""Of compute share, bandwidth share and launch in us: a guess, its deviation as a logarithm, the
deviation of each stack from the mean, and how many there are. Wide: ten rows outweigh them."""

STEPS, STEPS_FROM_NEAR = 12, 5
"""Newton steps from the guess, and from the fit of almost the same rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rows:
    """All runs side by side; seconds are those at the peaks.

    Attributes:
        compute_s: (rows, layers); zero behind a row's last layer.
        memory_s: (rows, layers).
        after_s: (rows,) traffic behind the network.
        launches: (rows,) layers that are launched.
        compute: (rows,) index into COMPUTE.
        stack: (rows,) index into STACKS.
    """

    compute_s: Vector
    memory_s: Vector
    after_s: Vector
    launches: Vector
    compute: npt.NDArray[np.intp]
    stack: npt.NDArray[np.intp]


def fit(runs: Sequence[Run], measured_s: Sequence[float]) -> Efficiencies:
    """What explains the measured times best.

    Args:
        measured_s: How long one image took, in seconds.
    """
    solution = _solve(_rows(runs), np.log(measured_s))
    compute, bandwidth, launch_us = (share.tolist() for share in _shares(solution))
    return Efficiencies(
        compute=dict(zip(COMPUTE, compute, strict=True)),
        bandwidth=dict(zip(STACKS, bandwidth, strict=True)),
        launch_us=dict(zip(STACKS, launch_us, strict=True)),
    )


def seconds(runs: Sequence[Run], efficiencies: Efficiencies) -> Vector:
    """Estimated time of one image of each run, in seconds: (runs,)."""
    compute = [efficiencies.compute[pair] for pair in COMPUTE]
    bandwidth = [efficiencies.bandwidth[stack] for stack in STACKS]
    launch_us = [efficiencies.launch_us[stack] for stack in STACKS]
    return _seconds(_rows(runs), [np.asarray(share) for share in (compute, bandwidth, launch_us)])


def leave_out(
    runs: Sequence[Run], measured_s: Sequence[float], *, keys: Sequence[object]
) -> Vector:
    """Estimated time of each run by a fit that has seen none of the runs that share its key.

    Args:
        measured_s: How long one image took, in seconds.
        keys: One per run.

    Returns:
        (runs,) seconds.
    """
    rows, target = _rows(runs), np.log(measured_s)
    whole = _solve(rows, target)
    found = np.empty(len(runs))
    for key in dict.fromkeys(keys):
        kept = np.array([other != key for other in keys], dtype=float)
        without = _solve(rows, target, kept=kept, start=whole, steps=STEPS_FROM_NEAR)
        found = np.where(kept > 0, found, _seconds(rows, _shares(without)))
    return found


def _rows(runs: Sequence[Run]) -> _Rows:
    depth = max(len(run.work) for run in runs)
    compute_s, memory_s = np.zeros((len(runs), depth)), np.zeros((len(runs), depth))
    for row, run in enumerate(runs):
        for column, entry in enumerate(run.work):
            compute_s[row, column] = run.windows * entry.operations / run.peak
            memory_s[row, column] = run.windows * entry.traffic_bytes / run.bandwidth
    return _Rows(
        compute_s=compute_s,
        memory_s=memory_s,
        after_s=np.array([run.after_bytes / run.bandwidth for run in runs]),
        launches=np.array([float(run.windows * len(run.work)) for run in runs]),
        compute=np.array([COMPUTE.index((run.stack, run.unit)) for run in runs]),
        stack=np.array([STACKS.index(run.stack) for run in runs]),
    )


def _seconds(rows: _Rows, shares: Sequence[Vector]) -> Vector:
    """With compute shares, bandwidth shares and launches in us."""
    compute, bandwidth, launch_us = shares
    arithmetic = rows.compute_s / compute[rows.compute][:, None]
    traffic = rows.memory_s / bandwidth[rows.stack][:, None]
    network: Vector = np.maximum(arithmetic, traffic).sum(axis=1)
    after = rows.after_s / bandwidth[rows.stack]
    return network + after + rows.launches * launch_us[rows.stack] / 1e6


def _guess() -> tuple[Vector, Vector]:
    """The parameters before any row is seen, and their deviations.

    Each kind has the logarithm of its mean first, then how far each stack is from it.
    """
    values, deviations = [], []
    for guess, spread, apart, count in PRIORS:
        values += [math.log(guess), *[0.0] * count]
        deviations += [spread, *[apart] * count]
    return np.array(values), np.array(deviations)


def _shares(parameters: Vector) -> list[Vector]:
    """Compute shares, bandwidth shares and launches in us, from their logarithms."""
    found, start = [], 0
    for *_, count in PRIORS:
        mean, apart = parameters[start], parameters[start + 1 : start + 1 + count]
        found.append(np.exp(mean + apart))
        start += 1 + count
    return found


def _solve(
    rows: _Rows,
    target: Vector,
    *,
    kept: Vector | float = 1.0,
    start: Vector | None = None,
    steps: int = STEPS,
) -> Vector:
    """Gauss-Newton on the residuals of the rows that are kept, and of the parameters."""
    guess, deviations = _guess()

    def residuals(parameters: Vector) -> Vector:
        errors = kept * (np.log(_seconds(rows, _shares(parameters))) - target) / ROW_DEVIATION
        return np.concatenate([errors, (parameters - guess) / deviations])

    parameters, nudge = guess if start is None else start, 1e-6
    for _ in range(steps):
        here = residuals(parameters)
        slopes = np.stack(
            [
                (residuals(parameters + nudge * axis) - here) / nudge
                for axis in np.eye(len(parameters))
            ],
            axis=1,
        )
        parameters = parameters - np.linalg.lstsq(slopes, here, rcond=None)[0]
    return parameters
