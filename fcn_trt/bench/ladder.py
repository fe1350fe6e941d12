"""Every target at every size and precision that is asked for, and what became of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from fcn_trt.bench.ceiling import SECONDS, Ceiling, measure_ceiling
from fcn_trt.bench.device_ceiling import measure_device_ceiling
from fcn_trt.bench.measurement import NETWORK, Measurement
from fcn_trt.bench.random_bundle import RandomNetwork, random_bundle
from fcn_trt.bench.steadiness import CEILING_BOUND
from fcn_trt.bench.worker import measure_in_process
from fcn_trt.engine.manifest import Target, read_manifest
from fcn_trt.errors import BundleError, FcnTrtError
from fcn_trt.foreign import printable
from fcn_trt.pipeline.plan import float_beside
from fcn_trt.pipeline.recipe import build_recipe, is_recipe, read_recipe
from fcn_trt.spec import LADDER, QUANTISED, Precision, Size

__all__ = [
    "NO_CEILING",
    "Achieved",
    "Job",
    "Outcome",
    "achieved",
    "ceilings_of",
    "held_against",
    "jobs_of",
    "run_job",
    "types_of",
]

DEFAULT_PRECISIONS: dict[Target, tuple[Precision, ...]] = {
    "openvino": ("fp32", "int8"),
    "tensorrt": ("fp16", "int8"),
    "tensorrt-rtx": ("fp16", "int8"),
}

NO_CEILING = Ceiling(
    gmac_per_s={},
    copy_gb_per_s=None,
    left_out={"target": "what its target does at most was not measured, so no share is known"},
)
"""Of what runs on a target that no job named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One bundle to measure.

    Attributes:
        name: What to call it.
        source: Folder of the bundle, file of a recipe, or the network to build one of.
    """

    name: str
    source: Path | RandomNetwork


@dataclass(frozen=True, slots=True, kw_only=True)
class Achieved:
    """What a measurement means.

    Attributes:
        gmac: 1e9 multiply-accumulates of one inference.
        gmac_per_s: Of the network alone.
        ceiling_gmac_per_s: What this machine's products of matrices reach in the same types; None
            where that was not measured.
        ceiling_share: What the network reaches of that; None likewise.
        mac_per_byte: Multiply-accumulates per byte of weights and activations that convolutions
            read and write; None where its shapes cannot be read.
        ceiling: All that was measured of what the machine can do, or why nothing was.
    """

    gmac: float
    gmac_per_s: float
    ceiling_gmac_per_s: float | None
    ceiling_share: float | None
    mac_per_byte: float | None
    ceiling: Ceiling

    @property
    def beats_ceiling(self) -> bool:
        """Whether it is so far above the ceiling that this was disturbed when it was measured."""
        return self.ceiling_share is not None and self.ceiling_share > 1 + CEILING_BOUND


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a job.

    Attributes:
        name: Of the job.
        measurement: None where it failed.
        achieved: None where it failed.
        problem: Why it failed, or "".
    """

    name: str
    measurement: Measurement | None = None
    achieved: Achieved | None = None
    problem: str = ""


def jobs_of(
    targets: Iterable[str],
    *,
    sizes: Sequence[Size] = LADDER,
    precisions: Sequence[Precision] = (),
    target: Target = "openvino",
) -> list[Job]:
    """What to measure.

    Args:
        targets: Folders of bundles, files of recipes, and names of models.
        sizes: Inputs of each model.
        precisions: Of each model; none takes `DEFAULT_PRECISIONS`.
    """
    jobs = []
    for text in targets:
        if Path(text).is_dir() or is_recipe(text):
            jobs.append(Job(name=printable(text), source=Path(text)))
            continue
        for size in sizes:
            for precision in precisions or DEFAULT_PRECISIONS[target]:
                network = RandomNetwork(model=text, size=size, precision=precision, target=target)
                name = f"{text} {size[0]}x{size[1]} {precision} {target}"
                jobs.append(Job(name=name, source=network))
    return jobs


