"""Tiny real networks and the command line for every test, and a cache that is not the user's."""

from __future__ import annotations

import importlib
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest

from tests.plans import as_network

if TYPE_CHECKING:
    from fcn_trt.engine.bundle import Bundle
    from fcn_trt.model.checkpoint import LoadedModel

NEEDS_EXPORT = "needs the extra: pip install 'fcn-trt[export]'"
TINY_SIZE = (64, 96)


class Done(NamedTuple):
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON object on stdout, by the letter of the standard."""

        def refuse(name):
            raise ValueError(f"{name} is no JSON")

        assert self.status == 0, self.err
        assert self.out.endswith("\n")
        assert self.out.count("\n") == 1
        found = json.loads(self.out, parse_constant=refuse)
        assert isinstance(found, dict)
        return found

    @property
    def sentence(self) -> str:
        """The error: one line behind whatever steps were told, and nothing on stdout."""
        assert self.out == ""
        *steps, last = self.err.splitlines()
        assert all(step.startswith(":: ") for step in steps), self.err
        assert last.startswith("error: ")
        return last.removeprefix("error: ")


def pytest_configure() -> None:
    """Let OpenMP's threads sleep while they wait, hear Ctrl-C, and give each worker its own core.

    The threads spin by default, and on a busy 2-core machine torch then takes 5 s for what takes
    30 ms. A worker that may run on one core has torch, OpenVINO and OpenCV use one thread, and so
    do the processes that its tests start.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell that runs its jobs in the background has them ignore it, and what they start.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker is not None and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})


def pytest_collection_finish() -> None:
    """Let torch's loggers propagate: in each test, pytest adds a handler to each that does not."""
    for name, logger in logging.root.manager.loggerDict.items():
        if name.startswith("torch") and isinstance(logger, logging.Logger):
            logger.propagate = True


EXPORT_FOLDERS = ("model", "network", "calibration", "precision")
"""Folders whose tests all need the extra `export`."""


def pytest_pycollect_makemodule(module_path: Path) -> None:
    """Skip a folder, with the reason, where its extra is not installed."""
    if module_path.parent.name in EXPORT_FOLDERS:
        pytest.importorskip("torch", reason=NEEDS_EXPORT)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    """Logs of files whose names are no UTF-8 go from a worker to its master as text, too."""
    report = yield
    report.sections = [
        (title, text.encode(errors="backslashreplace").decode()) for title, text in report.sections
    ]
    return report


@pytest.fixture(scope="session", autouse=True)
def user_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The user's cache for this run, and data: empty folders, so that none in ~ is touched."""
    folder = tmp_path_factory.mktemp("user_cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        patch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("user_data")))
        yield folder


@pytest.fixture(scope="session", autouse=True)
def kernels_compiled_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """NVRTC compiles the kernels for a GPU once for all workers, as that takes 2 s."""
    from fcn_trt.cuda import nvrtc
    from fcn_trt.files import combined_sha256, write_atomic

    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cubins"
    folder.mkdir(exist_ok=True)
    compile_source = nvrtc.compile_source

    def once(source: str, file: str, capability: str) -> bytes:
        parts = nvrtc.kernel_sources_sha256(), source, file, capability
        path = folder / f"{combined_sha256(parts)}.cubin"
        if not path.exists():
            write_atomic(path, compile_source(source, file, capability))
        return path.read_bytes()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nvrtc, "compile_source", once)
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The data folder that lies beside the checkout, or where FCN_TRT_SHARED says."""
    beside = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("FCN_TRT_SHARED", beside))
    if not folder.is_dir():
        pytest.skip(f"needs the shared data at {folder}; FCN_TRT_SHARED names another folder")
    return folder


@pytest.fixture(scope="session")
def make_model() -> Callable[..., LoadedModel]:
    """An `Fcn` of any model with an eighth of the channels, random batch-norm included.

    A short one has the first block of each stage alone.
    """
    torch = pytest.importorskip("torch", reason=NEEDS_EXPORT)
    from fcn_trt.labels import numbered_label_set
    from fcn_trt.model.architecture import architecture
    from fcn_trt.model.checkpoint import LoadedModel
    from fcn_trt.model.fcn import Fcn

    def make(
        model: str = "fcn_r18-d8", classes: int = 3, *, seed: int = 0, is_short: bool = False
    ) -> LoadedModel:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            module = Fcn(architecture(model), classes, base_width=8).eval()
            if is_short:
                for stage in (f"layer{number}" for number in range(1, 5)):
                    setattr(module.backbone, stage, getattr(module.backbone, stage)[:1])
            for layer in module.modules():
                if isinstance(layer, torch.nn.BatchNorm2d):
                    torch.nn.init.normal_(layer.running_mean, std=0.1)
                    torch.nn.init.uniform_(layer.running_var, 0.5, 2.0)
                    torch.nn.init.uniform_(layer.weight, 0.5, 1.5)
                    torch.nn.init.normal_(layer.bias, std=0.1)
            image = torch.nn.functional.interpolate(torch.randn(1, 3, 8, 12), scale_factor=8)
        with torch.no_grad():
            # Logits of mean 0 and deviation 1: each class wins somewhere.
            deviation, mean = torch.std_mean(module(image), dim=(0, 2, 3))
            classifier = module.decode_head.conv_seg
            classifier.weight.copy_(classifier.weight / deviation[:, None, None, None])
            classifier.bias.copy_((classifier.bias - mean) / deviation)
        return LoadedModel(
            module=module,
            weights=f"random (seed {seed})",
            labels=numbered_label_set(classes),
            source_sha256="",
            licence="",
        )

    return make


@pytest.fixture(scope="session")
def tiny_model(make_model: Callable[..., LoadedModel]) -> LoadedModel:
    """fcn_r18-d8 with 3 classes, base width 8 and one block in each stage: 18 convolutions."""
    return make_model(seed=2, is_short=True)


@pytest.fixture(scope="session")
def write_network() -> Callable[..., Path]:
    """Export a model to a file as FP32 ONNX."""
    pytest.importorskip("onnx", reason=NEEDS_EXPORT)
    from fcn_trt.network.to_onnx import to_onnx
    from tests.plans import save

    def write(
        model: LoadedModel, path: Path, *, size=TINY_SIZE, batch: int = 1, dynamic=None
    ) -> Path:
        save(to_onnx(model, size=size, batch=batch, dynamic=dynamic)[0], path)
        return path

    return write


@pytest.fixture(scope="session")
def tiny_network(
    tiny_model: LoadedModel,
    write_network: Callable[..., Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The tiny model as FP32 ONNX, 64x96, batch 1. Read only."""
    return write_network(tiny_model, tmp_path_factory.mktemp("tiny") / "tiny.onnx")


