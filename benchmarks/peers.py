"""Frame to label map against what people use today, on one frame, in turns, in one run.

    python -m benchmarks.peers [--size 512x1024 ...] [--runs 5] [--only NAME ...]

Each gets the same frame and the same random weights of `fcn_resnet50`, and gives the same: a uint8
label map of the frame's size. `benchmarks/peers_cases.py` says what each is. Ratios are taken turn
by turn, so that a machine that drifts hits both sides alike; absolute times are this machine's.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.measure import RESULTS, interleave, ratios, save, summary
from benchmarks.peers_cases import MODEL, Case, open_cases, skipped
from fcn_trt.bench.ceiling import Ceiling, measure_ceiling
from fcn_trt.bench.steadiness import steadiness, this_moment
from fcn_trt.demo.scene import StreetScene
from fcn_trt.spec import Frame, Size, parse_size

__all__ = ["ASKED", "agreement", "times_as_fast", "verdicts"]

SIZES = ("256x512", "512x1024", "1024x2048")
STAGE_RUNS = 7
CEILING_SECONDS = 5.0

ASKED: dict[tuple[str, str], tuple[float, float, float]] = {
    ("fcn_trt fp32", "torch eager"): (1.2, 1.35, 1.7),
    ("fcn_trt bf16", "torch eager"): (2.5, 2.8, 3.5),
    ("fcn_trt int8", "torch eager"): (5.0, 5.7, 5.6),
    ("fcn_trt int8", "ONNX Runtime"): (4.2, 4.3, 3.5),
    ("fcn_trt fp32", "OpenVINO fp32"): (1.1, 1.1, 1.1),
}
"""Times as fast that were set as goals before anything was measured, at each of the sizes."""


def main() -> None:
    """Print a table per size and write peers.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--size", action="append", help="; ".join(SIZES))
    parser.add_argument("--runs", type=int, default=5, help="turns of each size")
    parser.add_argument("--only", action="append", help="names of those to run; all")
    parser.add_argument("--ceiling-seconds", type=float, default=CEILING_SECONDS)
    parser.add_argument("--out", type=Path, default=RESULTS / "peers.json")
    options = parser.parse_args()
    ceiling = measure_ceiling(("fp32", "bf16", "int8"), seconds=options.ceiling_seconds)
    print(f"ceilings of this machine: {json.dumps(dataclasses.asdict(ceiling))}", flush=True)
    results = []
    for name, reason in skipped().items():
        print(f"{name}: skipped, {reason}")
    for text in options.size or SIZES:
        row = _measure(text, options.runs, options.only, ceiling)
        results.append(row)
        for line in _table(row):
            print(line, flush=True)
        save(options.out, results, command="python -m benchmarks.peers")


def _measure(text: str, runs: int, only: list[str] | None, ceiling: Ceiling) -> dict[str, Any]:
    """Everything of one size."""
    size = parse_size(text)
    frame, _ = StreetScene(7).render(0, size)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        cases = open_cases(size, Path(folder), stack, only)
        label_maps = {case.name: case.segment(frame) for case in cases}
        calls = {case.name: partial(case.segment, frame) for case in cases}
        before = this_moment()
        seconds = interleave(calls, runs=runs)
        after = this_moment()
        stages = {case.name: _stages(case, frame) for case in cases if case.segmenter}
    cores = os.cpu_count() or 1
    found = {
        name: steadiness(times, before=before, after=after, cores=cores)
        for name, times in seconds.items()
    }
    row: dict[str, Any] = {
        "model": MODEL,
        "size": text,
        "gmac": cases[0].gmac,
        "ceiling": dataclasses.asdict(ceiling),
        "cases": {
            case.name: summary(seconds[case.name])
            | {"what": case.what, "remarks": list(found[case.name].remarks)}
            | _own(case, stages.get(case.name), ceiling)
            for case in cases
        },
        "labels_as_torch": agreement(label_maps),
        "times_as_fast": times_as_fast(seconds),
        "asked": verdicts(seconds, size),
        "skipped": skipped(),
    }
    return row


