"""What `benchmarks.peers` compares: others as their own pages show them, and ours.

torch eager      PyTorch Hub's page on FCN, its code to the letter: ToTensor, Normalize, the model
                 with the auxiliary head that the pretrained one has, argmax of the full-size output
torch compiled   the same, with torch.compile on the model
ONNX Runtime     the ONNX Model Zoo's page on FCN: the same preprocessing, a model that ends in
                 full-size "out" and "aux", numpy's argmax
OpenVINO fp32    as a plain user calls it: full-size logits, numpy's argmax, in FP32
OpenVINO as is   the same without a word about precision: OpenVINO takes BF16 where the CPU has it
fcn_trt ...      `Segmenter.segment` on the bundle that `fcn-trt build` makes
torch fp16 ...   on a GPU: channels_last, and the same with torch.compile
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import torch
from PIL import Image
from torch import nn
from torchvision import transforms
from torchvision.models.segmentation import fcn_resnet50

from fcn_trt.bench.random_bundle import quick_quantisation
from fcn_trt.engine.build import build_engine
from fcn_trt.export.architecture import architecture
from fcn_trt.export.pipeline import export_model, load_model, type_network
from fcn_trt.export.profile import profile
from fcn_trt.manifest import Target
from fcn_trt.options import BuildOptions
from fcn_trt.runtime.segmenter import Segmenter
from fcn_trt.spec import Frame, LabelMap, Precision, Size

__all__ = ["MODEL", "Case", "open_cases", "skipped"]

MODEL = "fcn_resnet50"
CLASSES = 21
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
OURS: tuple[Precision, ...] = ("fp32", "bf16", "int8")

Segment = Callable[[Frame], LabelMap]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One way from a frame to its label map.

    Attributes:
        name: What it is called in the table.
        what: What it is, with versions.
        segment: The way.
        gmac: Of the network without an auxiliary head.
        precision: What its convolutions compute in, where that is known.
        segmenter: Ours, whose stages can be timed; None of the others.
    """

    name: str
    what: str
    segment: Segment
    gmac: float
    precision: Precision | None = None
    segmenter: Segmenter | None = None


def skipped() -> dict[str, str]:
    """What cannot run on this machine, and why."""
    found: dict[str, str] = {}
    try:
        import onnxruntime  # noqa: F401  # whether it is there
    except ImportError:
        found["ONNX Runtime"] = "it is not installed; `pip install onnxruntime`"
    if not torch.cuda.is_available():
        reason = "torch sees no GPU"
        found |= dict.fromkeys(("torch fp16", "torch fp16 compiled", "fcn_trt on the GPU"), reason)
    return found


def open_cases(
    size: Size, folder: Path, stack: ExitStack, only: list[str] | None = None
) -> list[Case]:
    """Every case that runs here, ready and warm.

    Args:
        size: (height, width) of the frames.
        folder: For files that the stack outlives.
        stack: Closes what must be closed.
        only: Names; None is all.
    """
    torch.manual_seed(0)
    module = fcn_resnet50(
        weights=None, weights_backbone=None, num_classes=CLASSES, aux_loss=True
    ).eval()
    network = _export(module, size, folder)
    gmac = profile(architecture(MODEL), size=size, num_classes=CLASSES).gmac
    whole = folder / "whole.onnx"
    makers: dict[str, Callable[[], tuple[str, Segment]]] = {
        "torch eager": lambda: (f"torch {torch.__version__}, eager", _hub(module)),
        "torch compiled": lambda: (
            f"torch {torch.__version__}, torch.compile",
            _hub(torch.compile(module)),
        ),
        "ONNX Runtime": lambda: _onnxruntime(_whole_onnx(module, whole)),
        "OpenVINO fp32": lambda: _openvino(
            _whole_onnx(module, whole), size, {"INFERENCE_PRECISION_HINT": "f32"}
        ),
        "OpenVINO as is": lambda: _openvino(_whole_onnx(module, whole), size, {}),
        "torch fp16": lambda: ("channels_last", _hub_gpu(module, compiled=False)),
        "torch fp16 compiled": lambda: (
            "channels_last, torch.compile",
            _hub_gpu(module, compiled=True),
        ),
    }
    missing = skipped()
    cases = [
        Case(name=name, what=what, segment=segment, gmac=gmac)
        for name, maker in makers.items()
        if name not in missing and (only is None or name in only)
        for what, segment in (maker(),)
    ]
    target: Target = "openvino" if "fcn_trt on the GPU" in missing else "tensorrt"
    for precision in OURS:
        name = f"fcn_trt {precision}"
        if only is None or name in only:
            segmenter = stack.enter_context(_ours(network, precision, target, folder))
            cases.append(
                Case(
                    name=name,
                    what=segmenter.description,
                    segment=segmenter.segment,
                    gmac=gmac,
                    precision=precision,
                    segmenter=segmenter,
                )
            )
    return cases


