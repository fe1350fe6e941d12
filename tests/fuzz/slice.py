"""One process of the fuzzer: Atheris on one target, until its time is over or an input ends it.

Errors that are not documented, and what took too long or too much, are kept and gone past; what
ends the process (a signal, a loop without end, memory without end) libFuzzer keeps.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import warnings
from pathlib import Path
from random import Random

import atheris

from tests.fuzz.judge import MAX_GROWTH_BYTES, MAX_SECONDS, judge
from tests.fuzz.mutation import some_bytes
from tests.fuzz.targets import TARGETS

MAX_FILE_BYTES = 1 << 18
STRUCTURED = 0.8
"""Share of the inputs that the target's own mutator makes."""


def main() -> None:
    """Fuzz."""
    parser = argparse.ArgumentParser()
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--corpus", type=Path, required=True, help="read, and added to")
    parser.add_argument("--findings", type=Path, required=True, help="where findings are kept")
    parser.add_argument("--seconds", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    asked = parser.parse_args()
    logging.disable()
    warnings.simplefilter("ignore")
    target = TARGETS[asked.target]
    with atheris.instrument_imports(include=list(target.modules)):
        for name in target.modules:
            importlib.import_module(name)
        for path in _start_files(asked.corpus):
            judge(target, path.read_bytes())  # which imports what is left to import

    def read(data: bytes) -> None:
        verdict = judge(target, data)
        if verdict.fault is not None:
            (asked.findings / verdict.fault).write_bytes(data)

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        random = Random(seed)

        def havoc(part: bytes) -> bytes:
            # libFuzzer knows what the code compares with; it must not grow a part by much.
            if random.random() < 0.5 and part:
                return bytes(atheris.Mutate(part, len(part) + 64))
            return some_bytes(part, random)

        if random.random() < STRUCTURED:
            made = target.mutate(data, random, havoc)
            if len(made) <= max_size:
                return made
        return bytes(atheris.Mutate(data, max_size))

    atheris.Setup(
        [
            "fuzz",
            f"-max_total_time={asked.seconds}",
            f"-seed={asked.seed}",
            f"-artifact_prefix={asked.findings}/",
            f"-timeout={2 * int(MAX_SECONDS)}",
            f"-rss_limit_mb={(_resident_bytes() + 2 * MAX_GROWTH_BYTES) >> 20}",
            f"-max_len={MAX_FILE_BYTES}",
            "-len_control=0",
            "-print_final_stats=1",
            "-verbosity=1",
            str(asked.corpus),
        ],
        read,
        custom_mutator=mutate,
    )
    atheris.Fuzz()


def _start_files(corpus: Path) -> list[Path]:
    """The committed ones, which do no harm."""
    return [path for path in corpus.iterdir() if path.name.startswith(("seed", "small"))]


def _resident_bytes() -> int:
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main()
