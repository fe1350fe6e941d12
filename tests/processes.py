"""Processes that begin behind the imports, as torch alone takes 3 s."""

from __future__ import annotations

import multiprocessing
import os
import signal
import warnings
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from typing import Any

EXTRA = ("torch", "torchvision", "onnx", "safetensors", "matplotlib")
BLOCKED = f"""
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {EXTRA!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Blocker())
"""
"""Code after which a process can import nothing that the export extra brings."""

IMPORTED = (
    *("pytest", "torch", "onnx", "openvino", "fcn_trt.engine.build", "fcn_trt.pipeline.recipe"),
    *("fcn_trt.model.load", "fcn_trt.network.to_onnx", "fcn_trt.precision.type_network"),
)


def start(target: Callable[..., object], *arguments: Any) -> BaseProcess:
    """Call a function of a module in a process forked from one that has only imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(IMPORTED))
    process = context.Process(target=_call, args=(dict(os.environ), target, arguments))
    process.start()
    return process


def _call(environment: dict[str, str], target: Callable[..., object], arguments: Any) -> None:
    os.environ.update(environment)
    target(*arguments)


def end_of(process: BaseProcess) -> int | None:
    """Its exit status; -N where signal N killed it, None where it still runs after two minutes."""
    process.join(120)
    return process.exitcode


TIMEOUT_S = 30


def forked(work: Callable[[], object]) -> str:
    """What a function gives, or is refused with (its process as N), forked from this process."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: there are threads
        child = os.fork()
    if not child:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(TIMEOUT_S)
        try:
            found = str(work())
        except RuntimeError as error:
            found = str(error).replace(str(os.getpid()), "N")
        os.write(writing, found.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        found = pipe.read()
    _, status = os.waitpid(child, 0)
    assert status == 0, f"the child ended with {status}; {signal.SIGALRM} is that it hung"
    return found
