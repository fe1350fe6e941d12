"""A bundle is measured in a process of its own.

So its memory is its own and not that of what exported it, no thread of another library is around,
and one that crashes takes nobody's results along.

    python -m fcn_trt.bench.worker BUNDLE HxW|- SECONDS
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from pydantic import ValidationError

from fcn_trt.bench.measurement import Measurement, measure_bundle
from fcn_trt.errors import EngineError, FcnTrtError
from fcn_trt.spec import Size, parse_size
from fcn_trt.type_adapter import type_adapter

__all__ = ["measure_in_process"]

_NO_SIZE = "-"


def measure_in_process(bundle: Path, *, frame_size: Size | None, seconds: float) -> Measurement:
    """Measure a bundle in a process of its own; see `measure_bundle`.

    Args:
        frame_size: (height, width) of the frames; None takes the network's input size.
        seconds: How long each way is measured.

    Raises:
        EngineError: it cannot be measured, or the process died.
    """
    size = "x".join(map(str, frame_size)) if frame_size else _NO_SIZE
    command = [sys.executable, "-m", __spec__.name, str(bundle), size, str(seconds)]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode == 0:
        last = (done.stdout.splitlines() or [b""])[-1]  # a library may print something before
        try:
            return type_adapter(Measurement).validate_json(last)
        except ValidationError as error:
            raise EngineError(f"measuring {bundle} ended without a result; report this") from error
    raise EngineError(_reason(bundle, done.returncode, done.stderr.decode(errors="replace")))


def _reason(bundle: Path, status: int, text: str) -> str:
    """Why a process ended, in one sentence."""
    if status < 0:
        name = signal.Signals(-status).name
        hint = "; perhaps it had too little memory" if -status == signal.SIGKILL else ""
        return f"measuring {bundle} was ended by {name}{hint}"
    last = (text.strip().splitlines() or [f"measuring {bundle} ended with status {status}"])[-1]
    if "Traceback (most recent call last)" in text:
        return f"measuring {bundle} should not have failed ({last}); please report it"
    return last


def _main(bundle: str, size: str, seconds: str) -> int:
    try:
        found = measure_bundle(
            Path(bundle),
            frame_size=None if size == _NO_SIZE else parse_size(size),
            seconds=float(seconds),
        )
    except (FcnTrtError, ValueError, OSError) as error:
        sys.stderr.write(" ".join(str(error).splitlines()) + "\n")
        return 1
    sys.stdout.write(json.dumps(asdict(found)))
    return 0


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