def _stages(case: Case, frame: Frame) -> dict[str, float]:
    """Median milliseconds of each stage."""
    if case.segmenter is None:
        raise ValueError(f"{case.name} has no stages")
    runs = [case.segmenter.time_stages(frame) for _ in range(STAGE_RUNS + 2)][2:]
    return {stage: median(run[stage] for run in runs) * 1000 for stage in runs[0]}


def _own(case: Case, stages: dict[str, float] | None, ceiling: Ceiling) -> dict[str, Any]:
    """What is known of our own: its stages, and how near to the ceiling its network is."""
    if stages is None or case.precision is None:
        return {}
    rate = case.gmac / (stages["network"] / 1000)
    most = ceiling.gmac_per_s.get(case.precision)
    way = {name: value for name, value in stages.items() if name != "overlay"}
    return {
        "stages_ms": stages,
        "gmac_per_s": rate,
        "share_of_ceiling": rate / most if most else None,
        "share_not_network": 1 - stages["network"] / sum(way.values()),
    }


def agreement(label_maps: Mapping[str, Any]) -> dict[str, float]:
    """Share of the pixels that each labels as torch does."""
    reference = label_maps.get("torch eager")
    if reference is None:
        return {}
    for name, label_map in label_maps.items():
        if label_map.shape != reference.shape or label_map.dtype != np.uint8:
            raise ValueError(f"{name} gives {label_map.shape} {label_map.dtype}")
    return {name: float(np.mean(found == reference)) for name, found in label_maps.items()}


def times_as_fast(seconds: Mapping[str, list[float]]) -> dict[str, dict[str, dict[str, float]]]:
    """How many times as fast each of ours is as each of the others."""
    return {
        name: {
            other: ratios(seconds[other], times)
            for other in seconds
            if not other.startswith("fcn_trt")
        }
        for name, times in seconds.items()
        if name.startswith("fcn_trt")
    }


def verdicts(seconds: Mapping[str, list[float]], size: Size) -> list[dict[str, Any]]:
    """The goals of this size, and whether the median met them."""
    sizes = [parse_size(text) for text in SIZES]
    if size not in sizes:
        return []
    verdicts = []
    for (name, other), goals in ASKED.items():
        if name in seconds and other in seconds:
            found = ratios(seconds[other], seconds[name])["median"]
            asked = goals[sizes.index(size)]
            verdicts.append(
                {"of": name, "to": other, "asked": asked, "found": found, "met": found >= asked}
            )
    return verdicts


def _table(row: Mapping[str, Any]) -> list[str]:
    """A size for people: how many times as fast ours are as each of the others."""
    fast = row["times_as_fast"]
    others = list(next(iter(fast.values()), {}))
    head = "".join(f"{f'x {name}':>17}" for name in others)
    lines = [
        f"{MODEL} at {row['size']}, {row['gmac']:.1f} GMAC, frame to label map",
        f"  {'':16} {'ms':>8} {'p10-p90':>13}{head}{'not network':>13}{'of ceiling':>12}",
    ]
    for name, case in row["cases"].items():
        span = f"{case['p10_ms']:.0f}-{case['p90_ms']:.0f}"
        line = f"  {name:16} {case['median_ms']:8.1f} {span:>13}"
        if name in fast:
            line += "".join(f"{fast[name][other]['median']:17.2f}" for other in others)
            line += f"{case['share_not_network']:13.1%}"
            share = case["share_of_ceiling"]
            line += "" if share is None else f"{share:12.0%}"
        lines.append(line)
    for goal in row["asked"]:
        met = "met" if goal["met"] else "NOT MET"
        pair = f"{goal['of']} against {goal['to']}"
        lines.append(f"  {pair}: {goal['found']:.2f}, asked {goal['asked']}: {met}")
    remarks = dict.fromkeys(r for case in row["cases"].values() for r in case["remarks"])
    lines += [f"  remark: {remark}" for remark in remarks]
    return lines


if __name__ == "__main__":
    main()
