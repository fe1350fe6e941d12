"""Train the demo model on procedural scenes and CamVid together.

    python -m benchmarks.demo_model.train --start CHECKPOINT --camvid DIR --out weights.safetensors

Every sample is a function of (seed, sample number) alone, so a run that was stopped goes on from
its last state as if it had not been; the same command resumes it. Only the thread count and the
machine's arithmetic make two runs differ.

What is written is the moving average of the weights, without the auxiliary head, in float16.
"""

from __future__ import annotations

import copy
import time
from collections import deque
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
import typer
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader

from benchmarks.demo_model.samples import CLASSES, LABELS, MixedSamples, Settings, normalise
from fcn_trt.errors import CheckpointError, FcnTrtError
from fcn_trt.evaluation.datasets import Dataset, LabelledImages, open_dataset
from fcn_trt.evaluation.measure import evaluate
from fcn_trt.evaluation.scenes import HeldOutScenes
from fcn_trt.files import atomic_path
from fcn_trt.model.architecture import architecture
from fcn_trt.model.fcn import Fcn
from fcn_trt.model.safe_load import read_checkpoint
from fcn_trt.spec import NO_LABEL, Frame, LabelMap, parse_size

__all__ = ["train"]

MODEL, BASE_WIDTH = "fcn_r18-d8", 32
RARE = ("pole", "sign", "fence", "pedestrian", "bicyclist")
LICENCE = (
    "Apache-2.0; trained on procedural scenes and on CamVid (Brostow, Fauqueur, Cipolla, 2009), "
    "a data set for research use"
)

DEFAULT = Settings()


def train(start: Path, camvid: Path, out: Path, *, settings: Settings = DEFAULT) -> None:
    """Train, measure on the way, and write the averaged weights.

    Args:
        start: Checkpoint with a "state_dict" of this model, auxiliary head included.
        camvid: Folder with train/ and val/, each with images/ and labels/.
        out: The safetensors file; the state to resume from lies beside it as ``.state.pth``.
        settings: How to train.

    Raises:
        CheckpointError: `start` or the saved state is not of this model.
        DatasetError: `camvid` has another layout.
        OutputError: `out` cannot be written.
    """
    torch.manual_seed(settings.seed)
    model = Fcn(architecture(MODEL), len(CLASSES), base_width=BASE_WIDTH, auxiliary=True)
    load_strictly(model, _read(start), source=start)
    averaged = copy.deepcopy(model)
    validation = open_dataset("camvid", camvid / "val")
    samples = MixedSamples(open_dataset("camvid", camvid / "train"), settings)
    _optimise(model, averaged, samples, validation, out.with_suffix(".state.pth"))
    write_weights(averaged, out)
    rounded = Fcn(architecture(MODEL), len(CLASSES), base_width=BASE_WIDTH)
    load_strictly(rounded, _read(out), source=out)
    _report("float16", rounded, validation, settings.held_out_scenes, fast=False)


def _read(path: Path) -> dict[str, torch.Tensor]:
    """The weights of a checkpoint, without its counters."""
    tensors = read_checkpoint(path).tensors
    return {name: tensor.read() for name, tensor in tensors.items() if tensor.is_floating_point}


def load_strictly(model: nn.Module, tensors: dict[str, torch.Tensor], *, source: Path) -> None:
    """Load a state dict whose keys are the model's, batch counters apart.

    Raises:
        CheckpointError: keys or shapes differ.
    """
    try:
        missing, unexpected = model.load_state_dict(tensors, strict=False)
    except RuntimeError as error:
        raise CheckpointError(f"{source} has tensors of other shapes than {MODEL}") from error
    missing = [key for key in missing if not key.endswith("num_batches_tracked")]
    if missing or unexpected:
        raise CheckpointError(
            f"{source} does not fit {MODEL} of base width {BASE_WIDTH}: "
            f"{len(missing)} keys missing, {len(unexpected)} unknown"
        )


