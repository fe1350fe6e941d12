"""One reading of one file: accepted, refused as documented, or a finding."""

from __future__ import annotations

import re
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

from fcn_trt.bench.memory import peak_resident_bytes, restart_peak
from fcn_trt.errors import FcnTrtError
from tests.fuzz.targets import Target

__all__ = ["MAX_GROWTH_BYTES", "MAX_SECONDS", "Verdict", "judge"]

MAX_SECONDS = 10.0
"""Of the processor, so that a busy machine finds nothing else."""
MAX_GROWTH_BYTES = 1 << 30
"""Over the file's own size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What came of it.

    Attributes:
        refusal: What a documented error said; None where the file was accepted, or ended otherwise.
        fault: What it showed if it is a finding, the same for the same kind; else None.
        seconds: Of the processor that it took.
        growth_bytes: Memory that it took at most, beyond what the process had before.
        trace: Of an error that is not documented.
    """

    refusal: str | None
    fault: str | None
    seconds: float
    growth_bytes: int
    trace: str = ""


def judge(
    target: Target,
    data: bytes,
    *,
    max_seconds: float = MAX_SECONDS,
    max_growth_bytes: int = MAX_GROWTH_BYTES,
) -> Verdict:
    """Read a file in this process, which a signal would end."""
    refusal = fault = None
    trace = ""
    if not restart_peak():
        raise OSError("this system does not forget how much memory a process has had")
    before = _peak()
    start = time.process_time()
    try:
        target.read(data)
    except Exception as error:  # noqa: BLE001  # that is what is looked for
        if is_documented(error, target):
            refusal = str(error)
        else:
            fault = f"{type(error).__name__}-in-{_innermost(error)}"
            trace = traceback.format_exc()
    seconds = time.process_time() - start
    growth = _peak() - before
    if growth > max_growth_bytes + len(data):
        fault = f"memory-{_word(refusal or fault)}"
    if seconds > max_seconds:
        fault = f"time-{_word(refusal or fault)}"
    return Verdict(refusal=refusal, fault=fault, seconds=seconds, growth_bytes=growth, trace=trace)


def is_documented(error: Exception, target: Target) -> bool:
    """Whether a reader says that it raises this."""
    own = tuple(kind for kind in target.errors if issubclass(kind, FcnTrtError))
    return isinstance(error, own) or type(error) in target.errors


def _innermost(error: Exception) -> str:
    """The package's last function on the way to an error."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if "fcn_trt" in Path(f.filename).parts]
    frame = (own or frames)[-1]
    return f"{Path(frame.filename).stem}.{frame.name}"


def _word(said: str | None) -> str:
    """What tells this finding from others of its kind, whatever its numbers are."""
    text = re.sub(r"^\S+", "", said or "accepted").strip() or "accepted"
    return "-".join(re.findall(r"[A-Za-z]{3,}", text)[:8])


def _peak() -> int:
    peak = peak_resident_bytes()
    if peak is None:
        raise OSError("this system does not say how much memory a process has had")
    return peak
