"""Frame to label map against what people use today, on one frame, in turns, in one run.

    python -m benchmarks.peers [--size 512x1024 ...] [--runs 3] [--only NAME ...]

Each gets the same frame and the same random weights of `fcn_resnet50`, and gives the same: a uint8
label map of the frame's size. `benchmarks/peers_cases.py` says what each is. Ratios are taken turn
by turn, so that a machine that drifts hits both sides alike; absolute times are this machine's.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.measure import RESULTS, command_line, interleave, ratios, save, summary
from benchmarks.peers_cases import EAGER, MODEL, NAMES, Case, is_on_gpu, open_cases, skipped
from fcn_trt.bench.ceiling import Ceiling, measure_ceiling
from fcn_trt.bench.measurement import beyond_network_share
from fcn_trt.bench.steadiness import steadiness, this_moment
from fcn_trt.scene.scene import StreetScene
from fcn_trt.spec import LADDER, Frame, LabelMap, Size, parse_size

__all__ = ["ASKED", "agreement", "times_as_fast", "verdicts"]

SIZES = LADDER
CEILING_SECONDS = 4.0

SECONDS = 90.0
"""How long the turns of a size take at least."""

REST_S = 0.3
"""Threads of other libraries still spin for a while after a call, and would slow the next one."""

LEAST_AGREEMENT = 0.999
"""Share of pixels that FP32 labels as torch does; sums in another order break ties."""

ASKED: dict[tuple[str, str], tuple[float, float, float]] = {
    ("fcn_trt fp32", EAGER): (1.2, 1.35, 1.7),
    ("fcn_trt bf16", EAGER): (2.5, 2.8, 3.5),
    ("fcn_trt int8", EAGER): (5.0, 5.7, 5.6),
    ("fcn_trt int8", "ONNX Runtime"): (4.2, 4.3, 3.5),
    ("fcn_trt fp32", "OpenVINO fp32"): (1.1, 1.1, 1.1),
}
"""Times as fast that were set as goals for 2 cores before anything was measured, by size."""


def main() -> None:
    """Print a table per size and write peers.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--size", action="append", type=parse_size, help="by default three")
    parser.add_argument("--runs", type=int, choices=range(1, 1000), metavar="N", default=3)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each size, at least")
    parser.add_argument("--only", action="append", choices=NAMES, help="repeatable")
    parser.add_argument("--ceiling-seconds", type=float, default=CEILING_SECONDS)
    parser.add_argument("--out", type=Path, default=RESULTS / "peers.json")
    options = parser.parse_args()
    for name, reason in skipped().items():
        print(f"{name}: skipped, {reason}")
    results = []
    for size in options.size or SIZES:
        ceiling = None
        if not is_on_gpu():
            ceiling = measure_ceiling(("fp32", "bf16", "int8"), seconds=options.ceiling_seconds)
        results.append(_measure(size, options, ceiling))
        for line in _table(results[-1]):
            print(line, flush=True)
        save(options.out, results, command=command_line("benchmarks.peers", sys.argv[1:]))


def _measure(size: Size, options: argparse.Namespace, ceiling: Ceiling | None) -> dict[str, Any]:
    """Everything of one size."""
    frame, _ = StreetScene(7).render(0, size)
    stages: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        cases = open_cases(size, Path(folder), stack, options.only)
        same = agreement({case.name: case.segment(frame) for case in cases})
        calls: dict[str, Callable[[], Any]] = {c.name: partial(c.segment, frame) for c in cases}
        for case in cases:
            if case.segmenter is not None:
                stages[case.name] = {}
                calls[f"stages of {case.name}"] = partial(_stages, case, frame, stages[case.name])
        before = this_moment()
        seconds = interleave(calls, runs=options.runs, seconds=options.seconds, rest_s=REST_S)
        after = this_moment()
        gmac = cases[0].gmac
    seconds = {case.name: seconds[case.name] for case in cases}
    cores = os.cpu_count() or 1
    found = {
        name: steadiness(times, before=before, after=after, cores=cores)
        for name, times in seconds.items()
    }
    return {
        "model": MODEL,
        "size": size,
        "gmac": gmac,
        "ceiling": ceiling and dataclasses.asdict(ceiling),
        "cases": {
            case.name: summary(seconds[case.name])
            | {"seconds": seconds[case.name]}
            | {"what": case.what, "labels_as_torch": same.get(case.name)}
            | _own(case, stages.get(case.name), ceiling)
            | {"remarks": list(found[case.name].remarks)}
            for case in cases
        },
        "turns": len(next(iter(seconds.values()))),
        "times_as_fast": times_as_fast(seconds),
        "asked": [] if is_on_gpu() else verdicts(seconds, size),
        "skipped": skipped(),
    }


