"""What arrays have to be where a user's own enter: one check, one sentence, and the way out.

OpenCV and numpy would take some of the others, such as a torch tensor, for what they are not, or
refuse them in words of their own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["BGRX", "FRAME", "IMAGES", "LABEL_MAP", "LOGITS", "NV12", "PALETTE", "ArrayKind"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrayKind:
    """A kind of array, however it lies in memory.

    Attributes:
        name: With its article.
        shape: Of each side, how long it is; None where it may be of any length from 1 on.
        types: Element types that it may have.
        words: All of that in words.
    """

    name: str
    shape: tuple[int | None, ...]
    types: tuple[type[np.generic], ...]
    words: str

    def check(self, value: object) -> None:
        """Refuse what is not of this kind.

        Raises:
            ValueError: it is something else.
        """
        if (
            isinstance(value, np.ndarray)
            and value.ndim == len(self.shape)
            and value.size
            and value.dtype in self.types
            and all(side in (None, has) for side, has in zip(self.shape, value.shape, strict=True))
        ):
            return
        raise self.refusal(value)

    def refusal(self, value: object) -> ValueError:
        """Make the error for a value that is not of this kind."""
        remedy = _remedy(value, self)
        return ValueError(
            f"{self.name} is {self.words}, but this one is {_describe(value)}"
            f"{f'; {remedy}' if remedy else ''}"
        )


FRAME = ArrayKind(
    name="a frame",
    shape=(None, None, 3),
    types=(np.uint8,),
    words="(height, width, 3) uint8 BGR",
)
"""That it is not RGB cannot be told."""

LABEL_MAP = ArrayKind(
    name="a label map", shape=(None, None), types=(np.uint8,), words="(height, width) uint8"
)
LOGITS = ArrayKind(
    name="an array of logits",
    shape=(None, None, None),
    types=(np.float16, np.float32),
    words="(classes, h, w) float16 or float32",
)
IMAGES = ArrayKind(
    name="a batch of images",
    shape=(None, 3, None, None),
    types=(np.float32,),
    words="(N, 3, height, width) float32",
)
BGRX = ArrayKind(
    name="BGRx", shape=(None, None, 4), types=(np.uint8,), words="(height, width, 4) uint8"
)
NV12 = ArrayKind(
    name="NV12",
    shape=(None, None),
    types=(np.uint8,),
    words="(1.5 x height, width) uint8 with an even height and width",
)
PALETTE = ArrayKind(name="a palette", shape=(None, 3), types=(np.uint8,), words="(C, 3) uint8 BGR")


def _describe(value: object) -> str:
    """Describe the shape and type of an array, or the type of anything else."""
    if value is None:
        return "None"
    kind = type(value)
    name = f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    held = f"{tuple(shape)} {dtype}" if isinstance(shape, tuple) and dtype is not None else ""
    return held if isinstance(value, np.ndarray) else f"a {name} {held}".rstrip()


def _remedy(value: object, kind: ArrayKind) -> str:
    """Say what makes it one of the kind, or "" if nobody knows."""
    if not isinstance(value, np.ndarray):
        return _remedy_of_other(value)
    if not value.size:
        return "it is empty"
    return _remedy_of_array(value) if kind is FRAME else _remedy_of_type(value, kind)


def _remedy_of_other(value: object) -> str:
    if value is None:
        return "cv2.imread gives None for a file that it cannot read"
    if isinstance(value, str | bytes) or hasattr(value, "__fspath__"):
        return "cv2.imread reads a picture, and fcn_trt.stream a video"
    if hasattr(value, "getbands"):
        return "make it an array with numpy.asarray(picture.convert('RGB'))[..., ::-1]"
    if hasattr(value, "detach"):
        return "make it an array with tensor.cpu().numpy(), channels last"
    if isinstance(value, list | tuple):
        return "make it an array with numpy.asarray, or pass several to segment_batch"
    return "make it a numpy array"


def _remedy_of_array(frame: npt.NDArray[np.generic]) -> str:
    """Say what makes a frame of another array: what helps its shape first, then its type."""
    shape = frame.shape
    if len(shape) == 4:
        return "segment_batch takes several"
    if shape[1:] == (3,):
        return "where several frames are taken, one goes into a list"
    if len(shape) == 2 or shape[2:] == (1,):
        return "cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR) makes one of a grey picture"
    if shape[2:] == (4,):
        return "frame[..., :3] is the colours without the fourth channel"
    if len(shape) == 3 and shape[2] != 3:
        is_first = shape[0] in (3, 4)
        return "frame.transpose(1, 2, 0) moves the channels to the end" if is_first else ""
    return _remedy_of_type(frame, FRAME)


def _remedy_of_type(value: npt.NDArray[np.generic], kind: ArrayKind) -> str:
    if value.dtype in kind.types or np.uint8 not in kind.types:
        return ""
    if value.dtype == np.uint16 and kind is FRAME:
        return "(frame / 257).round().astype('uint8') scales it"
    if value.dtype.kind == "f" and kind is FRAME:
        return "(255 * frame).round().astype('uint8') scales one of 0 to 1"
    return "astype('uint8') makes it one if its values are 0 to 255"
