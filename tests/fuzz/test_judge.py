from __future__ import annotations

import time

import pytest

from fcn_trt.errors import CheckpointError, OnnxError
from tests.fuzz.judge import judge
from tests.fuzz.targets import Target


def no_mutator(data, random, havoc):
    return data


def verdict_of(read, *, errors=(OnnxError,), **bounds):
    return judge(Target(read=read, errors=errors, modules=(), mutate=no_mutator), b"x", **bounds)


def raising(error):
    def read(data):
        raise error

    return read


def endless(data):
    return endless(data)


def test_what_is_documented_is_a_refusal():
    verdict = verdict_of(raising(OnnxError("file.onnx is damaged")))
    assert (verdict.refusal, verdict.fault) == ("file.onnx is damaged", None)
    assert verdict_of(len).fault is verdict_of(len).refusal is None
    assert verdict_of(raising(ValueError("x")), errors=(ValueError,)).fault is None


@pytest.mark.parametrize(
    ("read", "name"),
    [
        (raising(KeyError("x")), "KeyError"),
        (raising(MemoryError()), "MemoryError"),
        (raising(CheckpointError("x is damaged")), "CheckpointError"),
        (raising(UnicodeDecodeError("utf-8", b"x", 0, 1, "x")), "UnicodeDecodeError"),
        (endless, "RecursionError"),
    ],
)
def test_every_other_error_is_a_finding_even_of_a_documented_base(read, name):
    verdict = verdict_of(read, errors=(OnnxError, ValueError))
    assert verdict.refusal is None
    assert verdict.fault.startswith(f"{name}-in-")
    assert name in verdict.trace


def test_memory_is_measured_at_its_peak_and_anew_each_time():
    def read(data):
        bytearray(64 << 20)

    verdict = verdict_of(read, max_growth_bytes=32 << 20)
    assert verdict.fault == "memory-accepted"
    assert 60 << 20 < verdict.growth_bytes < 90 << 20
    assert verdict_of(len, max_growth_bytes=32 << 20).fault is None


def test_time_is_measured():
    start = time.process_time()

    def read(data):
        while time.process_time() < start + 0.05:
            pass

    verdict = verdict_of(read, max_seconds=0.02)
    assert verdict.fault == "time-accepted"