def write_weights(model: nn.Module, out: Path) -> None:
    """Write a model's weights without auxiliary head and batch counters, as float16.

    Raises:
        CheckpointError: a weight is not finite in float16.
        OutputError: the file cannot be written.
    """
    halves = {
        key: value.to(torch.float16).contiguous()
        for key, value in model.state_dict().items()
        if not key.startswith("auxiliary_head.") and not key.endswith("num_batches_tracked")
    }
    for key, value in halves.items():
        if not bool(torch.isfinite(value).all()):
            raise CheckpointError(f"{key} exceeds float16; nothing was written to {out}")
    about = {"model": MODEL, "base_width": str(BASE_WIDTH), "labels": LABELS, "licence": LICENCE}
    with atomic_path(out) as temporary:
        safetensors.torch.save_file(halves, temporary, metadata=about)


def _optimise(
    model: nn.Module,
    averaged: nn.Module,
    samples: MixedSamples,
    validation: Dataset,
    state_path: Path,
) -> None:
    """Run the steps that are left; both models end trained."""
    settings = samples.settings
    model.train().to(memory_format=torch.channels_last)
    optimiser = torch.optim.SGD(
        model.parameters(), lr=settings.learning_rate, momentum=0.9, weight_decay=1e-4
    )
    first = _resume(state_path, model, averaged, optimiser)
    loader = DataLoader(
        samples,
        batch_size=settings.batch,
        sampler=range(first * settings.batch, len(samples)),
        num_workers=settings.workers,
    )
    started = saved = time.perf_counter()
    losses: deque[float] = deque(maxlen=50)
    for done, batch in enumerate(loader, start=first + 1):
        losses.append(_step(model, optimiser, batch, step=done, settings=settings))
        _average(averaged, model, keep=min(settings.average, done / (done + 10)))
        if done % 50 == 0:
            rate = (done - first) / (time.perf_counter() - started)
            loss = sum(losses) / len(losses)
            typer.echo(f"{done}/{settings.iterations}  loss {loss:.4f}  {rate:.2f} steps/s")
        is_last = done == settings.iterations
        if is_last or time.perf_counter() - saved > settings.save_s:
            saved = time.perf_counter()
            _save(state_path, model, averaged, optimiser, done)
        if is_last or done % settings.evaluate_every == 0:
            _report(f"step {done}", averaged, validation, settings.held_out_scenes, fast=True)


