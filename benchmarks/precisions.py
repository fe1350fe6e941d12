"""Frame to label map in INT8 and FP32, against PyTorch as its own example runs it, in turns.

    python -m benchmarks.precisions [--size 512x1024 ...] [--runs 7]

"torch" is the code of PyTorch Hub's page on FCN: ToTensor, Normalize, the model in eager mode, the
argmax of its full-size output; as the pretrained model there has it, with the auxiliary head, which
it computes and throws away. The others are `Segmenter.segment` on the bundles that `fcn-trt
build` makes for this CPU. All have the same random weights, and get the same street.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torchvision import transforms
from torchvision.models.segmentation import fcn_resnet50

from benchmarks.measure import interleave, ratios, save, summary
from fcn_trt.demo.scene import StreetScene
from fcn_trt.engine.openvino import build_openvino
from fcn_trt.export.calibrate import calibrate
from fcn_trt.export.calibration_cache import write_calibration
from fcn_trt.export.pipeline import export_model, load_model, type_network
from fcn_trt.export.quantisation import Quantisation
from fcn_trt.range_images import RangeImages
from fcn_trt.runtime.segmenter import Segmenter
from fcn_trt.spec import Frame, Size, parse_size

SIZES = ("256x512", "512x1024", "1024x2048")
MODEL = "fcn_resnet50"


def main() -> None:
    """Print the medians and how many times as fast each is, and write precisions.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--size", action="append", help="; ".join(SIZES))
    parser.add_argument("--runs", type=int, default=7, help="turns of each size")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("precisions.json"))
    options = parser.parse_args()
    torch.manual_seed(0)
    module = fcn_resnet50(weights=None, weights_backbone=None, num_classes=21, aux_loss=True).eval()
    eager = _example(module)
    with tempfile.TemporaryDirectory() as name:
        torch.save(module.state_dict(), Path(name) / "random.pth")
        loaded = load_model(MODEL, str(Path(name) / "random.pth"))
    results = []
    for text in options.size or SIZES:
        size = parse_size(text)
        frame, _ = StreetScene(7).render(0, size)
        with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            fp32, int8 = (
                stack.enter_context(Segmenter.load(bundle))
                for bundle in _bundles(Path(folder), loaded, size)
            )
            print(f"{text}: {int8.description}")
            ways = {"torch": eager, "fp32": fp32.segment, "int8": int8.segment}
            calls = {name: partial(way, frame) for name, way in ways.items()}
            seconds = interleave(calls, runs=options.runs)
        row: dict[str, Any] = {"model": MODEL, "size": text, "int8_runs_in": int8.description}
        row |= {name: summary(values) for name, values in seconds.items()}
        row["int8_against_torch"] = ratios(seconds["torch"], seconds["int8"])
        row["fp32_against_torch"] = ratios(seconds["torch"], seconds["fp32"])
        row["int8_against_fp32"] = ratios(seconds["fp32"], seconds["int8"])
        results.append(row)
        print(
            f"  torch {row['torch']['median_ms']:8.0f} ms  fp32 {row['fp32']['median_ms']:8.0f} ms"
            f"  int8 {row['int8']['median_ms']:8.0f} ms; int8 is "
            f"{row['int8_against_torch']['median']:.2f} times as fast as torch, "
            f"{row['int8_against_fp32']['median']:.2f} times as fast as fp32"
        )
        save(options.out, results)


def _example(model: Any) -> Callable[[Frame], Any]:
    """PyTorch Hub's example, from a frame to its label map."""
    preprocess = transforms.Compose(
        [
            transforms.ToTensor(),
            transforms.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]),
        ]
    )

    def segment(frame: Frame) -> Any:
        image = Image.fromarray(frame[:, :, ::-1])
        with torch.no_grad():
            output = model(preprocess(image).unsqueeze(0))["out"][0]
        return output.argmax(0).byte().numpy()

    return segment


def _bundles(folder: Path, loaded: Any, size: Size) -> tuple[Path, Path]:
    """FP32, and INT8 calibrated on two streets: the numbers do not matter to the speed."""
    network, cache, typed = (folder / name for name in ("n.onnx", "c.json", "q.onnx"))
    export_model(loaded, network, size=size)
    streets = RangeImages(streets=2, size=size)
    write_calibration(calibrate(network, streets, method="minmax", created="-"), cache)
    how = Quantisation(calibration=cache, float_precision="fp32")
    type_network(network, typed, "int8", quantisation=how)
    build_openvino(network, folder / "fp32")
    build_openvino(typed, folder / "int8")
    return folder / "fp32", folder / "int8"


if __name__ == "__main__":
    main()
