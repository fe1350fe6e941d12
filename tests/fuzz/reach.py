"""Lines of each target's modules that its files reach: the committed ones, and what was learnt.

python -m tests.fuzz.reach [TARGET ...]
"""

from __future__ import annotations

import argparse
import io
import logging
import sys
import warnings
from pathlib import Path

import coverage

from tests.fuzz.corpus import UNMENDED, committed
from tests.fuzz.judge import judge
from tests.fuzz.run import HOME
from tests.fuzz.targets import TARGETS


def main() -> None:
    """Print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", default=list(TARGETS), metavar="TARGET")
    asked = parser.parse_args()
    logging.disable()
    warnings.simplefilter("ignore")
    for name in asked.targets:
        target = TARGETS[name]
        own = [module for module in target.modules if module.startswith("fcn_trt")]
        measured = coverage.Coverage(source_pkgs=own, data_file=None, config_file=False)
        measured.start()
        files = _files(name)
        for path in files:
            judge(target, path.read_bytes())
        measured.stop()
        said = io.StringIO()
        measured.report(file=said, skip_empty=True, sort="name")
        sys.stdout.write(f"{name}: {len(files)} files\n{said.getvalue()}\n")


def _files(target: str) -> list[Path]:
    learnt = HOME / "corpus" / target
    own = [path for path in committed(target) if f"{target}/{path.name}" not in UNMENDED]
    return own + (sorted(learnt.iterdir()) if learnt.is_dir() else [])


if __name__ == "__main__":
    main()