def _stages(case: Case, frame: Frame, into: dict[str, list[float]]) -> None:
    """One more time of each stage."""
    if case.segmenter is not None:
        for stage, taken in case.segmenter.time_stages(frame).items():
            into.setdefault(stage, []).append(taken)


def _own(
    case: Case, stages: Mapping[str, list[float]] | None, ceiling: Ceiling | None
) -> dict[str, Any]:
    """What is known of ours: its stages, and how near to the ceiling its network is."""
    if not stages or case.precision is None:
        return {}
    rate = case.gmac / median(stages["network"])
    most = ceiling.gmac_per_s.get(case.precision) if ceiling else None
    return {
        "stages_ms": {name: median(times) * 1000 for name, times in stages.items()},
        "gmac_per_s": rate,
        "share_of_ceiling": rate / most if most else None,
        "share_not_network": beyond_network_share(stages),
    }


def agreement(label_maps: Mapping[str, LabelMap]) -> dict[str, float]:
    """Share of the pixels that each labels as torch does; nothing where torch did not run.

    Raises:
        ValueError: one that computes in FP32 gives other label maps, so that it is no peer.
    """
    reference = label_maps.get(EAGER)
    if reference is None:
        return {}
    found = {}
    for name, label_map in label_maps.items():
        if label_map.shape != reference.shape or label_map.dtype != np.uint8:
            raise ValueError(f"{name} gives {label_map.shape} {label_map.dtype}")
        found[name] = float(np.mean(label_map == reference))
        if found[name] < LEAST_AGREEMENT and not any(
            kind in name for kind in ("bf16", "fp16", "int8", "as is")
        ):
            raise ValueError(f"{name} labels {found[name]:.2%} of the pixels as {EAGER} does")
    return found


def times_as_fast(
    seconds: Mapping[str, list[float]],
) -> dict[str, dict[str, dict[str, float]]]:
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
    """The goals of this size, and whether the median met them; None where one did not run."""
    if size not in SIZES:
        return []
    rows = []
    for (name, other), goals in ASKED.items():
        did_run = name in seconds and other in seconds
        found = ratios(seconds[other], seconds[name])["median"] if did_run else None
        asked = goals[SIZES.index(size)]
        met = None if found is None else found >= asked
        rows.append({"of": name, "to": other, "asked": asked, "found": found, "met": met})
    return rows


def _table(row: Mapping[str, Any]) -> list[str]:
    """A size for people: how many times as fast ours are as each of the others."""
    fast, size = row["times_as_fast"], "x".join(map(str, row["size"]))
    others = list(next(iter(fast.values()), {}))
    head = "".join(f"{f'x {name}':>19}" for name in others)
    lines = [
        f"{MODEL} at {size}, {row['gmac']:.1f} GMAC, frame to label map",
        f"  {'':16} {'ms':>8} {'p10-p90':>13}{'as torch':>10}{head}"
        f"{'not network':>13}{'of ceiling':>12}",
    ]
    for name, case in row["cases"].items():
        span = f"{case['p10_ms']:.0f}-{case['p90_ms']:.0f}"
        same = case["labels_as_torch"]
        line = f"  {name:16} {case['median_ms']:8.1f} {span:>13}"
        line += " " * 10 if same is None else f"{same:10.2%}"
        if name in fast:
            line += "".join(f"{fast[name][other]['median']:19.2f}" for other in others)
            line += f"{case['share_not_network']:13.1%}"
            share = case["share_of_ceiling"]
            line += "" if share is None else f"{share:12.0%}"
        lines.append(line)
    for goal in row["asked"]:
        met = {True: "met", False: "NOT MET", None: "not measured"}[goal["met"]]
        value = "" if goal["found"] is None else f" {goal['found']:.2f},"
        lines.append(f"  {goal['of']} against {goal['to']}:{value} asked {goal['asked']}: {met}")
    if row["ceiling"] is not None:
        rates = row["ceiling"]["gmac_per_s"].items()
        words = ", ".join(f"{rate:.0f} GMAC/s in {kind}" for kind, rate in rates)
        lines.append(f"  ceilings: {words}")
    remarks = dict.fromkeys(r for case in row["cases"].values() for r in case["remarks"])
    lines += [f"  remark: {remark}" for remark in remarks]
    return lines


if __name__ == "__main__":
    main()
