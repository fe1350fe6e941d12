"""`stages.decode` against torch interpolate + argmax: same labels, and how many times as fast.

    python -m benchmarks.decode [--runs 7]

Two kinds of logits: "street", those of a good network on a drawn street, where few of the classes
are in sight; and "noise", independent in every place, where any class can win anywhere: the worst
case, which no network makes.
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from benchmarks.measure import RESULTS, interleave, ratios, save, summary
from fcn_trt.scene.scene import StreetScene
from fcn_trt.spec import LADDER
from fcn_trt.stages.decode import decode

SIZES = LADDER
CLASSES = (11, 21, 150)


def main() -> None:
    """Print a row per case and write decode.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=7)
    runs = parser.parse_args().runs
    print(
        "size       classes  corners  logits   torch ms  ours ms  ratio (min-max)   labels differ"
    )
    rows = [
        _case(size, classes, align_corners, kind, runs)
        for size in SIZES
        for classes in CLASSES
        for align_corners in (False, True)
        for kind in ("street", "noise")
    ]
    save(RESULTS / "decode.json", rows, command="python -m benchmarks.decode")


def _case(
    size: tuple[int, int], classes: int, align_corners: bool, kind: str, runs: int
) -> dict[str, Any]:
    logits = _logits(size, classes, kind)
    theirs = partial(_torch, logits, size, align_corners)
    ours = partial(decode, logits[0].numpy(), size, align_corners=align_corners)
    differ = int(np.count_nonzero(theirs() != ours()))
    seconds = interleave({"torch": theirs, "ours": ours}, runs=runs)
    ratio = ratios(seconds["torch"], seconds["ours"])
    row: dict[str, Any] = {
        "size": size,
        "classes": classes,
        "align_corners": align_corners,
        "logits": kind,
        "torch": summary(seconds["torch"]),
        "ours": summary(seconds["ours"]),
        "ratio": ratio,
        "labels_that_differ": differ,
    }
    print(
        f"{size[0]:4}x{size[1]:<5} {classes:6}  {'aligned' if align_corners else 'half':8} "
        f"{kind:7} {row['torch']['median_ms']:9.1f} {row['ours']['median_ms']:8.1f} "
        f"{ratio['median']:6.1f} ({ratio['min']:.1f}-{ratio['max']:.1f})   {differ:6}",
        flush=True,
    )
    return row


def _logits(size: tuple[int, int], classes: int, kind: str) -> torch.Tensor:
    """(1, C, H/8, W/8) logits."""
    generator = torch.Generator().manual_seed(classes)
    height, width = size[0] // 8, size[1] // 8
    if kind == "noise":
        return torch.randn(1, classes, height, width, generator=generator)
    _, labels = StreetScene(7).render(20, size)
    classes_in_sight = np.random.default_rng(classes).permutation(classes)[:11]
    truth = torch.from_numpy(classes_in_sight[labels.clip(max=10)])
    one_hot = functional.one_hot(truth, classes).permute(2, 0, 1)[None].float()
    # A network blurs outlines by about its stride, and is never quite sure.
    peaks = functional.avg_pool2d(one_hot, 16, stride=8, padding=4)
    noise = torch.randn(peaks.shape, generator=generator)
    return 8 * peaks + 0.5 * noise


def _torch(logits: torch.Tensor, size: tuple[int, int], align_corners: bool) -> np.ndarray:
    full = functional.interpolate(logits, size=size, mode="bilinear", align_corners=align_corners)
    return np.asarray(full.argmax(dim=1)[0].to(torch.uint8))


if __name__ == "__main__":
    main()