def _step(
    model: nn.Module,
    optimiser: Any,
    batch: tuple[torch.Tensor, torch.Tensor],
    *,
    step: int,
    settings: Settings,
) -> float:
    """One step of SGD: linear warm-up over 100 steps, then (1 - progress) ** 0.9."""
    rate = (1 - (step - 1) / settings.iterations) ** 0.9 * min(1.0, step / 100)
    for group in optimiser.param_groups:
        group["lr"] = settings.learning_rate * rate
    images, labels = batch
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits, auxiliary = model(normalise(images))
    # Every second pixel costs a quarter; the four offsets take turns, so none is left out.
    labels = labels[:, step % 2 :: 2, step // 2 % 2 :: 2].long()
    is_last_part = step > settings.jaccard_from
    main, helper = (
        functional.interpolate(scores.float(), size=labels.shape[1:], mode="bilinear")
        for scores in (logits, auxiliary)
    )
    rare = 1.0 if is_last_part else settings.rare_weight
    weight = torch.tensor([rare if name in RARE else 1.0 for name in CLASSES])
    total = functional.cross_entropy(main, labels, weight=weight, ignore_index=NO_LABEL)
    total = total + 0.4 * functional.cross_entropy(
        helper, labels, weight=weight, ignore_index=NO_LABEL
    )
    if is_last_part:
        total = total + jaccard_loss(main, labels)
    optimiser.zero_grad()
    total.backward()
    optimiser.step()
    return float(total.detach())


def jaccard_loss(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """1 - soft IoU, averaged over the classes of a batch: what the model is measured by.

    Args:
        scores: (N, C, H, W) float, before softmax.
        labels: (N, H, W) int64; 255 is left out.

    Source: Rahman and Wang, "Optimizing Intersection-Over-Union in Deep Neural Networks", 2016.
    """
    counted = (labels != NO_LABEL)[:, None]
    share = scores.softmax(dim=1) * counted
    truth = functional.one_hot(labels.where(counted[:, 0], 0), scores.shape[1])
    truth = truth.permute(0, 3, 1, 2) * counted
    both = (share * truth).sum(dim=(0, 2, 3))
    either = (share + truth).sum(dim=(0, 2, 3)) - both
    present = truth.sum(dim=(0, 2, 3)) > 0
    return (1 - both[present] / either[present]).mean()


def _average(averaged: nn.Module, model: nn.Module, *, keep: float) -> None:
    """Move the average towards the model, batch-norm statistics included."""
    current = model.state_dict()
    for key, value in averaged.state_dict().items():
        if value.is_floating_point():
            value.lerp_(current[key], 1 - keep)


def _report(name: str, model: nn.Module, validation: Dataset, scenes: int, *, fast: bool) -> None:
    """Say how good a model is on streets that it never saw, and on the rest of CamVid."""
    model.eval()
    held_out = HeldOutScenes(count=scenes)
    sources: dict[str, LabelledImages] = {"scene": held_out, "CamVid val": validation}
    for source, images in sources.items():
        result = evaluate(partial(_segment, model, fast=fast), images)
        typer.echo(
            f"{name}  {source} mIoU {100 * result.miou:.2f}  accuracy "
            f"{100 * result.pixel_accuracy:.2f}  "
            + " ".join(f"{label} {100 * iou:.1f}" for label, iou in result.per_class.items())
        )


@torch.no_grad()
def _segment(
    model: nn.Module, frames: Iterable[Frame], *, fast: bool
) -> Iterator[tuple[Frame, LabelMap]]:
    """Label maps at the frames' own size; fast computes in bfloat16."""
    for frame in frames:
        rgb = torch.from_numpy(np.ascontiguousarray(frame[..., ::-1].transpose(2, 0, 1)))
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=fast):
            scores = model(normalise(rgb[None]))
        logits = scores[0] if isinstance(scores, tuple) else scores
        full = functional.interpolate(logits.float(), size=frame.shape[:2], mode="bilinear")
        yield frame, full.argmax(dim=1)[0].to(torch.uint8).numpy()


def _resume(path: Path, model: nn.Module, averaged: nn.Module, optimiser: Any) -> int:
    """Steps done in the saved state, which is loaded; 0 where there is none."""
    if not path.exists():
        return 0
    state = torch.load(path, map_location="cpu", weights_only=True)
    load_strictly(model, state["model"], source=path)
    load_strictly(averaged, state["averaged"], source=path)
    optimiser.load_state_dict(state["optimiser"])
    typer.echo(f"resuming after step {state['done']} from {path}")
    return int(state["done"])


def _save(path: Path, model: nn.Module, averaged: nn.Module, optimiser: Any, done: int) -> None:
    parts = {"model": model, "averaged": averaged, "optimiser": optimiser}
    state = {name: part.state_dict() for name, part in parts.items()} | {"done": done}
    with atomic_path(path) as temporary:
        torch.save(state, temporary)


def main(
    start: Path = typer.Option(..., help="Checkpoint to start from, auxiliary head included."),
    camvid: Path = typer.Option(..., help="Folder with train/ and val/ (images/, labels/)."),
    out: Path = typer.Option(..., help="The safetensors file to write."),
    iterations: int = DEFAULT.iterations,
    batch: int = DEFAULT.batch,
    crop: str = "x".join(map(str, DEFAULT.crop)),
    learning_rate: float = DEFAULT.learning_rate,
    evaluate_every: int = DEFAULT.evaluate_every,
    held_out_scenes: int = DEFAULT.held_out_scenes,
    workers: int = DEFAULT.workers,
    seed: int = DEFAULT.seed,
    jaccard_from: int = DEFAULT.jaccard_from,
) -> None:
    """Train the demo model; the same command resumes a run that was stopped."""
    settings = Settings(
        iterations=iterations,
        batch=batch,
        crop=parse_size(crop),
        learning_rate=learning_rate,
        evaluate_every=evaluate_every,
        held_out_scenes=held_out_scenes,
        workers=workers,
        seed=seed,
        jaccard_from=jaccard_from,
    )
    try:
        train(start, camvid, out, settings=settings)
    except FcnTrtError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error


if __name__ == "__main__":
    typer.run(main)
