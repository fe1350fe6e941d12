"""Reads one file as a target does, and says what came of it.

python -m tests.fuzz.replay TARGET FILE    exits 1 if it is a finding
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.fuzz.corpus import committed
from tests.fuzz.judge import judge
from tests.fuzz.targets import TARGETS


def main() -> None:
    """Read it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("file", type=Path)
    asked = parser.parse_args()
    target = TARGETS[asked.target]
    judge(target, committed(asked.target)[-1].read_bytes())  # which imports what it needs
    verdict = judge(target, asked.file.read_bytes())
    said = f"refused: {verdict.refusal}" if verdict.refusal else "accepted"
    sys.stdout.write(
        f"{verdict.trace}{verdict.fault or said}\n"
        f"{verdict.seconds:.2f} s, {verdict.growth_bytes / 1e6:.0f} MB more\n"
    )
    sys.exit(verdict.fault is not None)


if __name__ == "__main__":
    main()
