"""ONNX files as users have them, around a small network whose classes make patches."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from fcn_trt.errors import OnnxError
from fcn_trt.input_format import InputFormat
from fcn_trt.network.import_onnx import Imported, import_onnx
from fcn_trt.stages.decode import decode
from fcn_trt.stages.preprocess import preprocess

SIZE = (40, 56)
MEAN = torch.tensor([123.675, 116.28, 103.53]).view(1, 3, 1, 1)
STD = torch.tensor([58.395, 57.12, 57.375]).view(1, 3, 1, 1)


def network(channels: int = 3, classes: int = 5) -> nn.Module:
    """Takes normalised images, and ends at logits of stride 4 that differ much from each other."""
    torch.manual_seed(channels)
    net = nn.Sequential(
        nn.Conv2d(channels, 8, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, classes, 1),
    )
    for parameter in net.parameters():
        parameter.data *= 3
    with torch.no_grad():
        image = torch.from_numpy(np.stack([normalised(f) for f in FRAMES]))
        logits = net(image if channels == 3 else image[:, :1])
        net[-1].bias.data -= logits.mean((0, 2, 3))
    return net.eval()


def normalised(frame: Any) -> Any:
    rgb = frame[:, :, ::-1].astype(np.float32).transpose(2, 0, 1)
    return (rgb - MEAN.numpy()[0]) / STD.numpy()[0]


def plain(frame: Any) -> Any:
    """RGB of 0 to 255, the channels first."""
    return frame[:, :, ::-1].astype(np.float32).transpose(2, 0, 1)


def _frames() -> list[Any]:
    """Patches of colours of 8 pixels."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (4, SIZE[0] // 8, SIZE[1] // 8, 3), dtype=np.uint8)
    return list(small.repeat(8, axis=1).repeat(8, axis=2))


FRAMES = _frames()


def up(logits: torch.Tensor, size: tuple[int, int] = SIZE, **options: Any) -> torch.Tensor:
    return F.interpolate(logits, size=size, **{"mode": "bilinear", **options})


class Module(nn.Module):
    """A network, and what a user wraps around it."""

    def __init__(self, net: nn.Module, wrapped: Callable[[nn.Module, torch.Tensor], Any]) -> None:
        super().__init__()
        self.net, self.wrapped = net, wrapped

    def forward(self, image: torch.Tensor) -> Any:
        return self.wrapped(self.net, image)


def best(output: Any) -> Any:
    return output.argmax(1)[0]


def as_it_is(output: Any) -> Any:
    return np.squeeze(output)


def above(limit: float) -> Callable[[Any], Any]:
    return lambda output: np.squeeze(output) > limit


@dataclass(frozen=True, kw_only=True)
class UserFile:
    """A file, and how its user feeds and reads it.

    Attributes:
        wrapped: What it computes, of its network and its input.
        feed: Its input without the batch, of a frame.
        read: Its label map, of its output.
        said: What the user says of it.
        options: Of the import.
        export: Of the exporter.
        change: Of the file, after the exporter.
    """

    wrapped: Callable[[nn.Module, torch.Tensor], Any]
    feed: Callable[[Any], Any] = normalised
    read: Callable[[Any], Any] = best
    channels: int = 3
    classes: int = 5
    said: InputFormat | None = None
    options: dict[str, Any] = field(default_factory=dict)
    export: dict[str, Any] = field(default_factory=dict)
    change: Callable[[onnx.ModelProto], Any] | None = None

    def write(self, path: Path) -> Path:
        """Export it."""
        module = Module(network(self.channels, self.classes), self.wrapped).eval()
        image = torch.from_numpy(np.ascontiguousarray(self.feed(FRAMES[0]))[None])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # this exporter is deprecated, but wrote most files
            torch.onnx.export(
                module,
                (image,),
                path,
                dynamo=False,
                input_names=["input"],
                **{"opset_version": 17, "output_names": ["output"], **self.export},
            )
        if self.change is not None:
            model = onnx.load(path)
            onnx.save(self.change(model) or model, path)
        return path

    def take(self, path: Path) -> Imported:
        """Write and import it."""
        return import_onnx(self.write(path), size=SIZE, said=self.said, **self.options)

    def labels(self, path: Path) -> list[Any]:
        """The label maps that its user gets."""
        session = _session(path.read_bytes())
        feeds = [np.ascontiguousarray(self.feed(frame))[None] for frame in FRAMES]
        return [self.read(session.run(None, {"input": feed})[0]) for feed in feeds]


def our_labels(found: Imported, shapes: Sequence[tuple[int, int]]) -> list[Any]:
    """The label maps that the product makes of what was imported."""
    session, spec = _session(found.model.SerializeToString()), found.spec
    images = [preprocess(frame, SIZE, mean=spec.mean, std=spec.std) for frame in FRAMES]
    logits = [session.run(None, {"image": image[None]})[0][0] for image in images]
    return [
        decode(scores, shape, align_corners=spec.align_corners)
        for scores, shape in zip(logits, shapes, strict=True)
    ]


def agreement(ours: Sequence[Any], theirs: Sequence[Any]) -> float:
    """Share of pixels with the same label; those of their user have to differ among each other."""
    wanted = np.stack(theirs).astype(np.uint8)
    counts = np.bincount(wanted.ravel())
    assert np.count_nonzero(counts > 0.02 * wanted.size) > 1, "the network finds one class only"
    found = np.stack(ours)
    assert found.shape == wanted.shape
    return float((found == wanted).mean())


def _session(data: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def require_refused(case: UserFile, message: str, path: Path) -> None:
    """A file is refused in one sentence that matches a pattern."""
    with pytest.raises(OnnxError, match=message) as refusal:
        case.take(path)
    assert "\n" not in str(refusal.value)
