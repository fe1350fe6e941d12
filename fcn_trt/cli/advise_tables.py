"""How estimates look to people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, get_args

from fcn_trt.advice.estimate import rate_text
from fcn_trt.cli.terminal import table
from fcn_trt.spec import Precision, format_size

if TYPE_CHECKING:
    from rich.table import Table

    from fcn_trt.advice.calibrated import Comparison, RowEstimate
    from fcn_trt.advice.candidates import Advice, Candidate
    from fcn_trt.advice.devices import Device
    from fcn_trt.advice.estimate import Estimate
    from fcn_trt.advice.published import Measurement

__all__ = [
    "advice_table",
    "devices_table",
    "layers_table",
    "profile_comparison_table",
    "published_table",
]

PRECISIONS: tuple[Precision, ...] = get_args(Precision)
"""Columns of the table of devices."""


def advice_table(advice: Advice, candidates: Sequence[Candidate]) -> Table:
    """Candidates, best first; mIoUs where one of them has one that is published for its size."""
    has_miou = any(c.miou is not None for c in candidates)
    is_own = not advice.published
    rows = [
        [
            *([] if is_own else [c.estimate.model]),
            format_size(c.estimate.size),
            c.estimate.precision,
            rate_text(c.estimate.rate_fps),
            f"{rate_text(c.estimate.low_fps)}-{rate_text(c.estimate.high_fps)}",
            *(["-" if c.miou is None else f"{c.miou:.2f}"] if has_miou else []),
            c.verdict,
        ]
        for c in candidates
    ]
    name = f"{candidates[0].estimate.model} on " if is_own else ""
    title = f"{name}{advice.device.title}: estimates for {advice.rate_fps:g} frames/s"
    columns = [
        *([] if is_own else ["model"]),
        *("size", "type", "fps", "range"),
        *(["mIoU"] if has_miou else []),
        "verdict",
    ]
    return table(title, columns, rows)


def devices_table(devices: Sequence[Device]) -> Table:
    """What devices can do at most; what is unsure has a question mark."""
    rows = [
        [
            device.name,
            device.title,
            device.compute_capability,
            f"{device.memory_gb:g}",
            f"{device.bandwidth_gb_s:g}{_mark(device, 'bandwidth')}",
            *(
                f"{device.tops[p]:g}{_mark(device, p)}" if p in device.tops else "-"
                for p in PRECISIONS
            ),
            "yes" if device.supported else "no",
        ]
        for device in devices
    ]
    columns = ["device", "sold as", "capability", "GB", "GB/s", *PRECISIONS, "supported"]
    title = "Devices: dense peaks in 1e12 operations/s, without DLA; ? is derived or unsure"
    return table(title, columns, rows)


def profile_comparison_table(comparison: Comparison) -> Table:
    """pytorch-auto-drive's own profile table, beside ours."""
    rows = []
    for row in comparison.rows:
        m = row.measurement
        if m.published_gflops is None or m.published_parameters_m is None:
            continue
        rows.append(
            [
                f"ResNet-101 {format_size(m.size)}",
                f"{1 / m.seconds:.2f}",
                f"{1 / row.estimated_s:.2f}",
                f"{row.ratio:.2f}",
                f"{m.published_gflops:.2f}",
                f"{2 * row.gmac:.2f}",
                f"{m.published_parameters_m:.2f}",
                f"{row.parameters / 1e6:.2f}",
            ]
        )
    columns = ["pytorch-auto-drive FCN", "FPS", "estimated", "ratio", "GFLOPs", "ours"]
    return table(
        "Published profile (RTX 2080 Ti), and ours: estimated without the row, the rest counted",
        [*columns, "M parameters", "ours"],
        rows,
    )


def published_table(rows: Sequence[RowEstimate]) -> Table:
    """Every published row beside what fits that have not seen it estimate."""
    return table(
        "Published, and estimated by fits without the row or its device; ratio of the rates",
        [
            *("measurement", "device", "precision", "published", "estimated", "ratio"),
            *("without device", "ratio"),
        ],
        [
            [
                row.measurement.name,
                row.measurement.device,
                row.measurement.precision,
                _as_published(row.measurement, row.measurement.seconds),
                _as_published(row.measurement, row.estimated_s),
                f"{row.ratio:.2f}",
                _as_published(row.measurement, row.without_device_s),
                f"{row.ratio_without_device:.2f}",
            ]
            for row in rows
        ],
    )


def layers_table(found: Estimate) -> Table:
    """What each layer costs, and what bounds it."""
    rows = [
        [
            entry.work.layer.name,
            entry.work.layer.kind,
            format_size(entry.work.layer.output_size),
            str(entry.work.layer.outputs),
            f"{entry.work.operations / 2e9:.3f}",
            f"{entry.work.traffic_bytes / 1e6:.2f}",
            f"{entry.total_ms:.3f}",
            entry.bound_by,
        ]
        for entry in found.layers
    ]
    gmac = sum(entry.work.operations for entry in found.layers) / 2e9
    moved = sum(entry.work.traffic_bytes for entry in found.layers) / 1e6
    rows.append(["all", "", "", "", f"{gmac:.3f}", f"{moved:.2f}", f"{found.latency_ms:.3f}", ""])
    return table(
        f"{found.device.title}: {found.describe()}",
        ["layer", "kind", "output", "channels", "GMAC", "MB moved", "estimated ms", "bound by"],
        rows,
    )


def _as_published(measurement: Measurement, seconds: float) -> str:
    if measurement.published_fps is None:
        return f"{1e3 * seconds:.2f} ms"
    return f"{1 / seconds:.2f} fps"


def _mark(device: Device, figure: str) -> str:
    return "?" if figure in device.unsure else ""
