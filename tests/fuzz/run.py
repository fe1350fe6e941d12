"""Fuzzes all targets or some, a slice of time each, and says what was found.

python -m tests.fuzz.run --seconds 120 --targets "checkpoint onnx"

What is learnt lies in .fuzz/corpus and is where the next run begins; what was found, in
.fuzz/findings, to be looked at with `python -m tests.fuzz.replay TARGET FILE`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.fuzz.corpus import committed
from tests.fuzz.targets import TARGETS

HOME = Path(".fuzz")
GRACE_S = 120
"""For a slice to import, to read its corpus and to end."""

_PROGRESS = re.compile(r"^#(\d+)\s.*?cov: (\d+) ft: (\d+) corp: (\d+)", re.MULTILINE)
_ENDED_BY = re.compile(r"^(?:SUMMARY|==\d+==) ?(?:ERROR: )?(.*)$", re.MULTILINE)


@dataclass(slots=True, kw_only=True)
class Summary:
    """What a target's slices did.

    Attributes:
        executions: Files that were read.
        edges: Of the target's modules that were reached.
        features: As libFuzzer counts coverage: edges and how often they were taken.
        corpus: Files that each reached something of their own.
        seconds: That it took.
        findings: Files, with what ended the process where something did.
    """

    target: str
    executions: int = 0
    edges: int = 0
    features: int = 0
    corpus: int = 0
    seconds: float = 0.0
    findings: dict[str, str] = field(default_factory=dict)

    def describe(self) -> str:
        """On one line."""
        rate = self.executions / self.seconds if self.seconds else 0
        return (
            f"{self.target:12} {self.executions:9} read ({rate:6.0f}/s)  {self.edges:5} edges  "
            f"{self.features:6} features  {self.corpus:5} files  {len(self.findings)} findings"
        )


def main() -> None:
    """Fuzz; exits 1 if something was found."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seconds", type=int, default=20, help="for each target")
    parser.add_argument("--targets", default=" ".join(TARGETS), help="names with spaces between")
    parser.add_argument("--seed", type=int, default=0, help="0 takes another one each time")
    parser.add_argument("--json", action="store_true", help="one object on stdout")
    asked = parser.parse_args()
    names = asked.targets.split()
    if unknown := [name for name in names if name not in TARGETS]:
        parser.error(f"{unknown[0]} is no target; there are {', '.join(TARGETS)}")
    summaries = []
    for name in names:
        summaries.append(fuzz(name, asked.seconds, asked.seed))
        _say(summaries[-1].describe())
        for file, what in summaries[-1].findings.items():
            _say(f"    {file} {what}")
    if asked.json:
        sys.stdout.write(json.dumps({"targets": [asdict(s) for s in summaries]}) + "\n")
    sys.exit(any(summary.findings for summary in summaries))


def fuzz(target: str, seconds: int, seed: int = 0, home: Path = HOME) -> Summary:
    """Run slices of a target, a new one where an input ended the last, until the time is over."""
    corpus, findings = home / "corpus" / target, home / "findings" / target
    for folder in (corpus, findings):
        folder.mkdir(parents=True, exist_ok=True)
    for path in committed(target):
        shutil.copyfile(path, corpus / path.name)
    summary = Summary(target=target)
    began = time.time_ns()
    start = time.perf_counter()
    while (left := seconds - int(time.perf_counter() - start)) > 0:
        output, is_over = _slice(target, corpus, findings, left, seed)
        _add(summary, output)
        ending = _ENDED_BY.search(output)
        for path in findings.iterdir():
            if path.stat().st_mtime_ns >= began and str(path) not in summary.findings:
                is_artifact = path.name.startswith(("crash-", "timeout-", "oom-"))
                summary.findings[str(path)] = ending[1] if is_artifact and ending else ""
        if not is_over and not ending:
            raise SystemExit(f"the slice of {target} ended by itself:\n{output[-2000:]}")
    summary.seconds = round(time.perf_counter() - start, 1)
    return summary


def _slice(target: str, corpus: Path, findings: Path, seconds: int, seed: int) -> tuple[str, bool]:
    """What a process said, and whether its time was over."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch:
        command = [
            *(sys.executable, "-m", "tests.fuzz.slice", target, "--seconds", str(seconds)),
            *("--corpus", str(corpus), "--findings", str(findings), "--seed", str(seed)),
        ]
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=os.environ | {"TMPDIR": scratch, "OMP_NUM_THREADS": "1"},
            timeout=seconds + GRACE_S,
            check=False,
        )
    return done.stdout.decode(errors="replace"), done.returncode == 0


def _add(summary: Summary, output: str) -> None:
    if lines := _PROGRESS.findall(output):
        executions, summary.edges, summary.features, summary.corpus = map(int, lines[-1])
        summary.executions += executions


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    main()
