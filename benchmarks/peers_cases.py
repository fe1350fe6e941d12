"""What `benchmarks.peers` compares: others as their own pages show them, and ours.

torch eager      PyTorch Hub's page on FCN, its code to the letter: ToTensor, Normalize, the model
                 with the auxiliary head that the pretrained one has, on the GPU where there is one,
                 argmax of the full-size output
torch compiled   the same, with torch.compile on the model
ONNX Runtime     the ONNX Model Zoo's page on FCN: the same preprocessing, a model that ends in
                 full-size "out" and "aux", numpy's argmax
OpenVINO fp32    as a plain user calls it with the Zoo's model: full-size logits, numpy's argmax
OpenVINO no aux  the same with a model that was exported without its auxiliary head
OpenVINO as is   the Zoo's model and no word about precision: BF16 where the CPU has it
fcn_trt ...      `Segmenter.segment` on the bundle that `fcn-trt build` makes
torch fp16 ...   on a GPU: channels_last, normalised there, and the same with torch.compile

On a machine with a GPU all but OpenVINO's run on it, and OpenVINO's are left out.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import openvino as ov
import torch
from PIL import Image
from torch import nn
from torchvision import transforms
from torchvision.models.segmentation import fcn_resnet50

from fcn_trt.bench.random_bundle import quick_type
from fcn_trt.engine.manifest import Target
from fcn_trt.engine.openvino.builder import openvino_core, openvino_version
from fcn_trt.model.architecture import architecture
from fcn_trt.model.profile import profile
from fcn_trt.network.file import Network
from fcn_trt.pipeline.plan import Checking, Compile, Export, Plan
from fcn_trt.pipeline.run import run
from fcn_trt.runtime.segmenter import Segmenter
from fcn_trt.spec import Frame, LabelMap, Precision, Size

__all__ = ["EAGER", "MODEL", "NAMES", "Case", "is_on_gpu", "open_cases", "skipped"]

MODEL = "fcn_resnet50"
CLASSES = 21
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
EAGER = "torch eager"
NAMES = (
    *(EAGER, "torch compiled", "ONNX Runtime", "OpenVINO fp32", "OpenVINO no aux"),
    *("OpenVINO as is", "torch fp16", "torch fp16 compiled"),
    *("fcn_trt fp32", "fcn_trt fp16", "fcn_trt bf16", "fcn_trt int8"),
)
_CUDA_PROVIDER = "CUDAExecutionProvider"

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


def is_on_gpu() -> bool:
    """Whether everything here runs on a GPU."""
    return bool(torch.cuda.is_available())


def skipped() -> dict[str, str]:
    """What cannot run on this machine, and why."""
    found: dict[str, str] = {}
    try:
        import onnxruntime

        if is_on_gpu() and _CUDA_PROVIDER not in onnxruntime.get_available_providers():
            found["ONNX Runtime"] = "it was installed without CUDA; `pip install onnxruntime-gpu`"
    except ImportError:
        found["ONNX Runtime"] = "it is not installed; `pip install onnxruntime`"
    if is_on_gpu():
        reason = "it runs on the CPU, and the others on the GPU"
        found |= {name: reason for name in NAMES if name.startswith("OpenVINO")}
    else:
        reason = "torch sees no GPU"
        found |= dict.fromkeys(("torch fp16", "torch fp16 compiled", "fcn_trt fp16"), reason)
    return found


def open_cases(
    size: Size, folder: Path, stack: ExitStack, only: list[str] | None = None
) -> list[Case]:
    """Every case that runs here.

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
    gmac = profile(architecture(MODEL), size=size, num_classes=CLASSES).gmac
    chosen = [name for name in NAMES if name not in skipped() and (not only or name in only)]
    network = _export(module, size, folder)
    cases = []
    for name in chosen:
        if not name.startswith("fcn_trt"):
            what, segment = _peer(name, module, size, folder)
            cases.append(Case(name=name, what=what, segment=segment, gmac=gmac))
            continue
        precision = cast(Precision, name.split()[1])
        segmenter = stack.enter_context(_ours(network, precision, folder))
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


def _peer(name: str, module: nn.Module, size: Size, folder: Path) -> tuple[str, Segment]:
    """What it is, and its way from a frame to a label map."""
    if name.startswith("torch fp16"):
        return _torch_half(module, is_compiled=name.endswith("compiled"))
    if name.startswith("torch"):
        return _hub(module, is_compiled=name.endswith("compiled"))
    whole = _whole_onnx(module, folder / "whole.onnx")
    if name == "ONNX Runtime":
        return _onnxruntime(whole)
    if name == "OpenVINO as is":
        return _openvino(whole, size, {})
    config = {"INFERENCE_PRECISION_HINT": "f32"}
    return _openvino(whole, size, config, has_aux=name != "OpenVINO no aux")


