"""The fit on every published row, and how wrong it is on rows that it has not seen."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from statistics import median
from typing import Any

from fcn_trt.advice.devices import device
from fcn_trt.advice.fit import fit, leave_out
from fcn_trt.advice.published import Measurement, measurements
from fcn_trt.advice.roofline import Efficiencies, Run, work
from fcn_trt.model.layers import layers

__all__ = ["Comparison", "RowEstimate", "compare_published", "fitted", "run_of"]

LOGIT_BYTES = 4
"""Full-size logits are FP32 in every stack."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowEstimate:
    """A published row beside its estimates.

    Attributes:
        measurement: The row.
        gmac: Multiply-accumulates of one image, in 1e9, as counted here.
        parameters: Of the network without its auxiliary head, as counted here.
        estimated_s: By a fit without the row and its repetitions, for one image.
        without_device_s: By a fit without any row of its device.
    """

    measurement: Measurement
    gmac: float
    parameters: int
    estimated_s: float
    without_device_s: float

    @property
    def ratio(self) -> float:
        """Estimated rate over published rate."""
        return self.measurement.seconds / self.estimated_s

    @property
    def ratio_without_device(self) -> float:
        """The same, where the device is new to the fit."""
        return self.measurement.seconds / self.without_device_s

    def to_dict(self) -> dict[str, Any]:
        """The row as JSON has it."""
        row = self.measurement
        return {
            "name": row.name,
            "source": row.source,
            "device": row.device,
            "stack": row.stack,
            "precision": row.precision,
            "size": row.size,
            "windows": row.windows,
            "assumed": row.assumed,
            "is_anchor": row.is_anchor,
            "published_fps": 1 / row.seconds,
            "estimated_fps": 1 / self.estimated_s,
            "ratio": self.ratio,
            "without_device_fps": 1 / self.without_device_s,
            "ratio_without_device": self.ratio_without_device,
            "gflops": 2 * self.gmac,
            "published_gflops": row.published_gflops,
            "parameters": self.parameters,
            "published_parameters_m": row.published_parameters_m,
        }

    @property
    def error(self) -> float:
        """Relative error of the estimated rate, without its sign."""
        return abs(self.ratio - 1)

    @property
    def error_without_device(self) -> float:
        """The same, where the device is new to the fit."""
        return abs(self.ratio_without_device - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """All published rows beside their estimates.

    Attributes:
        rows: In the order of published.json.
    """

    rows: tuple[RowEstimate, ...]

    @property
    def anchors(self) -> tuple[RowEstimate, ...]:
        """The rows of 2080 Ti, T4 and V100 that the estimates promise to meet."""
        return tuple(row for row in self.rows if row.measurement.is_anchor)

    @property
    def tensorrt(self) -> tuple[RowEstimate, ...]:
        """The rows of the stack that this package runs networks with."""
        return tuple(row for row in self.rows if row.measurement.stack == "tensorrt")

    def summary(self) -> dict[str, dict[str, float]]:
        """Median and worst error of groups of rows, in both ways of leaving out."""
        return {
            name: {
                "rows": len(rows),
                "median": median(row.error for row in rows),
                "worst": max(row.error for row in rows),
                "median_without_device": median(row.error_without_device for row in rows),
                "worst_without_device": max(row.error_without_device for row in rows),
            }
            for name, rows in (
                ("anchors", self.anchors),
                ("all", self.rows),
                ("tensorrt", self.tensorrt),
            )
        }

    def sources(self) -> list[str]:
        """Who published the rows, and what they time."""
        found = dict.fromkeys(row.measurement.source for row in self.rows)
        return [f"{source.name}: {source.times} ({source.url})" for source in found]

    def describe(self) -> str:
        """How far off the estimates are, in one sentence without its full stop."""
        anchors, every, tensorrt = (
            {key: f"{100 * value:.1f} %" for key, value in group.items()}
            for group in self.summary().values()
        )
        return (
            f"median error of the estimated rate {anchors['median']} on the {len(self.anchors)} "
            f"rows of RTX 2080 Ti, T4 and V100 (worst {anchors['worst']}), {every['median']} on "
            f"all {len(self.rows)} (worst {every['worst']}) and {tensorrt['median']} on the "
            f"{len(self.tensorrt)} of TensorRT alone (worst {tensorrt['worst']}), each row left "
            f"out of its own fit; with its whole device left out {every['median_without_device']} "
            f"on all (worst {every['worst_without_device']}) and "
            f"{tensorrt['median_without_device']} on those of TensorRT (worst "
            f"{tensorrt['worst_without_device']})"
        )


def run_of(measurement: Measurement) -> Run:
    """What was run for a published row."""
    height, width = measurement.size
    logits = LOGIT_BYTES * measurement.classes * height * width
    counted = layers(measurement.arch, size=measurement.size, num_classes=measurement.classes)
    return Run(
        device=device(measurement.device),
        stack=measurement.stack,
        precision=measurement.precision,
        work=work(counted, stack=measurement.stack, precision=measurement.precision),
        windows=measurement.windows,
        after_bytes=float(measurement.windows * measurement.full_size_passes * logits),
    )


@cache
def fitted() -> Efficiencies:
    """What explains all published rows best."""
    rows = measurements()
    return fit([run_of(row) for row in rows], [row.seconds for row in rows])


@cache
def compare_published() -> Comparison:
    """Estimate each published row by fits that have not seen it."""
    rows = measurements()
    runs, measured = [run_of(row) for row in rows], [row.seconds for row in rows]
    without_row = leave_out(runs, measured, keys=[row.configuration for row in rows])
    without_device = leave_out(runs, measured, keys=[row.device for row in rows])
    return Comparison(
        rows=tuple(
            RowEstimate(
                measurement=row,
                gmac=run.windows * sum(entry.layer.macs for entry in run.work) / 1e9,
                parameters=sum(entry.layer.parameters for entry in run.work),
                estimated_s=float(estimated),
                without_device_s=float(new),
            )
            for row, run, estimated, new in zip(
                rows, runs, without_row, without_device, strict=True
            )
        )
    )
