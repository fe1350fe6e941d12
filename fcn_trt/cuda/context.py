"""One GPU's primary context: the one that torch and TensorRT use too, retained once per process.

Two contexts that PyCUDA retained are two objects for it, and it refuses to free in one what was
made in the other; so there is one object, which every thread that works pushes and pops.
"""

from __future__ import annotations

import atexit
import itertools
import logging
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from fcn_trt.cuda.driver import cuda_errors, load_driver
from fcn_trt.errors import EngineError
from fcn_trt.files import Closing
from fcn_trt.forks import keep, use, was_forked

__all__ = ["DeviceContext", "DeviceObject", "primary_context", "release_contexts"]


_log = logging.getLogger(__name__)
_lock = threading.Lock()
_close_lock = threading.Lock()
_contexts: dict[int, DeviceContext] = {}


def primary_context(ordinal: int = 0) -> DeviceContext:
    """The context of one GPU, retained by the first call and released at exit.

    Args:
        ordinal: Which GPU, as CUDA counts them.

    Raises:
        MissingExtraError: PyCUDA or cuda-bindings is missing.
        EngineError: there is no such GPU, or its driver does not work.
    """
    with _lock:
        found = _contexts.get(ordinal)
        if found is None:
            found = _contexts[ordinal] = DeviceContext(ordinal)
            atexit.register(_release_at_exit)
        return found


def release_contexts() -> None:
    """Release every context that `primary_context` retained; a later call retains it anew.

    Raises:
        RuntimeError: a thread has one active; then that one stays.
    """
    with _lock:
        for ordinal, context in list(_contexts.items()):
            context.release()
            del _contexts[ordinal]
        atexit.unregister(_release_at_exit)


class DeviceContext:
    """The primary context of one GPU; safe to use from several threads.

    Attributes:
        name: The GPU's.
        compute_capability: The GPU's, such as "8.7".
        is_integrated: Whether the GPU computes in the processor's memory, as a Jetson's does.
    """

    def __init__(self, ordinal: int = 0) -> None:
        """Retain it. There is one per GPU: `primary_context` is where to get it."""
        cuda = load_driver().cuda
        use("CUDA")
        with cuda_errors(f"use GPU {ordinal}"):
            cuda.init()
            device = cuda.Device(ordinal)
            major, minor = device.compute_capability()
            self.name = str(device.name())
            self.compute_capability = f"{major}.{minor}"
            self.is_integrated = bool(device.get_attribute(cuda.device_attribute.INTEGRATED))
            self._raw: Any = device.retain_primary_context()
        self._lock = threading.Lock()
        self._users = 0
        self._serial = itertools.count()
        self._objects: weakref.WeakValueDictionary[int, DeviceObject] = (
            weakref.WeakValueDictionary()
        )

    @contextmanager
    def active(self) -> Iterator[None]:
        """Make this context current in the calling thread; again inside is fine.

        Raises:
            RuntimeError: the context is closed.
            EngineError: the driver refuses.
        """
        self._enter()
        try:
            yield
        except BaseException:
            try:
                self._leave()
            except EngineError as error:
                _log.warning("after another error: %s", str(error))
            raise
        self._leave()

    def memory_bytes(self) -> tuple[int, int]:
        """The GPU's memory: what is free and what there is."""
        with self.active(), cuda_errors("read how much memory the GPU has"):
            free, total = load_driver().cuda.mem_get_info()
        return int(free), int(total)

    def release(self) -> None:
        """Close what is still open in it and let it go; again does nothing.

        Raises:
            RuntimeError: a thread has it active.
        """
        with self._lock:
            if self._users:
                raise RuntimeError(
                    f"the context of {self.name} is active {self._users} times and cannot be "
                    "released before each use of it has ended"
                )
        self._close_objects()
        with self._lock:
            raw, self._raw = self._raw, None
        if raw is not None:
            _detach(raw)

    def adopt(self, made: DeviceObject) -> None:
        """Remember what lives in this context, to close it first if nobody else does."""
        with self._lock:
            self._objects[next(self._serial)] = keep("CUDA", made)

    def _enter(self) -> None:
        with self._lock:
            if self._raw is None:
                raise RuntimeError("this GPU context is closed")
            self._users += 1
        try:
            with cuda_errors("make the GPU's context current"):
                self._raw.push()
        except BaseException:
            self._forget_user()
            raise

    def _leave(self) -> None:
        try:
            with cuda_errors("put the GPU's context back"):
                load_driver().cuda.Context.pop()
        finally:
            self._forget_user()

    def _forget_user(self) -> None:
        with self._lock:
            self._users -= 1

    def _close_objects(self) -> None:
        with self._lock:
            found = sorted(self._objects.items(), reverse=True)
        # The youngest first: a graph is younger than what it uses.
        left = [made for _, made in found if not made.is_closed]
        for made in left:
            _log.warning("a %s was not closed before its GPU context", made.noun)
            made.close()


class DeviceObject(Closing):
    """What lives in a context: made and freed with it active, and refused once it is closed.

    Attributes:
        context: Where it lives.
        noun: What it is, for messages.
    """

    noun = "device object"

    def __init__(self, context: DeviceContext, make: Callable[[], Any], *, work: str) -> None:
        """Make it.

        Args:
            make: Makes PyCUDA's object.
            work: What `make` does, for "cannot ...".

        Raises:
            EngineError: the driver refuses; then nothing is held.
        """
        self.context = context
        self._raw: Any = None
        with context.active(), cuda_errors(work):
            self._raw = make()
        context.adopt(self)

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self._raw is None

    @property
    def raw(self) -> Any:
        """PyCUDA's object. Keep no reference to it: some of them are freed by their last one.

        Raises:
            RuntimeError: it is closed.
        """
        raw = self._raw
        if raw is None:
            raise RuntimeError(f"this {self.noun} is closed")
        return raw

    def close(self) -> None:
        """Free it; again does nothing. What goes wrong is logged, so it never hides an error."""
        with _close_lock:
            raw, self._raw = self._raw, None
        if raw is None:
            return
        try:
            with self.context.active(), cuda_errors(f"free a {self.noun}"):
                self._free(raw)
                # PyCUDA has no other way to destroy streams, events and modules.
                del raw
        except RuntimeError as error:
            # As text: whoever keeps the error would keep what was to be freed.
            _log.warning("while closing: %s", str(error))

    def _free(self, raw: Any) -> None:
        """Free what does not go with its last reference; the context is active."""


def _detach(raw: Any) -> None:
    """Release PyCUDA's context from any thread, and leave none behind in this one."""
    graphs = load_driver().graphs
    handle = int(raw.handle)
    try:
        with cuda_errors("release the GPU's context"):
            # Where it is not current, PyCUDA releases nothing but in the thread that retained it.
            raw.push()
            raw.detach()
    except EngineError as error:
        _log.warning("while closing: %s", str(error))
        return
    # PyCUDA expects that detaching pops, which releasing a primary context does not.
    status, current = graphs.cuCtxGetCurrent()
    if int(status) == 0 and int(current) == handle:
        graphs.cuCtxPopCurrent()


def _release_at_exit() -> None:
    if was_forked("CUDA"):
        return
    try:
        release_contexts()
    except RuntimeError as error:
        _log.warning("at exit: %s", str(error))