@pytest.fixture(scope="session")
def tiny_bundle(tiny_network: Path) -> Bundle:
    """The tiny network as an OpenVINO bundle. Read only."""
    from fcn_trt.engine.openvino.builder import build_openvino

    return build_openvino(as_network(tiny_network), tiny_network.parent / "tiny")


@pytest.fixture(scope="session")
def make_frame() -> Callable[..., np.ndarray]:
    """A picture of blurred noise: neighbouring pixels differ little, as in a photograph."""
    import cv2

    def make(size=TINY_SIZE, *, seed: int = 0) -> np.ndarray:
        noise = np.random.default_rng(seed).integers(0, 256, (8, 12, 3), dtype=np.uint8)
        return np.asarray(cv2.resize(noise, (size[1], size[0]), interpolation=cv2.INTER_CUBIC))

    return make


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Run a command in this process."""
    from fcn_trt.cli.app import main

    monkeypatch.setenv("COLUMNS", "40")  # a narrow terminal must not break what a script reads
    for name in ("OPENCV_FFMPEG_LOGLEVEL", "OPENCV_LOG_LEVEL"):
        monkeypatch.setenv(name, os.environ.get(name, "-8" if "FFMPEG" in name else "OFF"))

    def run(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["fcn-trt", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        assert isinstance(end.value.code, int)
        return Done(end.value.code, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def own_process() -> Callable[..., Done]:
    """Run a command in a process of its own."""

    def run(*arguments: object, **options: Any) -> Done:
        command = [sys.executable, "-m", "fcn_trt", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, **options)
        assert "Traceback" not in done.stderr
        return Done(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture(scope="session")
def rtx() -> ModuleType:
    """The real TensorRT-RTX, module `tensorrt_rtx`, whose builder needs no GPU."""
    try:
        return importlib.import_module("tensorrt_rtx")
    except ImportError as error:
        pytest.skip(f"needs TensorRT-RTX, which has wheels for x86-64 Linux and Windows: {error}")


@pytest.fixture
def randomise():
    """Batch-norm statistics and affine terms at random, so that nothing cancels out."""
    import torch

    def apply(module, seed=0):
        torch.manual_seed(seed)
        for layer in module.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                torch.nn.init.normal_(layer.running_mean, std=0.1)
                torch.nn.init.uniform_(layer.running_var, 0.5, 2.0)
                torch.nn.init.uniform_(layer.weight, 0.5, 1.5)
                torch.nn.init.normal_(layer.bias, std=0.1)
        return module.eval()

    return apply


@pytest.fixture
def tiny(randomise):
    """An `Fcn` of any model with an eighth of the channels, and so with MMSegmentation's keys."""
    from fcn_trt.model.architecture import architecture
    from fcn_trt.model.fcn import Fcn

    def make(model="fcn_r18-d8", classes=19, *, auxiliary=False):
        return randomise(Fcn(architecture(model), classes, base_width=8, auxiliary=auxiliary))

    return make


@pytest.fixture
def saved(tmp_path):
    """Write a checkpoint with torch.save; returns it as weights whose hash is no published one."""
    import torch

    from fcn_trt.files import sha256
    from fcn_trt.model.weights import WeightsFile

    def save(content, name="last.pth"):
        path = tmp_path / name
        torch.save(content, path)
        return WeightsFile(path=path, sha256=sha256(path), published=None)

    return save