def types_of(jobs: Iterable[Job]) -> dict[Target, list[Precision]]:
    """The types that jobs may compute in, by what runs them and each once.

    A folder that is no bundle has none; why is told when it is measured.
    """
    found: dict[Target, dict[Precision, None]] = {}
    for job in jobs:
        if isinstance(job.source, RandomNetwork):
            target = job.source.target
            kinds = _computed_types(job.source.precision, target)
        elif is_recipe(job.source):
            plan = read_recipe(job.source).plan()
            if plan.target is None:
                continue
            target = plan.target
            kinds = _computed_types(plan.precision, target)
        else:
            try:
                manifest = read_manifest(job.source)
            except BundleError:
                continue
            target = manifest.target
            kinds = cast(list[Precision], list(manifest.precision_proven.gmac))
        found.setdefault(target, {}).update(dict.fromkeys(kinds))
    return {target: list(kinds) for target, kinds in found.items()}


def ceilings_of(
    types: Mapping[Target, Sequence[Precision]],
    *,
    seconds: float = SECONDS,
    on_step: Callable[[str], None] = lambda _: None,
) -> dict[Target, Ceiling]:
    """What this machine does at most.

    Args:
        types: What to measure on each target, from `types_of`.
        seconds: How long each type is measured, and copying, on each target.
    """
    found: dict[Target, Ceiling] = {}
    for target, kinds in types.items():
        named = ", ".join(kinds)
        on_step(f"measuring products of matrices in {named}, and copies of memory, for {target}")
        if target == "openvino":
            found[target] = measure_ceiling(kinds, seconds=seconds)
        else:
            found[target] = measure_device_ceiling(kinds, target, seconds=seconds)
    return found


def run_job(
    job: Job,
    *,
    ceilings: Mapping[Target, Ceiling],
    frame_size: Size | None,
    seconds: float,
    on_step: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Measure one bundle, and build it first where it is not there.

    Args:
        ceilings: Of this machine, from `ceilings_of`.
        frame_size: (height, width) of the frames; None takes the network's input size.
        seconds: How long each way is measured.

    Returns:
        What became of it; one that cannot be built or measured is no error.

    Raises:
        ModuleNotFoundError: torch or onnx is needed and not installed.
    """
    try:
        bundle = job.source
        if isinstance(bundle, RandomNetwork):
            bundle = random_bundle(bundle, on_step=on_step)
        elif is_recipe(bundle):
            on_step(f"building {bundle}")
            bundle = build_recipe(read_recipe(bundle)).path
        on_step(f"measuring {job.name}")
        found = measure_in_process(bundle, frame_size=frame_size, seconds=seconds)
    except (FcnTrtError, ValueError, OSError) as error:
        return Outcome(name=job.name, problem=str(error))
    return Outcome(name=job.name, measurement=found, achieved=achieved(found, ceilings))


def achieved(found: Measurement, ceilings: Mapping[Target, Ceiling]) -> Achieved:
    """Hold a measurement against what the machine can do.

    Args:
        found: The measurement; its network is taken at its median.
        ceilings: Of the same machine, by target.
    """
    network_s = found.stages[NETWORK].p50_ms / 1000
    gmac = sum(found.gmac_by_type.values())
    here = ceilings.get(found.target, NO_CEILING)
    least_s = here.least_seconds(found.gmac_by_type)
    cost = found.cost
    return Achieved(
        gmac=gmac,
        gmac_per_s=gmac / network_s,
        ceiling_gmac_per_s=gmac / least_s if least_s else None,
        ceiling_share=least_s / network_s if least_s else None,
        mac_per_byte=1e9 * cost.gmac / cost.moved_bytes if cost and cost.moved_bytes else None,
        ceiling=here,
    )


def held_against(outcomes: Iterable[Outcome], ceilings: Mapping[Target, Ceiling]) -> list[Outcome]:
    """Hold what was measured against what is known of the machine by now.

    Args:
        ceilings: Of the same machine, by target.
    """
    return [
        replace(outcome, achieved=achieved(outcome.measurement, ceilings))
        if outcome.measurement
        else outcome
        for outcome in outcomes
    ]


def _computed_types(precision: Precision, target: Target) -> list[Precision]:
    """What the convolutions of a network may compute in; some are not quantised."""
    if precision == "fp8" and target == "openvino":
        return ["fp32"]  # a CPU has no products in it
    return [precision, float_beside(target)] if precision in QUANTISED else [precision]
