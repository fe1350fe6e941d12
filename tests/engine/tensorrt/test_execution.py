"""What is asked of an execution context, of one that is a fake: a real one needs a GPU."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest

from fcn_trt.engine.tensorrt.execution import EngineExecutor
from fcn_trt.engine.tensorrt.library import TensorRtLibrary
from fcn_trt.engine.tensorrt.runtime_cache import RuntimeCache
from fcn_trt.errors import EngineError
from fcn_trt.files import cache_folder
from fcn_trt.spec import read_spec

RTX = TensorRtLibrary(target="tensorrt-rtx", trt=SimpleNamespace(), version="1.7.1.116")
PLAIN = TensorRtLibrary(target="tensorrt", trt=SimpleNamespace(), version="10.3.0")


class FakeContext:
    """Writes down what it is told, and refuses what a test says."""

    def __init__(self, refuses=""):
        self.refuses = refuses
        self.calls = []

    def _tell(self, *call):
        self.calls.append(call)
        return call[0] != self.refuses

    def set_input_shape(self, name, shape):
        return self._tell("shape", name, shape)

    def set_tensor_address(self, name, address):
        return self._tell("address", name, address)

    def execute_async_v3(self, stream):
        return self._tell("execute", stream)


class FakeRuntimeCache:
    def __init__(self, takes=True):
        self.content, self.takes = b"", takes

    def deserialize(self, data):
        self.content = data if self.takes else b""
        return self.takes

    def serialize(self):
        return self.content + b"+"


class FakeEngine:
    """One of TensorRT-RTX, with a runtime cache."""

    def __init__(self, cache):
        self.cache, self.contexts = cache, []
        self.set_caches = []

    def create_runtime_config(self):
        return SimpleNamespace(
            create_runtime_cache=lambda: self.cache, set_runtime_cache=self.set_caches.append
        )

    def create_execution_context(self, config=None):
        self.contexts.append(config)
        return FakeContext()


@pytest.fixture
def spec(tiny_network):
    return read_spec(tiny_network)


class TestExecutor:
    def test_shape_is_set_once_and_addresses_when_they_change(self, spec):
        context = FakeContext()
        executor = EngineExecutor(context, spec, PLAIN)
        for address in (100, 100, 300):
            executor.enqueue({"image": address}, {"logits": 200}, 7)
        assert context.calls == [
            ("shape", "image", (1, 3, 64, 96)),
            ("address", "image", 100),
            ("address", "logits", 200),
            ("execute", 7),
            ("execute", 7),
            ("address", "image", 300),
            ("execute", 7),
        ]

    def test_an_engine_with_another_input_is_refused(self, spec):
        with pytest.raises(EngineError, match=r"TensorRT 10\.3\.0 refuses images of \(1, 3, 64, "):
            EngineExecutor(FakeContext("shape"), spec, PLAIN)

    @pytest.mark.parametrize(
        ("refuses", "message"),
        [("address", "has no tensor 'image'"), ("execute", "cannot start the network")],
    )
    def test_what_the_library_refuses_is_an_error(self, spec, refuses, message):
        executor = EngineExecutor(FakeContext(refuses), spec, PLAIN)
        with pytest.raises(EngineError, match=message):
            executor.enqueue({"image": 100}, {"logits": 200}, 7)

    def test_a_closed_one_is_refused(self, spec):
        executor = EngineExecutor(FakeContext(), spec, PLAIN)
        executor.close()
        executor.close()
        with pytest.raises(RuntimeError, match="this executor is closed"):
            executor.enqueue({}, {}, 7)


class TestRuntimeCache:
    def test_what_was_compiled_is_there_at_the_next_start(self):
        for expected in (b"", b"+", b"++"):
            fake = FakeRuntimeCache()
            engine = FakeEngine(fake)
            cache = RuntimeCache.of(RTX, engine, "ab" * 32)
            assert fake.content == expected
            assert engine.set_caches == [fake]
            cache.context(engine)
            assert engine.contexts[0] is not None
            cache.keep()
            cache.close()
        (kept,) = cache_folder("runtime").glob("*abab*")
        assert kept.name == f"tensorrt-rtx-1.7.1.116-{'ab' * 32}.cache"

    def test_one_that_the_library_refuses_is_a_warning(self, caplog):
        path = cache_folder("runtime") / f"tensorrt-rtx-1.7.1.116-{'cd' * 32}.cache"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"of another driver")
        RuntimeCache.of(RTX, FakeEngine(FakeRuntimeCache(takes=False)), "cd" * 32)
        assert "TensorRT-RTX 1.7.1.116 refuses it" in caplog.text

    def test_a_cache_that_cannot_be_written_is_a_warning(self, caplog, monkeypatch, tmp_path):
        (tmp_path / "file").write_text("no folder")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
        cache = RuntimeCache.of(RTX, FakeEngine(FakeRuntimeCache()), "ef" * 32)
        cache.keep()
        assert len([r for r in caplog.records if r.levelno == logging.WARNING]) == 1

    def test_tensorrt_has_none(self):
        engine = FakeEngine(FakeRuntimeCache())
        cache = RuntimeCache.of(PLAIN, engine, "ab" * 32)
        cache.context(engine)
        cache.keep()
        assert engine.contexts == [None]

    def test_no_memory_for_a_context_is_an_error(self):
        engine = SimpleNamespace(create_execution_context=lambda: None)
        with pytest.raises(EngineError, match="cannot make an execution context; close other"):
            RuntimeCache.of(PLAIN, engine, "").context(engine)
