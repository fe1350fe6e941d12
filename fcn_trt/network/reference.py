"""A few frames, and what a network's source labels them as: what every later step is held against.

The source is the torch module of a checkpoint, or the user's own ONNX file as it is. The reference
lies in the metadata of our ONNX files under `REFERENCE_KEY` as JSON, PNGs in base64, so that it
travels in the one file that moves between machines. Needs neither onnx nor torch to be read.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydantic import ConfigDict, Field, ValidationError

from fcn_trt.errors import OnnxError
from fcn_trt.foreign import parse_json
from fcn_trt.onnx_wire import onnx_metadata
from fcn_trt.spec import REFERENCE_KEY, Frame, LabelMap, Size
from fcn_trt.type_adapter import type_adapter

__all__ = ["REFERENCE_FRAMES", "Reference", "read_reference", "shrink_to_fit"]

REFERENCE_FRAMES = 3
"""As many forward passes each check takes."""

MAX_BYTES = 2_900_000
"""Of all PNGs; base64 makes a third more of them, and an ONNX grows by 4 MB at most."""

_MAX_JSON = 6 << 20
_MAX_PIXELS = 1 << 25


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reference:
    """Frames, and their label maps by the source itself.

    Attributes:
        source: What computed the label maps, such as "PyTorch" or "my.onnx in ONNX Runtime".
        kind: What the frames are, for people.
        is_drawn: Whether they are drawn, and not the user's own.
        frames: Each (H, W, 3) uint8 BGR, of the network's size.
        label_maps: Each (H, W) uint8.
        kept: The frames as they are kept, which may be smaller.
    """

    source: str
    kind: str
    is_drawn: bool
    frames: tuple[Frame, ...]
    label_maps: tuple[LabelMap, ...]
    kept: tuple[Frame, ...]

    @classmethod
    def of(
        cls,
        label: Callable[[Frame], LabelMap],
        kept: Sequence[Frame],
        size: Size,
        *,
        source: str,
        kind: str,
        is_drawn: bool,
    ) -> Reference:
        """Ask the source.

        Args:
            label: The label map of a frame of the network's size.
            kept: From `shrink_to_fit`.
            size: (height, width) of the network's input.
        """
        frames = tuple(_resized(frame, size) for frame in kept)
        label_maps = tuple(label(frame) for frame in frames)
        sizes = [len(_png(a)) + len(_png(b)) for a, b in zip(kept, label_maps, strict=True)]
        while len(sizes) > 1 and sum(sizes) > MAX_BYTES:  # labels like noise take more than frames
            frames, label_maps, kept = frames[:-1], label_maps[:-1], kept[:-1]
            sizes.pop()
        return cls(
            source=source,
            kind=kind,
            is_drawn=is_drawn,
            frames=frames,
            label_maps=label_maps,
            kept=tuple(kept),
        )

    @property
    def classes(self) -> int:
        """How many classes the source finds in the frames."""
        return len(np.unique(np.concatenate([found.ravel() for found in self.label_maps])))

    def agreement(self, label: Callable[[Frame], LabelMap]) -> float:
        """The share of the pixels of all frames that are labelled as by the source."""
        pairs = zip(self.frames, self.label_maps, strict=True)
        return float(np.mean([np.mean(label(frame) == wanted) for frame, wanted in pairs]))

    def to_json(self) -> str:
        """As it stands in the metadata."""
        return json.dumps(
            {
                "source": self.source,
                "kind": self.kind,
                "is_drawn": self.is_drawn,
                "frames": [_encode(frame) for frame in self.kept],
                "label_maps": [_encode(label_map) for label_map in self.label_maps],
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Reference:
        """Read it back.

        Raises:
            ValueError: it is damaged.
        """
        if len(text) > _MAX_JSON:
            raise ValueError("it is too large")
        try:
            parse_json(text)  # which pydantic would explain value by value
            content = type_adapter(_Content).validate_json(text)
        except ValidationError as error:
            raise ValueError(error.errors()[0]["msg"]) from error
        if not 1 <= len(content.frames) == len(content.label_maps) <= REFERENCE_FRAMES:
            raise ValueError("it has no label map for each frame, or too many")
        try:
            kept = tuple(_decode(item, "RGB") for item in content.frames)
            maps = tuple(_decode(item, "L") for item in content.label_maps)
        except (OSError, SyntaxError, binascii.Error) as error:
            raise ValueError(str(error) or "an image is missing") from error
        for frame, labels in zip(kept, maps, strict=True):
            if frame.shape[0] > labels.shape[0] or frame.shape[1] > labels.shape[1]:
                raise ValueError("a frame is larger than its label map")
        frames = tuple(
            _resized(frame, (labels.shape[0], labels.shape[1]))
            for frame, labels in zip(kept, maps, strict=True)
        )
        return cls(
            source=content.source,
            kind=content.kind,
            is_drawn=content.is_drawn,
            frames=frames,
            label_maps=maps,
            kept=kept,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Content:
    """A reference as it stands in the metadata."""

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)

    source: Annotated[str, Field(max_length=400)]
    kind: Annotated[str, Field(max_length=400)]
    is_drawn: bool
    frames: tuple[str, ...]
    label_maps: tuple[str, ...]


def read_reference(data: bytes, name: str) -> Reference | None:
    """The reference in the bytes of an ONNX file of ours; None where it carries none.

    Args:
        data: All of them.
        name: What to call the file in messages.

    Raises:
        OnnxError: the file or the reference is damaged.
    """
    try:
        text = onnx_metadata(data).get(REFERENCE_KEY)
        return None if text is None else Reference.from_json(text)
    except (ValueError, RecursionError) as error:
        raise OnnxError(f"the reference in {name} is damaged ({error}); export it again") from error


def shrink_to_fit(frames: Sequence[Frame], size: Size) -> list[Frame]:
    """Frames of a network's own size, or of a half, a quarter, ... so that they are small enough.

    Args:
        size: (height, width) of the network's input.
    """
    height, width = size
    while True:
        fitted = [_resized(frame, (height, width)) for frame in frames]
        # Label maps are a tenth of what frames are.
        if 1.1 * sum(len(_png(frame)) for frame in fitted) < MAX_BYTES:
            return fitted
        height, width = (height + 1) // 2, (width + 1) // 2


def _resized(frame: Frame, size: Size) -> Frame:
    if frame.shape[:2] == size:
        return frame
    # Pillow's own averages over what a pixel becomes smaller than, as a camera's would.
    resized = Image.fromarray(frame).resize(size[::-1], Image.Resampling.BILINEAR)
    return np.asarray(resized)


def _png(image: npt.NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image[:, :, ::-1] if image.ndim == 3 else image).save(buffer, "PNG")
    return buffer.getvalue()


def _encode(image: npt.NDArray[np.uint8]) -> str:
    return base64.b64encode(_png(image)).decode()


def _decode(text: str, mode: str) -> npt.NDArray[np.uint8]:
    """A PNG as (H, W, 3) BGR or (H, W)."""
    data = base64.b64decode(text, validate=True)
    width, height = (int.from_bytes(data[at : at + 4], "big") for at in (16, 20))  # of IHDR
    if width * height > _MAX_PIXELS:  # Pillow would only warn of it, or raise what is no OSError
        raise ValueError(f"an image in it is {width}x{height}")
    image = Image.open(io.BytesIO(data), formats=["PNG"])
    if image.mode != mode or image.size != (width, height):
        raise ValueError(f"an image in it is {image.mode} instead of {mode}")
    pixels = np.asarray(image)
    return np.ascontiguousarray(pixels[:, :, ::-1]) if mode == "RGB" else pixels
