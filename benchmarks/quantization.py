"""What INT8 and FP8 cost in accuracy: two checkpoints, four ways to choose amax, on CamVid val.

    python -m benchmarks.quantization [--data DIR] [--out FILE.json] [--precision int8|fp8]

Both networks are calibrated once, on 64 images of CamVid train spread evenly over it, and every
method chooses from the same histograms. The typed ONNX is computed by OpenVINO on this CPU, FP8 by
rounding to it in FP32. Nothing is timed. With --precision only its rows are measured anew, and
FP32's, which they are compared with; the others in FILE.json stay if they are of the same weights.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from benchmarks.measure import RESULTS, save
from fcn_trt.bench.result_file import read_result
from fcn_trt.calibration.amax import METHODS, Method
from fcn_trt.calibration.cache import write_calibration
from fcn_trt.calibration.calibrate import calibrate
from fcn_trt.calibration.images import RangeImages
from fcn_trt.engine.openvino.builder import compile_trial, computes
from fcn_trt.evaluation.agreement import Agreement
from fcn_trt.evaluation.datasets import Dataset, open_dataset
from fcn_trt.evaluation.metrics import ConfusionMatrix
from fcn_trt.files import sha256
from fcn_trt.network.file import Network
from fcn_trt.pipeline.plan import Checking, Export, Plan, Type
from fcn_trt.pipeline.run import run
from fcn_trt.spec import QUANTISED, FloatPrecision, LabelMap, QuantisedPrecision
from fcn_trt.stages.decode import decode
from fcn_trt.stages.preprocess import preprocess

SIZE = (360, 480)
IMAGES = 64


@dataclass(frozen=True, kw_only=True)
class Case:
    """One way to quantise."""

    precision: QuantisedPrecision
    rest: FloatPrecision
    method: Method


def main() -> None:
    """Write quantization.json row by row, and print a Markdown table at the end."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    beside = Path(__file__).parents[2] / "shared" / "data"
    data = Path(os.environ.get("FCN_TRT_SHARED", beside))
    parser.add_argument("--data", type=Path, default=data, help="holds camvid/ and checkpoints/")
    parser.add_argument("--out", type=Path, default=RESULTS / "quantization.json")
    parser.add_argument("--precision", choices=QUANTISED, help="measure no other anew")
    options = parser.parse_args()
    demo = resources.files("fcn_trt.demo") / "weights.safetensors"
    with resources.as_file(demo) as weights, tempfile.TemporaryDirectory() as folder:
        checkpoints = {
            "full width": options.data / "checkpoints" / "fcn_r18-d8_camvid.pth",
            "demo": weights,
        }
        rows = _rows_to_keep(options.out, checkpoints, options.precision)
        cases = [case for case in _cases() if options.precision in (None, case.precision)]
        for name, checkpoint in checkpoints.items():
            for row in _rows(checkpoint, options.data / "camvid", Path(folder), cases):
                print(row, file=sys.stderr, flush=True)
                rows.append({"model": name} | row)
                rows.sort(
                    key=lambda row: (row["model"] != "full width", row["precision"] != "fp32")
                )
                with redirect_stdout(sys.stderr):
                    save(options.out, rows, command="python -m benchmarks.quantization")
    print(_table(rows))


def _rows_to_keep(
    out: Path, checkpoints: dict[str, Path], precision: QuantisedPrecision | None
) -> list[dict[str, Any]]:
    """The rows of an earlier run that are not measured anew."""
    if precision is None or not out.exists():
        return []
    found = read_result(out).results
    hashes = {name: sha256(path) for name, path in checkpoints.items()}
    return [
        row
        for row in found
        if row["precision"] not in ("fp32", precision)
        and row["checkpoint_sha256"] == hashes[row["model"]]
    ]


def _cases() -> Iterator[Case]:
    for method in METHODS:
        yield Case(precision="int8", rest="fp32", method=method)
    if computes("fp16"):
        for method in METHODS:
            yield Case(precision="int8", rest="fp16", method=method)
    for method in METHODS:
        yield Case(precision="fp8", rest="fp32", method=method)


def _rows(
    checkpoint: Path, camvid: Path, folder: Path, cases: list[Case]
) -> Iterator[dict[str, Any]]:
    """FP32, and then each way to quantise, on every frame of val."""
    network, typed, ranges = (folder / name for name in ("fp32.onnx", "typed.onnx", "ranges.json"))
    plain = run(Plan(export=Export(model=str(checkpoint), size=SIZE)), network).network
    spec = plain.spec
    dataset = open_dataset("camvid", camvid / "val")
    reference = list(_label_maps(plain, dataset))
    fp32_miou = _miou(reference, dataset)
    about = {"checkpoint_sha256": sha256(checkpoint), "size": SIZE, "frames": len(dataset)}
    yield about | {"precision": "fp32", "miou": fp32_miou}
    images = RangeImages(folders=(camvid / "train" / "images",), limit=IMAGES, size=SIZE)
    write_calibration(calibrate(plain, images, method="mse"), ranges)
    for case in cases:
        step = Type(
            precision=case.precision,
            calibration=ranges,
            method=case.method,
            float_precision=case.rest,
            checking=Checking(is_on=False),  # how far it agrees is what is measured
        )
        maps = list(_label_maps(run(Plan(source=plain, type=step), typed).network, dataset))
        agreement = Agreement(len(spec.classes))
        for first, second in zip(reference, maps, strict=True):
            agreement.update(first, second)
        miou = _miou(maps, dataset)
        yield about | {
            "precision": case.precision,
            "rest": case.rest,
            "method": case.method,
            "images": len(images),
            "miou": miou,
            "difference": miou - fp32_miou,
            "equal_to_fp32": 100 * agreement.pixels,
            "equal_near_boundary": 100 * agreement.near_boundary,
        }


def _label_maps(network: Network, dataset: Dataset) -> Iterator[LabelMap]:
    spec = network.spec
    model = compile_trial(network.read_bytes(), spec)
    for sample in dataset:
        tensor = preprocess(sample.frame, spec.input_size, mean=spec.mean, std=spec.std)
        logits = model(tensor[None])[0][0]
        yield decode(logits, sample.truth.shape, align_corners=spec.align_corners)


def _miou(maps: list[LabelMap], dataset: Dataset) -> float:
    """In percent."""
    confusion = ConfusionMatrix(len(dataset.labels.classes))
    for label_map, sample in zip(maps, dataset, strict=True):
        confusion.update(label_map, sample.truth)
    return 100 * confusion.miou()


def _table(rows: list[dict[str, Any]]) -> str:
    """Markdown: a line for each way to quantise, with both models side by side."""
    models = list(dict.fromkeys(row["model"] for row in rows))
    head = ["precision", "rest", "method"]
    for model in models:
        head += [f"{model}: mIoU", "difference", "equal to FP32"]
    lines = [head, ["---"] * 3 + ["---:"] * (len(head) - 3)]
    ways = dict.fromkeys((r["precision"], r.get("rest", ""), r.get("method", "")) for r in rows)
    for way in ways:
        cells = [way[0].upper(), way[1].upper(), way[2]]
        for row in rows:
            if (row["precision"], row.get("rest", ""), row.get("method", "")) == way:
                cells += _cells(row)
        lines.append(cells)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _cells(row: dict[str, Any]) -> list[str]:
    if row["precision"] == "fp32":
        return [f"{row['miou']:.2f}", "", ""]
    return [
        f"{row['miou']:.2f}",
        f"{row['difference']:+.2f}",
        f"{row['equal_to_fp32']:.2f} %",
    ]


if __name__ == "__main__":
    main()
