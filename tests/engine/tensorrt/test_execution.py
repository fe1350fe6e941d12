"""What is asked of an execution context, of one that is a fake: a real one needs a GPU."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest

from fcn_trt.cache import cache_folder, read_kept, write_kept
from fcn_trt.engine.options import BuildOptions
from fcn_trt.engine.tensorrt.builder import build_tensorrt
from fcn_trt.engine.tensorrt.caches import RuntimeCache
from fcn_trt.engine.tensorrt.execution import EngineExecutor, LoadedEngine
from fcn_trt.engine.tensorrt.library import Log, TensorRtLibrary, load_library
from fcn_trt.errors import EngineError
from fcn_trt.spec import read_spec
from tests.plans import as_network

RTX = TensorRtLibrary(target="tensorrt-rtx", trt=SimpleNamespace(), version="1.7.1.116")
PLAIN = TensorRtLibrary(target="tensorrt", trt=SimpleNamespace(), version="10.3.0")


IMAGES = (1, 3, 64, 96)


class FakeContext:
    """Writes down what it is told, and refuses what a test says."""

    def __init__(self, refuses="", logits=(1, 3, 8, 12)):
        self.refuses, self.logits = refuses, logits
        self.calls = []

    def get_tensor_shape(self, name):
        return self.logits

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
    def __init__(self, takes=True, keeps=True):
        self.content, self.takes, self.keeps = b"", takes, keeps

    def deserialize(self, data):
        self.content = data if self.takes else b""
        return self.takes

    def serialize(self):
        return self.content + b"+" if self.keeps else None


class FakeEngine:
    """One of TensorRT-RTX, with a runtime cache."""

    def __init__(self, cache):
        self.cache, self.contexts = cache, []
        self.types: dict[str, object] = {}
        self.set_caches: list[FakeRuntimeCache] = []
        self.config = SimpleNamespace(
            create_runtime_cache=lambda: self.cache, set_runtime_cache=self.set_caches.append
        )

    def create_runtime_config(self):
        return self.config

    def create_execution_context(self, config=None):
        self.contexts.append(config)
        return FakeContext()

    def get_tensor_dtype(self, name):
        return self.types[name]


@pytest.fixture
def spec(tiny_network):
    return read_spec(tiny_network)


class TestExecutor:
    def test_shape_is_set_once_and_addresses_when_they_change(self, spec):
        context = FakeContext()
        executor = EngineExecutor(context, spec, IMAGES, PLAIN, Log())
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
        log = Log(errors=["the library's reason"])
        message = r"TensorRT 10\.3\.0 refuses images of \(1, 3, 64, 96\): the library's reason; b"
        with pytest.raises(EngineError, match=message):
            EngineExecutor(FakeContext("shape"), spec, IMAGES, PLAIN, log)

    def test_another_shape_has_its_own_logits(self, spec):
        context = FakeContext(logits=(2, 3, 5, 13))
        EngineExecutor(context, spec, (2, 3, 33, 97), PLAIN, Log())
        assert context.calls == [("shape", "image", (2, 3, 33, 97))]

    def test_an_engine_with_other_logits_is_refused(self, spec):
        message = r"makes logits of \(1, 3, 9, 12\) and its manifest says \(1, 3, 8, 12\); build"
        with pytest.raises(EngineError, match=message):
            EngineExecutor(FakeContext(logits=(1, 3, 9, 12)), spec, IMAGES, PLAIN, Log())

    @pytest.mark.parametrize(
        ("refuses", "message"),
        [("address", "refuses memory for its tensor 'image': "), ("execute", "to start the net")],
    )
    def test_what_the_library_refuses_is_an_error(self, spec, refuses, message):
        executor = EngineExecutor(FakeContext(refuses), spec, IMAGES, PLAIN, Log())
        with pytest.raises(EngineError, match=message):
            executor.enqueue({"image": 100}, {"logits": 200}, 7)

    def test_a_closed_one_is_refused(self, spec):
        executor = EngineExecutor(FakeContext(), spec, IMAGES, PLAIN, Log())
        executor.close()
        executor.close()
        with pytest.raises(RuntimeError, match="this executor is closed"):
            executor.enqueue({}, {}, 7)


class TestLoadedEngine:
    """The plan is real, the engine that a GPU would make of it is a fake."""

    @pytest.fixture
    def opened(self, rtx, tiny_network, tmp_path, monkeypatch):
        """Open the bundle of the tiny network with an engine whose tensors have these types."""
        options = BuildOptions(compute_capabilities=("8.6",))
        bundle = build_tensorrt(
            as_network(tiny_network), tmp_path / "tiny", target="tensorrt-rtx", options=options
        )

        def open_it(image=rtx.DataType.FLOAT, logits=rtx.DataType.FLOAT):
            engine = FakeEngine(FakeRuntimeCache())
            engine.types = {"image": image, "logits": logits}
            monkeypatch.setattr("fcn_trt.engine.tensorrt.execution.load_engine", lambda *_: engine)
            return LoadedEngine(bundle), engine

        return open_it

    def test_it_makes_executors_and_keeps_what_was_compiled(self, opened, rtx):
        loaded, engine = opened()
        assert loaded.library == f"TensorRT-RTX {rtx.__version__}"
        executors = [loaded.executor(IMAGES) for _ in range(3)]
        executors[0].enqueue({"image": 1}, {"logits": 2}, 3)
        assert engine.contexts == [engine.config] * 3
        for executor in executors:
            executor.close()
        loaded.close()
        loaded.close()
        files = [path for path in cache_folder("runtime").iterdir() if path.is_file()]
        assert any(read_kept(path) == b"+" for path in files)
        with pytest.raises(RuntimeError, match="this engine is closed"):
            loaded.executor(IMAGES)

    @pytest.mark.parametrize(
        ("image", "logits", "message"),
        [
            ("HALF", "FLOAT", r"tensor 'image' is DataType\.HALF and must be float32; build the"),
            ("FLOAT", "HALF", r"tensor 'logits' is DataType\.HALF and must be float32; build th"),
        ],
    )
    def test_other_types_are_refused(self, opened, rtx, image, logits, message):
        with pytest.raises(EngineError, match=message):
            opened(getattr(rtx.DataType, image), getattr(rtx.DataType, logits))

    def test_a_bundle_for_the_cpu_is_refused(self, tiny_bundle):
        with pytest.raises(EngineError, match="is for openvino and holds no plan; build it for te"):
            LoadedEngine(tiny_bundle)


class TestRuntimeCache:
    def test_what_was_compiled_is_there_at_the_next_start(self):
        for expected in (b"", b"+", b"++"):
            fake = FakeRuntimeCache()
            engine = FakeEngine(fake)
            cache = RuntimeCache.of(RTX, engine, "ab" * 32)
            assert fake.content == expected
            assert engine.set_caches == [fake]
            cache.context(engine, Log())
            assert engine.contexts == [engine.config]
            cache.close()
            cache.close()
        (kept,) = cache_folder("runtime").glob("*abab*")
        assert kept.name == f"tensorrt-rtx-1.7.1.116-{'ab' * 32}.cache"

    def test_special_kernels_are_waited_for_because_a_graph_keeps_what_it_has(self, rtx):
        library = load_library("tensorrt-rtx")
        engine = FakeEngine(FakeRuntimeCache())
        RuntimeCache.of(library, engine, "12" * 32)
        strategy = rtx.DynamicShapesKernelSpecializationStrategy.EAGER
        assert engine.config.dynamic_shapes_kernel_specialization_strategy == strategy

    def test_one_that_the_library_refuses_is_a_warning(self, caplog):
        path = cache_folder("runtime") / f"tensorrt-rtx-1.7.1.116-{'cd' * 32}.cache"
        write_kept(path, b"of another driver")
        RuntimeCache.of(RTX, FakeEngine(FakeRuntimeCache(takes=False)), "cd" * 32)
        assert "TensorRT-RTX 1.7.1.116 refuses it" in caplog.text

    def test_no_folder_for_it_is_a_warning(self, caplog, monkeypatch, tmp_path):
        (tmp_path / "file").write_text("no folder")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
        RuntimeCache.of(RTX, FakeEngine(FakeRuntimeCache()), "ef" * 32).close()
        assert [r.levelno for r in caplog.records] == [logging.WARNING]
        assert "cannot be kept" in caplog.text

    def test_a_file_that_cannot_be_written_is_a_warning(self, caplog):
        cache = RuntimeCache.of(RTX, FakeEngine(FakeRuntimeCache()), "34" * 32)
        folder = cache_folder("runtime") / f"tensorrt-rtx-1.7.1.116-{'34' * 32}.cache"
        (folder / "in the way").mkdir(parents=True)
        cache.close()
        assert {r.levelno for r in caplog.records} == {logging.WARNING}
        assert "the next start takes as long as this one: " in caplog.text

    def test_a_library_that_keeps_nothing_is_a_warning(self, caplog):
        RuntimeCache.of(RTX, FakeEngine(FakeRuntimeCache(keeps=False)), "56" * 32).close()
        assert "TensorRT-RTX 1.7.1.116 keeps nothing" in caplog.text

    def test_tensorrt_has_none(self):
        engine = FakeEngine(FakeRuntimeCache())
        cache = RuntimeCache.of(PLAIN, engine, "ab" * 32)
        cache.context(engine, Log())
        cache.close()
        assert engine.contexts == [None]

    def test_no_memory_for_a_context_is_an_error(self):
        engine = SimpleNamespace(create_execution_context=lambda: None)
        log = Log(errors=["out of memory"])
        with pytest.raises(EngineError, match="make an execution context: out of memory; close ot"):
            RuntimeCache.of(PLAIN, engine, "").context(engine, log)
