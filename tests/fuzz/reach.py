"""Lines of each target's modules that its files reach: the committed ones, and what was learnt.

python -m tests.fuzz.reach [TARGET]
"""

from __future__ import annotations

import argparse
import io
import logging
import subprocess
import sys
import warnings
from pathlib import Path

import coverage

from tests.fuzz.corpus import committed
from tests.fuzz.judge import judge
from tests.fuzz.run import HOME
from tests.fuzz.targets import TARGETS


def main() -> None:
    """Print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", nargs="?", choices=TARGETS, help="all, each by itself")
    asked = parser.parse_args()
    if asked.target is None:
        # Lines that run when a module is imported do so once in a process.
        for name in TARGETS:
            subprocess.run([sys.executable, "-m", "tests.fuzz.reach", name], check=True)
        return
    logging.disable()
    warnings.simplefilter("ignore")
    target = TARGETS[asked.target]
    own = [module for module in target.modules if module.startswith("fcn_trt")]
    measured = coverage.Coverage(source_pkgs=own, data_file=None, config_file=False)
    measured.start()
    files = _files(asked.target)
    for path in files:
        judge(target, path.read_bytes())
    measured.stop()
    said = io.StringIO()
    measured.report(file=said, skip_empty=True, sort="name")
    sys.stdout.write(f"{asked.target}: {len(files)} files\n{said.getvalue()}\n")


def _files(target: str) -> list[Path]:
    learnt = HOME / "corpus" / target
    return committed(target) + (sorted(learnt.iterdir()) if learnt.is_dir() else [])


if __name__ == "__main__":
    main()
