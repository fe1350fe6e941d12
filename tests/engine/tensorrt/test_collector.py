import gc
import subprocess
import sys
import threading

import pytest

from fcn_trt.engine.tensorrt.collector import collector_paused

HANG = """
import gc
from contextlib import nullcontext
from fcn_trt.engine.tensorrt.collector import collector_paused
from fcn_trt.engine.tensorrt.library import Log, load_library
from fcn_trt.engine.tensorrt.plan import deserialise
from fcn_trt.errors import EngineError

class BusyLog(Log):
    def record(self, message, *, is_error):
        self.made = [[] for _ in range(200_000)]  # enough for the collector to want to run
        super().record(message, is_error=is_error)

library = load_library("tensorrt-rtx")
gc.set_threshold(100_000)
gc.collect()
cycle = [library.trt.Runtime(Log().logger(library.trt))]
cycle.append(cycle)  # from here on only the collector can free this runtime
del cycle
with PAUSE:
    try:
        deserialise(library, b"no plan", BusyLog(), host_code=False)
    except EngineError as error:
        print(error)
"""


def test_runtime_in_a_cycle_does_not_hang_the_next_call(rtx):
    """Without the pause: freed inside our logger, it waits for a lock that its own thread has."""
    code = HANG.replace("PAUSE", "collector_paused()")
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert "refuses the plan" in done.stdout, done.stderr


def test_collector_runs_again_after_the_last_block():
    assert gc.isenabled()
    with collector_paused():
        with collector_paused():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()


def test_collector_that_was_off_stays_off():
    gc.disable()
    try:
        with collector_paused():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_block_of_another_thread_keeps_it_paused():
    inside, leave = threading.Event(), threading.Event()

    def work():
        with collector_paused():
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=work)
    thread.start()
    assert inside.wait(10)
    with collector_paused():
        pass
    assert not gc.isenabled()
    leave.set()
    thread.join(10)
    assert gc.isenabled()


class Held:
    """Something that must not outlive the function that made it."""

    alive = 0

    def __init__(self):
        Held.alive += 1

    def __del__(self):
        Held.alive -= 1


def fail():
    held = Held()
    raise ValueError(str(held)[:4])


def test_exception_keeps_no_local_of_what_failed():
    with pytest.raises(ValueError, match="<"), collector_paused():
        fail()
    assert Held.alive == 0
    assert gc.isenabled()
