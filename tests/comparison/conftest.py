"""Sides that label by a rule that can be done by hand, and pages of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from fcn_trt.comparison.predictor import Predictor
from fcn_trt.spec import Frame, LabelMap, Spec
from tests.plans import as_results


@pytest.fixture(scope="session")
def grey(tiny_bundle) -> Callable[..., Predictor]:
    """A predictor whose labels are a function of the frame's blue channel."""

    def make(rule: Callable[[np.ndarray], np.ndarray], **changes: Any) -> Predictor:
        spec = Spec(**(tiny_bundle.manifest.spec.to_dict() | {"dynamic": None} | changes))

        def label(frame: Frame) -> LabelMap:
            return rule(frame[..., 0]).astype(np.uint8)

        return Predictor(
            name=changes.get("model", "rule"),
            kind="torch",
            description="a rule on the CPU",
            spec=spec,
            process=lambda frames: as_results((frame, label(frame)) for frame in frames),
        )

    return make


@pytest.fixture
def write_images(tmp_path: Path) -> Callable[..., Path]:
    """Write grey images, and nothing else, into a folder."""

    def write(images: dict[str, np.ndarray], folder: str = "images") -> Path:
        (tmp_path / folder).mkdir()
        for name, image in images.items():
            assert cv2.imwrite(str(tmp_path / folder / name), image.astype(np.uint8))
        return tmp_path / folder

    return write
