"""What is done with each image of a data set before its labels are compared."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from pydantic import ConfigDict

from fcn_trt.spec import Size

__all__ = ["Protocol", "Slide", "scaled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Slide:
    """A set of windows that overlap, instead of the whole image at once.

    Attributes:
        crop: (height, width) of a window in pixels; a smaller image is one window.
        stride: (down, across) from one to the next in pixels, at most the crop.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)

    crop: Size
    stride: Size

    def __post_init__(self) -> None:
        if min(self.stride) < 1 or any(s > c for s, c in zip(self.stride, self.crop, strict=True)):
            raise ValueError(
                f"stride {self.stride} of windows of {self.crop} would leave pixels out; it is 1 "
                "to the window's side"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """A protocol: how an image becomes logits of the size at which they meet the truth.

    Attributes:
        name: Whose protocol it is, and what was changed in it.
        source: Where it is written down.
        resize: What size the image gets: that of the engine, its own ("none"), `size` itself, the
            largest of its own ratio within `size` ("box"), or the one whose short side is that of
            `size` ("short side").
        size: (height, width) in pixels, where `resize` needs one.
        kernel: How pixels are resized: "cv2" bilinear on uint8, "pillow" bilinear on uint8, which
            averages where it shrinks, or "float" bilinear, not rounded to whole grey levels.
        pad: (height, width) in pixels up to which black is added below and at the right, or None.
        slide: Windows, or None for the whole image at once.
        scales: Sizes of the image, as factors of what `resize` says.
        flip: Whether each size is computed mirrored, too. With several views, the mean of their
            softmax decides.
        logits: How the logits get to the size of comparison: "direct", or "input", which goes
            over the size of the network's input.
        truth: The size of comparison: the "image" as it is in the data set, or the network's
            "input", to which the truth is resized.
        truth_kernel: Which pixel is nearest, where the truth is resized: the one under the
            "centre" as in Pillow, or under the upper left "corner" as in torch.
        align_corners: How logits are interpolated.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    name: str
    source: str
    resize: Literal["engine", "none", "size", "box", "short side"]
    size: Size | None = None
    kernel: Literal["cv2", "pillow", "float"] = "cv2"
    pad: Size | None = None
    slide: Slide | None = None
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    logits: Literal["direct", "input"] = "input"
    truth: Literal["image", "input"] = "image"
    truth_kernel: Literal["centre", "corner"] = "centre"
    align_corners: bool = False

    def __post_init__(self) -> None:
        if (self.size is None) != (self.resize in ("engine", "none")):
            raise ValueError(f"resize {self.resize!r} does not go with size {self.size}")
        if not self.scales or min(self.scales) <= 0:
            raise ValueError(f"scales {self.scales} must be positive, and at least one")

    @property
    def is_plain(self) -> bool:
        """Whether it is what `fcn-trt run` does with a frame."""
        return (
            (self.resize, self.kernel, self.logits, self.truth)
            == ("engine", "cv2", "direct", "image")
            and self.pad is None
            and self.slide is None
            and self.has_one_view
        )

    @property
    def has_one_view(self) -> bool:
        """Whether the image is computed once, as `resize` says."""
        return self.scales == (1.0,) and not self.flip

    def base_size(self, frame: Size, engine: Size) -> Size:
        """Compute the size that `resize` says, before scales and padding.

        Args:
            frame: (height, width) of the image in pixels.
            engine: (height, width) of the engine's input in pixels.
        """
        if self.size is None:
            return frame if self.resize == "none" else engine
        if self.resize == "size":
            return self.size
        if self.resize == "box":
            return _fitted(frame, self.size)
        # torchvision's _compute_resized_output_size
        short, long = min(self.size), int(min(self.size) * max(frame) / min(frame))
        return (short, long) if frame[0] <= frame[1] else (long, short)

    def sentence(self) -> str:
        """Say in words what is done."""
        sides = "" if self.size is None else "x".join(map(str, self.size))
        image = {
            "engine": "resized to the engine's input",
            "none": "at its own size",
            "size": f"resized to {sides}",
            "box": f"within {sides} at its ratio",
            "short side": f"with a short side of {min(self.size or (0,))}",
        }[self.resize]
        parts = [f"each image {image}"]
        if self.pad is not None:
            parts.append("padded to {}x{}".format(*self.pad))
        if self.slide is not None:
            parts.append(
                "in windows of {}x{} every {}x{}".format(*self.slide.crop, *self.slide.stride)
            )
        if self.scales != (1.0,):
            parts.append("at scales " + ", ".join(f"{scale:g}" for scale in self.scales))
        if self.flip:
            parts.append("also mirrored")
        parts.append(
            "compared at its own size" if self.truth == "image" else "compared at that size"
        )
        return f"protocol {self.name}: {', '.join(parts)} ({self.source})"

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain Python values, of which JSON is made."""
        return asdict(self)


def scaled(size: Size, factor: float) -> Size:
    """Multiply a size by a factor, in whole pixels.

    Source: mmcv 2.1 transforms/processing.py, `Resize` with a scale_factor that keeps the ratio.
    """
    return size if factor == 1 else _fitted(size, _times(size, factor))


def _fitted(size: Size, box: Size) -> Size:
    """Find the largest size of the same ratio within a box, whichever way the box lies.

    Source: mmcv 2.1 image/geometric.py, `rescale_size`.
    """
    return _times(size, min(max(box) / max(size), min(box) / min(size)))


def _times(size: Size, factor: float) -> Size:
    """Multiply and round; of a long thin image a pixel stays."""
    return max(1, int(size[0] * factor + 0.5)), max(1, int(size[1] * factor + 0.5))
