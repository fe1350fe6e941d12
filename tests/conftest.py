"""Tiny real networks for every test, and a user cache that is not the user's."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from fcn_trt.engine.bundle import Bundle
    from fcn_trt.export.checkpoint import LoadedModel

NEEDS_EXPORT = "needs the extra: pip install 'fcn-trt[export]'"
TINY_SIZE = (64, 96)


def pytest_configure() -> None:
    """Let OpenMP's threads sleep while they wait.

    They spin by default, and on a busy 2-core machine torch then takes 5 s for what takes 30 ms.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@pytest.fixture(scope="session", autouse=True)
def user_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The user's cache for this run: an empty folder, so that ~/.cache is never touched."""
    folder = tmp_path_factory.mktemp("user_cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


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
    """An `Fcn` of any model with an eighth of the channels, random batch-norm included."""
    torch = pytest.importorskip("torch", reason=NEEDS_EXPORT)
    from fcn_trt.export.architecture import architecture
    from fcn_trt.export.checkpoint import LoadedModel
    from fcn_trt.export.fcn import Fcn
    from fcn_trt.labels import numbered_label_set

    def make(model: str = "fcn_r18-d8", classes: int = 3, *, seed: int = 0) -> LoadedModel:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            module = Fcn(architecture(model), classes, base_width=8).eval()
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
    """fcn_r18-d8 with 3 classes and base width 8."""
    return make_model()


@pytest.fixture(scope="session")
def write_network() -> Callable[..., Path]:
    """Export a model to a file as FP32 ONNX."""
    pytest.importorskip("onnx", reason=NEEDS_EXPORT)
    from fcn_trt.export.network import save_network
    from fcn_trt.export.to_onnx import to_onnx

    def write(model: LoadedModel, path: Path, *, size=TINY_SIZE, batch: int = 1) -> Path:
        save_network(to_onnx(model, size=size, batch=batch)[0], path)
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
    from fcn_trt.engine.openvino import build_openvino

    return build_openvino(tiny_network, tiny_network.parent / "tiny")


@pytest.fixture(scope="session")
def make_frame() -> Callable[..., np.ndarray]:
    """A picture of blurred noise: neighbouring pixels differ little, as in a photograph."""
    import cv2

    def make(size=TINY_SIZE, *, seed: int = 0) -> np.ndarray:
        noise = np.random.default_rng(seed).integers(0, 256, (8, 12, 3), dtype=np.uint8)
        return np.asarray(cv2.resize(noise, (size[1], size[0]), interpolation=cv2.INTER_CUBIC))

    return make
