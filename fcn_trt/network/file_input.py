"""The image that a foreign file takes, and how that is made from a frame."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnx

from fcn_trt.errors import OnnxError
from fcn_trt.input_format import Rgb
from fcn_trt.spec import Size

__all__ = ["GREY", "FileInput", "Normalisation", "file_input"]

GREY = (0.299, 0.587, 0.114)
"""Of R, G and B: ITU-R BT.601, as cv2 and PIL make grey."""

_FLOATS = ("FLOAT", "FLOAT16", "BFLOAT16", "DOUBLE")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileInput:
    """The image that a file takes.

    Attributes:
        name: Of the input.
        kind: Its element type in the file, a number of onnx.TensorProto.
        layout: "NCHW" or "NHWC".
        channels: 3, or 1 if it is grey.
        batch: Images per inference that the file fixes, or None.
        size: (height, width) that the file fixes, or None.
    """

    name: str
    kind: int
    layout: str
    channels: int
    batch: int | None
    size: Size | None

    def shape(self, batch: int, size: Size) -> tuple[int, ...]:
        """Its shape for so many images of one size."""
        sides = {"N": batch, "C": self.channels, "H": size[0], "W": size[1]}
        return tuple(sides[letter] for letter in self.layout)


@dataclass(frozen=True, slots=True, kw_only=True)
class Normalisation:
    """How the input of a file is made from an image.

    Attributes:
        mean: Per channel R, G, B, subtracted from pixels of 0 to 255.
        std: Per channel R, G, B, divides after the mean.
        is_bgr: Whether the file's input has its channels in the order B, G, R.
    """

    mean: Rgb
    std: Rgb
    is_bgr: bool


def file_input(model: onnx.ModelProto, path: Path) -> FileInput:
    """The one input that is no weight.

    Raises:
        OnnxError: there are more, or it is no image.
    """
    constants = {tensor.name for tensor in model.graph.initializer}
    images = [value for value in model.graph.input if value.name not in constants]
    if len(images) != 1:
        raise OnnxError(f"{path} has {len(images)} inputs, but an FCN has one image")
    tensor = images[0].type.tensor_type
    kind = onnx.TensorProto.DataType.Name(tensor.elem_type)
    dims = [dim.dim_value or None for dim in tensor.shape.dim]
    if len(dims) != 4 or kind not in (*_FLOATS, "UINT8"):
        raise OnnxError(
            f"{path} has an input of {len(dims)} dimensions of {kind}, but it must be (N, 3, H, W) "
            "or (N, H, W, 3) of floats or UINT8; export it with such an input"
        )
    layouts = [name for name in ("NCHW", "NHWC") if dims[name.index("C")] in (1, 3, 4)]
    layouts = layouts or [name for name in ("NCHW", "NHWC") if dims[name.index("C")] is None]
    sides = dict(zip(layouts[0], dims, strict=True)) if layouts else {"C": 0}
    if sides["C"] not in (1, 3, None):
        shape = ", ".join(str(dim or "?") for dim in dims)
        raise OnnxError(
            f"{path} has an input of ({shape}), but an image has 3 channels, or 1 if it is grey; "
            "export a network that takes no more than the image"
        )
    if len(layouts) > 1 and _is_transposed_first(model, images[0].name):
        layouts.reverse()
    height, width = sides["H"], sides["W"]
    return FileInput(
        name=images[0].name,
        kind=tensor.elem_type,
        layout=layouts[0],
        channels=sides["C"] or 3,
        batch=sides["N"],
        size=None if height is None or width is None else (height, width),
    )


def _is_transposed_first(model: onnx.ModelProto, name: str) -> bool:
    """Whether the input goes through a Transpose to NCHW before anything else."""
    for node in model.graph.node:
        if name in node.input and node.op_type in ("Cast", "Identity"):
            name = node.output[0]
        elif name in node.input and node.op_type == "Transpose":
            return list(node.attribute[0].ints) == [0, 3, 1, 2]
    return False
