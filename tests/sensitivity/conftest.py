"""The tiny network with labelled images, its calibration, and one analysis of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fcn_trt.comparison.images import ImageChoice
from tests.plans import as_network

IMAGES = 3
IGNORED = 9


class Bars:
    """Notes what a bar would show, and can stop after so many steps as Ctrl-C does."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.shown: list[tuple[str, int, int]] = []
        self.steps = 0
        self.stop_after = stop_after

    @contextmanager
    def __call__(self, title: str, total: int, *, done: int = 0):
        self.shown.append((title, total, done))
        yield self._step

    def _step(self) -> None:
        self.steps += 1
        if self.steps == self.stop_after:
            raise KeyboardInterrupt


@pytest.fixture
def bars() -> type[Bars]:
    return Bars


@pytest.fixture(scope="session")
def labelled(make_frame, tmp_path_factory) -> Path:
    """images/ and labels/ with three images of different sizes; label 9 is left out."""
    folder: Path = tmp_path_factory.mktemp("labelled")
    rng = np.random.default_rng(0)
    for kind in ("images", "labels"):
        (folder / kind).mkdir()
    for index in range(IMAGES):
        size = (60 + index, 90)
        Image.fromarray(make_frame(size, seed=index)).save(folder / "images" / f"{index}.png")
        truth = rng.choice(np.array([0, 1, 2, IGNORED], dtype=np.uint8), size=size)
        Image.fromarray(truth).save(folder / "labels" / f"{index}.png")
    return folder


@pytest.fixture(scope="session")
def choice(labelled) -> ImageChoice:
    return ImageChoice(folder=labelled / "images", labels=labelled / "labels", ignore=IGNORED)


@pytest.fixture(scope="session")
def write_calibration() -> Callable[[Path, Path, Path], Path]:
    """Calibrate a network on a folder of images into a file."""
    pytest.importorskip("onnx", reason="needs the extra: pip install 'fcn-trt[export]'")
    from fcn_trt.calibration.cache import write_calibration
    from fcn_trt.calibration.calibrate import calibrate
    from fcn_trt.calibration.images import RangeImages
    from fcn_trt.spec import read_spec

    def write(network: Path, images: Path, out: Path) -> Path:
        frames = RangeImages(
            folders=(images,), limit=IMAGES, streets=0, size=read_spec(network).input_size
        )
        cache = calibrate(
            as_network(network), frames, method="minmax", created="2026-11-21", state_folder=None
        )
        write_calibration(cache, out)
        return out

    return write


@pytest.fixture(scope="session")
def calibration(tiny_network, labelled, write_calibration, tmp_path_factory) -> Path:
    """Of the tiny network. Read only."""
    out = tmp_path_factory.mktemp("calibration") / "tiny.json"
    made: Path = write_calibration(tiny_network, labelled / "images", out)
    return made


@pytest.fixture(scope="session")
def analysed(tiny_network, calibration, choice, tmp_path_factory) -> tuple[Any, Path]:
    """An undisturbed analysis of the tiny network, and its file. Read only."""
    from fcn_trt.sensitivity.analyse import analyse
    from fcn_trt.sensitivity.result import Bound, Question

    out = tmp_path_factory.mktemp("analysed") / "result.json"
    said: list[str] = []
    question = Question(precision="int8", bound=Bound(min_agreement=97.6))
    found = analyse(
        tiny_network, calibration, choice, question, out=out, bar=Bars(), say=said.append
    )
    return found, out
