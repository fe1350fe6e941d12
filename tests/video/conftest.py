"""Real videos and images, made with OpenCV for each test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

SIZE = (48, 64)
CODECS = {".mp4": "mp4v", ".avi": "MJPG", ".mkv": "mp4v"}


@pytest.fixture
def make_video(tmp_path: Path) -> Callable[..., Path]:
    """Write a video whose frame k is grey of value 2 k."""

    def make(name: str = "in.mp4", count: int = 30, rate_fps: float = 25.0, keep=1.0) -> Path:
        path = tmp_path / name
        fourcc = cv2.VideoWriter.fourcc(*CODECS[path.suffix])
        writer = cv2.VideoWriter(str(path), fourcc, rate_fps, SIZE[::-1])
        for index in range(count):
            writer.write(np.full((*SIZE, 3), 2 * index % 256, dtype=np.uint8))
        writer.release()
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * keep)])
        return path

    return make


@pytest.fixture
def write_image() -> Callable[..., Path]:
    def write(path: Path, image: np.ndarray | None = None) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        image = np.zeros((*SIZE, 3), dtype=np.uint8) if image is None else image
        assert cv2.imwrite(str(path), image)
        return path

    return write
