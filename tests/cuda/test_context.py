"""The primary context: once per process, pushed and popped by each thread, on the fake driver."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from fcn_trt.cuda.context import DeviceContext, primary_context, release_contexts
from fcn_trt.cuda.driver import load_driver
from fcn_trt.cuda.memory import DeviceBuffer
from fcn_trt.cuda.stream import Event, Stream
from fcn_trt.errors import EngineError


def in_thread(work):
    """Run in another thread and hand over what it raised."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(work).result(timeout=20)


def depth(fake):
    """How often the context is pushed in this thread, on PyCUDA's stack and the driver's."""
    state = fake.thread()
    return len(state.pycuda), len(state.driver)


def test_context_is_retained_once_and_says_what_it_is(fake):
    context = primary_context()
    assert primary_context() is context
    assert fake.calls["cuDevicePrimaryCtxRetain"] == 1
    assert context.name == "Fake GPU"
    assert context.compute_capability == "8.7"
    assert not context.is_integrated
    assert depth(fake) == (0, 0)


def test_many_threads_that_ask_at_once_share_one(fake):
    found = []
    threads = [threading.Thread(target=lambda: found.append(primary_context())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert len(set(found)) == 1
    assert fake.calls["cuDevicePrimaryCtxRetain"] == 1


def test_integrated_gpu_is_told(integrated_fake):
    assert primary_context().is_integrated


def test_memory_is_counted(context):
    free, total = context.memory_bytes()
    assert free == total == 1 << 31
    buffer = DeviceBuffer(context, 1000)
    assert context.memory_bytes() == (total - 1000, total)
    buffer.close()


def test_active_nests(fake, context):
    with context.active():
        assert depth(fake) == (1, 1)
        with context.active():
            # PyCUDA keeps only its topmost context on the driver's stack.
            assert depth(fake) == (2, 1)
        assert depth(fake) == (1, 1)
    assert depth(fake) == (0, 0)


def test_active_pops_when_its_body_raises(fake, context):
    with pytest.raises(ZeroDivisionError), context.active(), context.active():
        _ = 1 / 0
    assert depth(fake) == (0, 0)


def test_threads_have_their_own_stacks(fake, context):
    def work():
        assert depth(fake) == (0, 0)
        with context.active():
            assert depth(fake) == (1, 1)
            DeviceBuffer(context, 16).close()

    with context.active():
        in_thread(work)
        assert depth(fake) == (1, 1)


def test_what_one_thread_made_another_closes(context):
    made = []
    in_thread(lambda: made.extend([Stream(context), Event(context), DeviceBuffer(context, 4)]))
    for thing in made:
        thing.close()
    buffer = DeviceBuffer(context, 4)
    in_thread(buffer.close)
    assert buffer.is_closed


def test_failed_push_is_told_and_leaves_nothing(fake, context):
    fake.fail("cuCtxPushCurrent", "INVALID_CONTEXT")
    with (
        pytest.raises(EngineError, match="cuCtxPushCurrent failed: invalid device context"),
        context.active(),
    ):
        pytest.fail("the body ran")
    assert depth(fake) == (0, 0)
    release_contexts()


def test_failed_pop_does_not_hide_the_first_error(fake, context, caplog):
    fake.fail("cuCtxPopCurrent", "INVALID_CONTEXT")
    with pytest.raises(ZeroDivisionError), context.active():
        _ = 1 / 0
    assert "cuCtxPopCurrent failed: invalid device context" in caplog.text
    load_driver().cuda.Context.pop()


@pytest.mark.parametrize(
    ("routine", "status", "words"),
    [
        ("cuInit", "NO_DEVICE", "cuInit failed: no CUDA-capable device is detected"),
        ("cuDeviceGet", "INVALID_DEVICE", "cuDeviceGet failed: invalid device ordinal"),
        ("cuDevicePrimaryCtxRetain", "OUT_OF_MEMORY", "Retain failed: out of memory"),
    ],
)
def test_gpu_that_cannot_be_used_is_told_and_asked_again(fake, routine, status, words):
    fake.fail(routine, status)
    with pytest.raises(EngineError, match=f"^cannot use GPU 0: .*{words}$"):
        primary_context()
    assert fake.retained == 0
    assert primary_context().name == "Fake GPU"


def test_unknown_gpu_is_refused(fake):
    with pytest.raises(EngineError, match=r"cannot use GPU 3: .*invalid device ordinal"):
        primary_context(3)


def test_released_context_is_closed_and_can_be_had_again(fake, context):
    release_contexts()
    release_contexts()
    assert fake.retained == 0
    with pytest.raises(RuntimeError, match=r"^this GPU context is closed$"), context.active():
        pytest.fail("the body ran")
    assert primary_context() is not context
    assert fake.retained == 1


def test_context_is_released_from_another_thread(fake, context):
    in_thread(release_contexts)
    assert fake.retained == 0


def test_context_in_use_is_not_released(fake, context):
    with context.active():
        with pytest.raises(RuntimeError, match="active 1 times"):
            release_contexts()
        assert primary_context() is context
    release_contexts()
    assert fake.retained == 0


def test_what_was_forgotten_is_closed_before_the_context(fake, context, caplog):
    """At exit there is nobody else; the youngest goes first."""
    kept = [Stream(context), DeviceBuffer(context, 8), Event(context)]
    release_contexts()
    assert fake.leaks() == []
    assert all(thing.is_closed for thing in kept)
    told = [record.getMessage().split()[1] for record in caplog.records]
    assert told == ["event", "device", "stream"]


def test_closing_after_the_context_went_is_logged_and_no_error(fake, caplog):
    context = DeviceContext()
    stream = Stream(context)
    context._objects.clear()
    with fake.expect_misuse("the context was released before ['stream 0']"):
        context.release()
    with caplog.at_level(logging.WARNING), fake.expect_misuse("after its context was released"):
        stream.close()
    assert "this GPU context is closed" in caplog.text
    assert stream.is_closed


def test_failing_clean_up_is_logged_and_hides_nothing(fake, context, caplog):
    buffer = DeviceBuffer(context, 8)
    fake.fail("cuCtxPopCurrent", "INVALID_CONTEXT")
    with pytest.raises(ZeroDivisionError), buffer:
        _ = 1 / 0
    assert "while closing: cannot put the GPU's context back: cuCtxPop" in caplog.text
    assert fake.leaks() == []
    load_driver().cuda.Context.pop()


def test_free_that_the_driver_refuses_raises_nothing(fake, context, capsys):
    buffer = DeviceBuffer(context, 8)
    fake.fail("cuMemFree", "LAUNCH_FAILED")
    buffer.close()
    assert "cuMemFree failed: unspecified launch failure" in capsys.readouterr().err


def test_use_after_close_is_refused_and_closing_twice_is_not(context):
    stream = Stream(context)
    stream.close()
    stream.close()
    assert stream.is_closed
    with pytest.raises(RuntimeError, match=r"^this stream is closed$"):
        stream.synchronize()


def test_failing_release_is_logged(fake, context, caplog):
    fake.fail("cuCtxPushCurrent", "INVALID_CONTEXT")
    release_contexts()
    assert "while closing: cannot release the GPU's context: cuCtxPushCurrent" in caplog.text
    # The driver refused: it is as it was, and PyCUDA's last reference lets it go.
    assert [words for words in fake.misuses if "garbage collector" in words] == fake.misuses
    fake.misuses.clear()
    fake.retained = 0


AT_EXIT = """
import sys
from tests.cuda.fake_driver import fake_modules
from tests.cuda.fake_gpu import FakeGpu
gpu = FakeGpu()
sys.modules.update(fake_modules(gpu))
import atexit
atexit.register(lambda: print(gpu.retained, gpu.leaks(), gpu.misuses))
from fcn_trt.cuda.context import primary_context
from fcn_trt.cuda.stream import Stream
context = primary_context()
"""


@pytest.mark.parametrize(
    ("code", "out", "told"),
    [
        ("", "0 [] []\n", ""),
        (
            "stream = Stream(context)",
            "0 [] []\n",
            "a stream was not closed before its GPU context\n",
        ),
        (
            "use = context.active(); use.__enter__()",
            "1 [] []\n",
            "at exit: the context of Fake GPU is active 1 times and cannot be released before "
            "each use of it has ended\n",
        ),
    ],
    ids=["closed", "left open", "in use"],
)
def test_context_goes_at_exit(code, out, told):
    done = subprocess.run(
        [sys.executable, "-c", AT_EXIT + code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == (out, told)