def _hub(module: nn.Module, *, is_compiled: bool) -> tuple[str, Segment]:
    """PyTorch Hub's example; the last line is what makes the label map of its picture."""
    preprocess = _preprocess()
    model: Any = copy.deepcopy(module)
    if torch.cuda.is_available():
        model.to("cuda")
    if is_compiled:
        model = torch.compile(model)

    def segment(frame: Frame) -> LabelMap:
        input_image = Image.fromarray(frame[:, :, ::-1])
        input_tensor = preprocess(input_image)
        input_batch = input_tensor.unsqueeze(0)
        if torch.cuda.is_available():
            input_batch = input_batch.to("cuda")
        with torch.no_grad():
            output = model(input_batch)["out"][0]
        output_predictions = output.argmax(0)
        label_map: LabelMap = output_predictions.byte().cpu().numpy()
        return label_map

    how = "torch.compile" if is_compiled else "eager"
    threads = f"{torch.get_num_threads()} threads"
    return f"torch {torch.__version__}, {how}, with auxiliary head, {threads}", segment


def _torch_half(module: nn.Module, *, is_compiled: bool) -> tuple[str, Segment]:
    """As somebody writes it who knows torch: bytes to the GPU, everything else there."""
    model: Any = copy.deepcopy(module)
    model.aux_classifier = None
    model.to(device="cuda", dtype=torch.float16, memory_format=torch.channels_last)
    if is_compiled:
        model = torch.compile(model)
    mean, std = (torch.tensor(v, device="cuda").view(1, 3, 1, 1) * 255 for v in (MEAN, STD))

    def segment(frame: Frame) -> LabelMap:
        bgr = torch.from_numpy(frame).to("cuda", non_blocking=True)
        image = bgr.flip(2).permute(2, 0, 1)[None]
        half = ((image - mean) / std).to(torch.float16, memory_format=torch.channels_last)
        with torch.inference_mode():
            label_map: LabelMap = model(half)["out"][0].argmax(0).byte().cpu().numpy()
        return label_map

    how = "torch.compile" if is_compiled else "eager"
    return f"torch {torch.__version__}, FP16, channels_last, {how}, no auxiliary head", segment


def _preprocess() -> Any:
    return transforms.Compose(
        [transforms.ToTensor(), transforms.Normalize(mean=list(MEAN), std=list(STD))]
    )


def _onnxruntime(path: Path) -> tuple[str, Segment]:
    """The ONNX Model Zoo's recipe."""
    import onnxruntime

    provider = _CUDA_PROVIDER if is_on_gpu() else "CPUExecutionProvider"
    session = onnxruntime.InferenceSession(str(path), providers=[provider])
    preprocess = _preprocess()

    def segment(frame: Frame) -> LabelMap:
        image = preprocess(Image.fromarray(frame[:, :, ::-1])).detach().cpu().numpy()
        output, _ = session.run(["out", "aux"], {"input": image[None]})
        label_map: LabelMap = np.argmax(output[0], axis=0).astype(np.uint8)
        return label_map

    return f"onnxruntime {onnxruntime.__version__}, {provider}, its own number of threads", segment


def _openvino(
    path: Path, size: Size, config: dict[str, str], *, has_aux: bool = True
) -> tuple[str, Segment]:
    """A plain user of OpenVINO, who fixes the shape and asks for latency."""
    core = openvino_core()
    model = core.read_model(path)
    model.reshape({"input": [1, 3, *size]})
    if not has_aux:
        out, _ = model.get_results()
        model = ov.Model([out], model.get_parameters(), "no_aux")
    compiled = core.compile_model(model, "CPU", {"PERFORMANCE_HINT": "LATENCY", **config})
    output = compiled.output("out")
    mean, std = (np.array(values, dtype=np.float32) for values in (MEAN, STD))

    def segment(frame: Frame) -> LabelMap:
        image = (frame[:, :, ::-1].astype(np.float32) / 255 - mean) / std
        logits = compiled(np.ascontiguousarray(image.transpose(2, 0, 1)[None]))[output]
        label_map: LabelMap = logits[0].argmax(axis=0).astype(np.uint8)
        return label_map

    hint = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
    threads = compiled.get_property("INFERENCE_NUM_THREADS")
    head = "with" if has_aux else "without"
    return (
        f"OpenVINO {openvino_version()}, computes in {hint}, {head} auxiliary head, "
        f"{threads} threads",
        segment,
    )


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


def _export(module: nn.Module, size: Size, folder: Path) -> Network:
    """The same weights as our FP32 ONNX."""
    torch.save(module.state_dict(), folder / "random.pth")
    network = folder / "network.onnx"
    weights = str(folder / "random.pth")
    export = Export(model=MODEL, weights=weights, size=size, checking=Checking(is_on=False))
    return run(Plan(export=export), network).network


def _ours(network: Network, precision: Precision, folder: Path) -> Segmenter:
    """A bundle in a precision; INT8 is calibrated on two streets, which do not matter to speed."""
    target: Target = "tensorrt" if is_on_gpu() else "openvino"
    out = folder / f"bundle_{precision}"
    typing = quick_type(precision, network.spec.input_size)
    run(Plan(source=network, type=typing, compile=Compile(target=target)), out)
    return Segmenter.load(out)
