"""A loaded model run by PyTorch itself, between the same stages as an engine: the reference."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch

from fcn_trt.model.checkpoint import LoadedModel
from fcn_trt.spec import Frame, Process, Result, Size
from fcn_trt.stages.decode import decode
from fcn_trt.stages.preprocess import preprocess

__all__ = ["torch_process"]


def torch_process(model: LoadedModel, size: Size) -> Process:
    """Segment frames with a module, one after the other, on the CPU in float32.

    Args:
        size: (height, width) of the input that shall be used.
    """

    def process(frames: Iterable[Frame]) -> Iterator[Result]:
        for index, frame in enumerate(frames):
            image = preprocess(frame, size, mean=model.mean, std=model.std)
            with torch.inference_mode():
                logits = model.module(torch.from_numpy(image)[None])[0].numpy()
            labels = decode(
                logits,
                (frame.shape[0], frame.shape[1]),
                align_corners=model.module.arch.align_corners,
            )
            yield Result(frame=frame, label_map=labels, index=index)

    return process
