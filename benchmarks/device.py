"""The kernels and the pipeline on the GPU: against torch, the memory's own speed, and the network.

    python -m benchmarks.device [--runs 21] [--out device.json]

Times are those of CUDA events, in turns with what they are compared with, in one run. What this
machine cannot run is skipped, and why is said; without a GPU nothing is written.

"bytes": the time that the bytes that a kernel must move would need at the speed at which the GPU
copies a large buffer. "copy": the time of a copy that moves as many, which has what any kernel
costs beyond its bytes. Kernels and copies go through many buffers in turn, more than caches hold.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.device_rows import Comparison, Skipped
from benchmarks.measure import RESULTS, save
from fcn_trt.errors import FcnTrtError
from fcn_trt.machine import Machine, this_machine

__all__ = ["document", "obstacle", "table_lines"]

RUNS = 21


def main() -> None:
    """Print a line per comparison and write them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=RUNS, help="turns of each comparison")
    parser.add_argument("--out", type=Path, default=RESULTS / "device.json")
    options = parser.parse_args()
    problem = obstacle(this_machine())
    if problem is not None:
        print(f"skipped: {problem}")
        return
    from benchmarks.device_cases import Bench
    from benchmarks.device_clock import DeviceClock

    rows: list[Comparison | Skipped] = []
    with DeviceClock(runs=options.runs) as clock:
        bench = Bench(clock)
        for row in bench.rows():
            rows.append(row)
            for line in table_lines([row], head=len(rows) == 1):
                print(line, flush=True)
        found = document(rows, runs=options.runs, copy_bytes_per_s=bench.copy_bytes_per_s)
    save(options.out, found, command="python -m benchmarks.device")


def obstacle(machine: Machine) -> str | None:
    """Why nothing of this can run here, or None."""
    if machine.gpu is None:
        return f"needs a GPU: {machine.gpu_problem}"
    from fcn_trt.cuda.driver import load_driver
    from fcn_trt.cuda.nvrtc import compile_kernels

    try:
        load_driver()
        compile_kernels(machine.gpu.compute_capability)
    except FcnTrtError as error:
        return str(error)
    return None


def table_lines(rows: list[Comparison | Skipped], *, head: bool = True) -> Iterator[str]:
    """The rows for people, each a line."""
    if head:
        yield (
            f"{'case':44} {'ms':>9}  {'against':34} {'ms':>9}  {'ratio (min-max)':>23}  "
            f"{'asked':14}"
        )
    for row in rows:
        if isinstance(row, Skipped):
            yield f"{row.case:44} skipped: {row.reason}"
            continue
        ratio = row.ratio
        spread = f"{ratio['median']:.2f} ({ratio['min']:.2f}-{ratio['max']:.2f})"
        asked = "" if row.asked is None else f"{row.sense} {row.asked:g}"
        verdict = {True: "met", False: "NOT MET", None: ""}[row.is_met]
        yield (
            f"{row.case:44} {np.median(row.seconds) * 1000:9.4f}  {row.reference:34} "
            f"{np.median(row.reference_seconds) * 1000:9.4f}  {spread:>23}  {asked:14} {verdict}"
        ).rstrip()


def document(
    rows: list[Comparison | Skipped], *, runs: int, copy_bytes_per_s: float
) -> dict[str, Any]:
    """What is saved of one run."""
    return {
        "runs": runs,
        "copy_gb_per_s": copy_bytes_per_s / 1e9,
        "rows": [row.to_dict() for row in rows],
    }


if __name__ == "__main__":
    main()
