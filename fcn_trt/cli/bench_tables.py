"""What `fcn-trt bench` tells people: a table, what its columns mean, and what to doubt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from fcn_trt.cli.terminal import facts, percent, table

if TYPE_CHECKING:
    from fcn_trt.bench.ceiling import Ceiling
    from fcn_trt.bench.environment import Environment
    from fcn_trt.bench.ladder import Achieved, Outcome
    from fcn_trt.bench.measurement import Measurement
    from fcn_trt.engine.manifest import Target

__all__ = ["bench_parts", "bench_sentence"]

LATENCY = (
    *("name", "file ms", "label map ms", "p90", "p99", "picture ms", "frames/s"),
    *("GMAC", "GMAC/s", "of ceiling %", "not network %", "MB"),
)
MEANINGS = [
    ("file ms", "from a JPEG file to its frame"),
    ("label map ms", "from a frame to its label map, the median; p90 and p99 of the same"),
    ("picture ms", "from a frame to the frame with its classes painted over it, the median"),
    ("frames/s", "label maps with frames in flight"),
    ("GMAC/s", "1e9 multiply-accumulates a second of the network alone, padding counted too"),
    ("of ceiling %", "of what a product of matrices in the same types reaches on this machine"),
    ("not network %", "share of the time from frame to label map"),
    ("MB", "memory while it ran, Python and libraries included"),
]


def bench_parts(
    outcomes: Sequence[Outcome], ceilings: Mapping[Target, Ceiling], environment: Environment
) -> Iterator[Table | str]:
    """All that was found, ready to be shown."""
    measured = [
        (outcome.name, outcome.measurement, outcome.achieved)
        for outcome in outcomes
        if outcome.measurement is not None and outcome.achieved is not None
    ]
    yield facts("Measured on", _environment_facts(environment, ceilings))
    if measured:
        yield table("fcn-trt bench", list(LATENCY), [_row(*one) for one in measured])
        yield _stages_table([(name, found) for name, found, _ in measured])
        yield facts("Columns", MEANINGS)
    for name, found, result in measured:
        warm = found.warm_up
        cold = [] if warm.is_stable else [f"not steady after {warm.duration_s:.1f} s of warm-up"]
        beaten = ["faster than the ceiling, which was disturbed"] if result.beats_ceiling else []
        doubts = [*cold, *beaten, *found.steadiness.remarks]
        if doubts:
            yield f"{name}: {'; '.join(doubts)}"
    for target, ceiling in ceilings.items():
        if unsteady := ceiling.doubts():
            yield f"ceiling of {target}: {'; '.join(unsteady)}"
    if any(found.weights.startswith("random") for _, found, _ in measured):
        yield "weights of models are random, so that only their speed means anything"
    for outcome in outcomes:
        if outcome.problem:
            yield f"{outcome.name}: not measured: {outcome.problem}"


def bench_sentence(found: Measurement) -> str:
    """One measurement in a sentence, for progress."""
    shown = found.label_map
    return (
        f"label map {_ms(shown.p50_ms)} ms (p99 {_ms(shown.p99_ms)}), {found.throughput_fps:.1f} "
        f"frames/s; warm after {found.warm_up.runs} runs in {found.warm_up.duration_s:.1f} s"
    )


def _row(name: str, found: Measurement, result: Achieved) -> list[str]:
    share = result.ceiling_share
    memory = found.memory.running_bytes or found.memory.loading_bytes
    return [
        name,
        _ms(found.image_decode.p50_ms),
        _ms(found.label_map.p50_ms),
        _ms(found.label_map.p90_ms),
        _ms(found.label_map.p99_ms),
        _ms(found.picture.p50_ms),
        f"{found.throughput_fps:.1f}",
        f"{result.gmac:.1f}",
        f"{result.gmac_per_s:.0f}",
        "-" if share is None else f"{100 * share:.0f}",
        percent(found.beyond_network),
        "-" if memory is None else f"{memory / 1e6:.0f}",
    ]


def _stages_table(measured: Sequence[tuple[str, Measurement]]) -> Table:
    """The median of each stage; a stage that a target does not have is a dash."""
    stages = list(dict.fromkeys(stage for _, found in measured for stage in found.stages))
    rows = []
    for name, found in measured:
        video = found.video_decode
        times = [found.stages.get(stage) for stage in stages]
        rows.append([name, *("-" if t is None else _ms(t.p50_ms) for t in (video, *times))])
    return table("Each stage alone, median in ms", ["name", "video file", *stages], rows)


def _environment_facts(
    environment: Environment, ceilings: Mapping[Target, Ceiling]
) -> list[tuple[str, str]]:
    """What it was measured on, as far as it is known."""
    known = {
        "CPU": f"{environment.cpu}, {environment.cores} cores",
        "instruction sets": ", ".join(environment.instruction_sets or ()),
        "GPU": environment.gpu,
        "board": environment.board,
        "power mode": environment.power_mode,
        "clocks": ", ".join(
            f"{name} {clock:.0f} MHz" for name, clock in (environment.clocks_mhz or {}).items()
        ),
        "system": environment.system,
        "versions": ", ".join(f"{name} {text}" for name, text in environment.versions.items()),
        "fcn_trt": f"{environment.fcn_trt}, commit {environment.commit or 'unknown'}",
        **{f"ceiling of {target}": _ceiling_words(found) for target, found in ceilings.items()},
    }
    return [(name, text) for name, text in known.items() if text]


def _ceiling_words(ceiling: Ceiling) -> str:
    parts = [f"{rate:.0f} GMAC/s in {kind}" for kind, rate in ceiling.gmac_per_s.items()]
    if ceiling.copy_gb_per_s is not None:
        parts.append(f"copies {ceiling.copy_gb_per_s:.1f} GB/s, read and written")
    parts += [f"not measured: {reason}" for reason in dict.fromkeys(ceiling.left_out.values())]
    return "; ".join(parts)


def _ms(value: float) -> str:
    """Three figures are what a time is good for."""
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"