def _hub(model: Any) -> Segment:
    """PyTorch Hub's example; the last line is what makes the label map of its picture."""
    preprocess = _preprocess()

    def segment(frame: Frame) -> LabelMap:
        input_image = Image.fromarray(frame[:, :, ::-1])
        input_batch = preprocess(input_image).unsqueeze(0)
        with torch.no_grad():
            output = model(input_batch)["out"][0]
        label_map: LabelMap = output.argmax(0).byte().cpu().numpy()
        return label_map

    return segment


def _hub_gpu(module: nn.Module, *, compiled: bool) -> Segment:
    """The same on a GPU in FP16; the label map is back on the host when it returns."""
    model: Any = module.to(device="cuda", dtype=torch.float16, memory_format=torch.channels_last)
    model = torch.compile(model) if compiled else model
    preprocess = _preprocess()

    def segment(frame: Frame) -> LabelMap:
        image = preprocess(Image.fromarray(frame[:, :, ::-1])).unsqueeze(0)
        half = image.to("cuda", torch.float16).contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            label_map: LabelMap = model(half)["out"][0].argmax(0).byte().cpu().numpy()
        return label_map

    return segment


def _preprocess() -> Any:
    return transforms.Compose(
        [transforms.ToTensor(), transforms.Normalize(mean=list(MEAN), std=list(STD))]
    )


def _onnxruntime(path: Path) -> tuple[str, Segment]:
    """The ONNX Model Zoo's recipe."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    preprocess = _preprocess()

    def segment(frame: Frame) -> LabelMap:
        image = preprocess(Image.fromarray(frame[:, :, ::-1])).detach().cpu().numpy()
        output, _ = session.run(["out", "aux"], {"input": image[None]})
        label_map: LabelMap = np.argmax(output[0], axis=0).astype(np.uint8)
        return label_map

    return f"onnxruntime {onnxruntime.__version__}, CPUExecutionProvider", segment


def _openvino(path: Path, size: Size, config: dict[str, str]) -> tuple[str, Segment]:
    """A plain user of OpenVINO, who fixes the shape and asks for latency."""
    core = ov.Core()
    model = core.read_model(path)
    model.reshape({"input": [1, 3, *size]})
    compiled = core.compile_model(model, "CPU", {"PERFORMANCE_HINT": "LATENCY", **config})
    output = compiled.output("out")
    mean, std = (np.array(values, dtype=np.float32) for values in (MEAN, STD))

    def segment(frame: Frame) -> LabelMap:
        image = (frame[:, :, ::-1].astype(np.float32) / 255 - mean) / std
        logits = compiled(np.ascontiguousarray(image.transpose(2, 0, 1)[None]))[output]
        label_map: LabelMap = logits[0].argmax(axis=0).astype(np.uint8)
        return label_map

    hint = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
    return f"OpenVINO {ov.__version__}, computes in {hint}", segment


class _Outputs(nn.Module):
    """The model's two outputs as a tuple, which is what an ONNX file has."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        found = self.module(image)
        return found["out"], found["aux"]


def _whole_onnx(module: nn.Module, path: Path) -> Path:
    """The model as the Zoo has it: any size in, full-size "out" and "aux" out."""
    if not path.exists():
        sides = {0: "batch", 2: "height", 3: "width"}
        torch.onnx.export(
            _Outputs(module).eval(),  # in training it would put the module back into training
            (torch.zeros(1, 3, 520, 520),),
            path,
            input_names=["input"],
            output_names=["out", "aux"],
            dynamic_axes={"input": sides, "out": sides, "aux": sides},
            opset_version=17,
            dynamo=False,
        )
    return path


def _export(module: nn.Module, size: Size, folder: Path) -> Path:
    """The same weights as our FP32 ONNX."""
    torch.save(module.state_dict(), folder / "random.pth")
    network = folder / "network.onnx"
    export_model(load_model(MODEL, str(folder / "random.pth")), network, size=size)
    return network


def _ours(network: Path, precision: Precision, target: Target, folder: Path) -> Segmenter:
    """A bundle in a precision; INT8 is calibrated on two streets, which do not matter to speed."""
    typed = network
    if precision != "fp32":
        typed = folder / f"{precision}.onnx"
        how = (
            quick_quantisation(network, folder / "calibration.json", float_precision="fp32")
            if precision == "int8"
            else None
        )
        type_network(network, typed, precision, quantisation=how)
    out = folder / f"bundle_{precision}"
    build_engine(typed, out, target=target, options=BuildOptions())
    return Segmenter.load(out)
