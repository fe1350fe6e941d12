"""Peak memory and time of reading each committed file, or each of a folder, by the command line.

python -m tests.fuzz.measure [FOLDER]    exits 1 if a file is beyond the bounds

What no command reads by itself is read by `tests.fuzz.replay`. Each file is read in a process of
its own, so that the numbers hold all that a user pays: Python, the libraries, and the file.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.corpus import CORPUS
from tests.fuzz.judge import MAX_GROWTH_BYTES, MAX_SECONDS

STOP_BYTES = 4 << 30
STOP_S = 30
"""Of the processor; ten times that if it only waits."""

EXPORT = ("export", "{file}", "--size", "64x64", "--out", "{out}.onnx")
COMMANDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "checkpoint": ("file.pth", EXPORT),
    "safetensors": ("file.safetensors", EXPORT),
    "onnx": ("file.onnx", EXPORT),
    "network": ("file.onnx", ("inspect", "{file}")),
    "manifest": ("manifest.json", ("inspect", "{folder}")),
    "recipe": ("file.toml", ("build", "{file}", "--out", "{out}")),
}
"""How a file is called, and the command that reads it."""

SUFFIXES = {
    **dict.fromkeys((".pth", ".pt"), "checkpoint"),
    ".safetensors": "safetensors",
    ".onnx": "onnx",
    ".toml": "recipe",
    **dict.fromkeys((".png", ".jpg", ".webp", ".tiff", ".bmp"), "image"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One file.

    Attributes:
        name: Of the file, with its target.
        status: That the process ended with; below 0 it is a signal.
        seconds: Of the processor.
        bytes_over: The most memory that it took, less the file's size.
        is_sound: Whether it ended by itself, without a trace.
    """

    name: str
    status: int
    seconds: float
    bytes_over: int
    is_sound: bool

    @property
    def is_within(self) -> bool:
        """Whether it keeps the bounds; what is accepted may take what it takes."""
        is_refused = self.status != 0
        is_much = self.bytes_over > MAX_GROWTH_BYTES or self.seconds > MAX_SECONDS
        return self.is_sound and not (is_refused and is_much)


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", help="files by their suffixes")
    parser.add_argument("--all", action="store_true", help="print all and not the worst ten")
    asked = parser.parse_args()
    found = [measure(*file) for file in _files(asked.folder)]
    shown = sorted(found, key=lambda m: (m.is_within, -m.bytes_over))
    sys.stdout.write("  MB over    s  status\n")
    for m in shown if asked.all else shown[:10]:
        mark = " " if m.is_within else "!"
        sys.stdout.write(
            f"{mark} {m.bytes_over / 1e6:7.0f} {m.seconds:4.1f}  {m.status:6}  {m.name}\n"
        )
    beyond = sum(not m.is_within for m in found)
    sys.stdout.write(
        f"{len(found)} files, at most {max(m.bytes_over for m in found) / 1e6:.0f} MB over their "
        f"size and {max(m.seconds for m in found):.1f} s; {beyond} beyond the bounds\n"
    )
    sys.exit(beyond > 0)


def measure(target: str, path: Path) -> Measured:
    """Read a file in a process of its own, which is stopped where it goes far beyond the bounds."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = _command(target, path, folder)
        environment = os.environ | {"XDG_CACHE_HOME": name, "TMPDIR": name}
        start = time.perf_counter()
        with (folder / "said").open("wb") as said:
            child = subprocess.Popen(command, stdout=said, stderr=said, env=environment)
            resource.prlimit(child.pid, resource.RLIMIT_CPU, (STOP_S, STOP_S))
            while True:
                done, status, usage = os.wait4(child.pid, os.WNOHANG)
                if done:
                    break
                is_late = time.perf_counter() - start > 10 * STOP_S
                if is_late or _resident_bytes(child.pid) > STOP_BYTES:
                    child.kill()
                time.sleep(0.02)
        child.returncode = os.waitstatus_to_exitcode(status)  # it is waited for already
        text = (folder / "said").read_bytes()
    return Measured(
        name=f"{target}/{path.name}",
        status=child.returncode,
        seconds=usage.ru_utime + usage.ru_stime,
        bytes_over=(usage.ru_maxrss << 10) - path.stat().st_size,
        is_sound=child.returncode >= 0 and b"Traceback" not in text,
    )


def _files(folder: Path | None) -> Iterator[tuple[str, Path]]:
    if folder is None:
        yield from ((path.parent.name, path) for path in sorted(CORPUS.glob("*/*")))
        return
    for path in sorted(folder.iterdir()):
        if target := SUFFIXES.get(path.suffix):
            yield target, path


def _command(target: str, path: Path, folder: Path) -> list[str]:
    if target not in COMMANDS:
        return [sys.executable, "-m", "tests.fuzz.replay", target, str(path)]
    name, words = COMMANDS[target]
    file = folder / "read" / name
    file.parent.mkdir()
    shutil.copyfile(path, file)
    given = {"file": file, "folder": file.parent, "out": folder / "out"}
    return [sys.executable, "-m", "fcn_trt", *(word.format(**given) for word in words)]


def _resident_bytes(process: int) -> int:
    try:
        pages = Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[1]
    except OSError:
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main()
