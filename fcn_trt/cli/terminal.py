"""All that is printed: results for people and for machines, bars, logs, and what went wrong.

Nothing else in this package prints, and this prints through `fcn_trt.console` alone.
"""

from __future__ import annotations

import datetime as dt
import io
import logging
import math
import re
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TaskID,
    TimeRemainingColumn,
)
from rich.table import Table

from fcn_trt.console import PlainConsole, Words, progress
from fcn_trt.model.download import show_downloads
from fcn_trt.spec import format_size

if TYPE_CHECKING:
    from fcn_trt.doctor import Finding
    from fcn_trt.engine.bundle import Bundle
    from fcn_trt.engine.manifest import Manifest
    from fcn_trt.engine.preflight import Obstacle
    from fcn_trt.engine.tensorrt.progress import BuildPhase
    from fcn_trt.pipeline.run import Watcher
    from fcn_trt.video.loop import LoopReport
    from fcn_trt.video.loop import Progress as LoopProgress

__all__ = [
    "begin",
    "build_bar",
    "count_bar",
    "error",
    "facts",
    "findings_table",
    "images_step",
    "inspection_table",
    "interrupted",
    "kept",
    "loop_bar",
    "loop_sentence",
    "percent",
    "show",
    "step",
    "table",
    "trace",
    "watch",
    "written",
]

stderr = PlainConsole(stderr=True)
stdout = PlainConsole()

PIPE_WIDTH = 200
"""Columns of a table that goes into a file or a pipe, where nothing needs to be folded."""


def show(result: Table | str) -> None:
    """Print a result on stdout."""
    if not stdout.is_terminal:
        stdout.width = PIPE_WIDTH
    if isinstance(result, Table) and _breaks_numbers(result):
        for line in _as_lines(result):
            stdout.print(line)
        return
    stdout.print(result, soft_wrap=isinstance(result, str))


def _breaks_numbers(shown: Table) -> bool:
    """Whether a table of numbers is wider than the terminal, which would cut them."""
    if not all(column.no_wrap for column in shown.columns):
        return False
    unlimited = stdout.options.update(max_width=10 * PIPE_WIDTH)
    return stdout.measure(shown, options=unlimited).maximum > stdout.width


def _as_lines(shown: Table) -> Iterator[str]:
    """A table's rows as sentences, which break between numbers."""
    yield str(shown.title)
    first, *others = shown.columns
    for name, *values in zip(first.cells, *(column.cells for column in others), strict=True):
        pairs = zip(others, values, strict=True)
        yield f"{name}: {', '.join(f'{column.header} {value}' for column, value in pairs)}"


def error(sentence: str) -> None:
    """Say on stderr, in one line, what went wrong and what helps."""
    stderr.print(f"error: {_one_line(sentence)}", style="red", soft_wrap=True)


def trace(problem: BaseException) -> None:
    """Print on stderr where an error comes from; no line of its message begins like one of ours."""
    for part in traceback.format_exception(problem):
        first, *others = part.splitlines() or [""]
        for line in (first, *(f"    {other}" for other in others)):
            stderr.print(line, soft_wrap=True)


def _trace_of(unseen: Any) -> None:
    """What Python calls with an error that nobody can catch."""
    if unseen.exc_value is not None:
        trace(unseen.exc_value)


def _one_line(text: str) -> str:
    """What libraries say in several lines, and no endless word of what was typed."""
    shortened = _ENDLESS.sub(r"\1[...]\2", text)
    return " ".join(shortened.splitlines())


_ENDLESS = re.compile(r"(\S{200})\S{200,}(\S{200})")


def interrupted() -> None:
    """Say that Ctrl-C ended the command."""
    stderr.print("interrupted")


def table(title: str, columns: list[str], rows: list[list[str]]) -> Table:
    """A table whose first column is left-aligned and whose others are numbers."""
    made = Table(title=title, title_justify="left", header_style="bold", box=box.SIMPLE_HEAD)
    made.collapse_padding = True
    for index, column in enumerate(columns):
        first = index == 0
        made.add_column(column, justify="left" if first else "right", no_wrap=True)
    for row in rows:
        made.add_row(*row)
    return made


def facts(title: str, pairs: list[tuple[str, str]]) -> Table:
    """A table of names and what they are."""
    made = Table(title=title, title_justify="left", show_header=False)
    made.add_column(style="bold")
    made.add_column(overflow="fold")
    for name, value in pairs:
        made.add_row(name, value)
    return made


def percent(share: float) -> str:
    """A share of 1 as percent; a dash where there is none."""
    return "-" if math.isnan(share) else f"{100 * share:.2f}"


def loop_sentence(loop: LoopReport) -> str:
    """What a run did, in one sentence."""
    parts = [f"{loop.frames} frame{'' if loop.frames == 1 else 's'}"]
    if loop.dropped:
        parts.append(f"{loop.dropped} dropped")
    if loop.rate_fps:
        parts[-1] += f" at {loop.rate_fps:.1f} frames/s"
    if loop.frames:
        parts.append(f"latency p50 {loop.latency_p50_ms:.1f} ms")
        parts.append(f"p99 {loop.latency_p99_ms:.1f} ms")
        parts.append("with the wait in the queue" if loop.latency_has_queue else "without a queue")
    return f"{', '.join(parts)} ({loop.stop})"


def findings_table(findings: list[Finding]) -> Table:
    """The doctor's findings with what helps."""
    made = Table(title="fcn-trt doctor", title_justify="left", header_style="bold")
    for column in ("part", "found", "what helps"):
        made.add_column(column, overflow="fold")
    for finding in findings:
        made.add_row(
            finding.part, finding.found, finding.advice, style=None if finding.ok else "dim"
        )
    return made


def inspection_table(bundle: Bundle, obstacle: Obstacle | None) -> Table:
    """What a bundle is, and what keeps it from running here, if anything does."""
    manifest = bundle.manifest
    spec = manifest.spec
    proof = manifest.precision_proven
    read = {"engine": "read from the engine", "network": "read from the typed ONNX"}
    rows = [
        ("runs here", f"no: {obstacle.reason}" if obstacle else "yes"),
        ("model", f"{spec.model} ({spec.family}), weights {spec.weights}"),
        ("licence of the weights", spec.licence or "unknown"),
        ("classes", f"{len(spec.classes)} ({spec.labels})"),
        ("input", f"{_input(manifest)}; logits at stride {spec.stride}"),
        ("target", f"{manifest.target} {manifest.target_version} for {manifest.device}"),
        ("built", f"{manifest.created} ({_age(manifest.created)}) by {manifest.built_by}"),
        ("precision asked", manifest.precision_asked),
        ("precision proven", f"{proof.describe()}; {read[proof.source]}"),
    ]
    if spec.float_precision is not None:
        rows.append(("not quantised", f"is {spec.float_precision}"))
        rows.append(("calibration SHA-256", spec.calibration_sha256))
    if spec.exceptions:
        nodes = ", ".join(f"{name} ({kind})" for name, kind in spec.exceptions.items())
        rows.append(("kept in another type", nodes))
    titles = ("labels as its source", *[""] * len(manifest.chain))
    rows += zip(titles, (found.describe() for found in manifest.chain), strict=False)
    rows.append(("source SHA-256", spec.source_sha256 or "none (random weights)"))
    return facts(str(bundle.path), [*rows, *_files(manifest)])


def _files(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Each file with its hash, but for the many small kernels, which are told together."""
    from fcn_trt.engine.bundle import KERNEL_FILE
    from fcn_trt.engine.options import parse_capability

    kernels: dict[str, int] = {}
    for name, record in manifest.files.items():
        kernel = KERNEL_FILE.fullmatch(name)
        if kernel is None:
            yield name, f"{record.size_bytes} bytes, {record.sha256}"
        else:
            kernels[kernel[2]] = kernels.get(kernel[2], 0) + record.size_bytes
    if kernels:
        size_bytes = sum(kernels.values())
        for_gpus = ", ".join(sorted(kernels, key=parse_capability))
        yield "kernels", f"for {for_gpus}; {size_bytes} bytes, of sources {manifest.kernels_sha256}"


def _input(manifest: Manifest) -> str:
    """The shape that an engine takes, and the one it is optimised for."""
    spec = manifest.spec
    one = f"{format_size(spec.input_size)}, batch {spec.batch}"
    allowed = spec.dynamic
    if allowed is None:
        return one
    sizes = f"{format_size(allowed.min_size)} to {format_size(allowed.max_size)}"
    shapes = f"{sizes}, batch {allowed.min_batch} to {allowed.max_batch}"
    if manifest.target == "openvino":
        return f"{one} only, though its ONNX takes {shapes}"
    return f"{shapes}; optimised for {one}"


def _age(created: str) -> str:
    """How long ago something was, in the largest unit that fits."""
    age_s = (dt.datetime.now(dt.timezone.utc) - dt.datetime.fromisoformat(created)).total_seconds()
    for unit, seconds in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if age_s >= seconds:
            count = int(age_s // seconds)
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "just now"


@contextmanager
def build_bar() -> Iterator[Callable[[BuildPhase], None]]:
    """A bar for each phase that a builder is in, the inner ones indented."""
    columns = (Words(), BarColumn(), MofNCompleteColumn())
    with progress(stderr, *columns) as bar:
        shown: dict[str, tuple[TaskID, int]] = {}

        def advance(phase: BuildPhase) -> None:
            depth = shown[phase.parent][1] + 1 if phase.parent in shown else 0
            if phase.name not in shown:
                shown[phase.name] = (bar.add_task("  " * depth + phase.name), depth)
            task, _ = shown[phase.name]
            bar.update(task, completed=phase.done, total=phase.total)
            if phase.done >= phase.total:
                bar.remove_task(shown.pop(phase.name)[0])

        yield advance


@contextmanager
def watch(*, says_steps: bool) -> Iterator[Watcher]:
    """Show how far a plan is.

    Args:
        says_steps: Tell each step as it begins and ends, and why it is done. What was kept in
            another type, on which images something is found out, and how far the result labels as
            the network's source does, is told always.
    """
    from fcn_trt.engine.tensorrt.progress import BuildPhase
    from fcn_trt.pipeline.run import StepReport, Watcher

    def begin(name: str, reason: str) -> None:
        if says_steps:
            step(f"{name} ({reason})" if reason else name)

    def end(report: StepReport) -> None:
        if says_steps:
            made = f"{report.name}: {report.duration_s:.1f} s"
            step(made if report.made else report.describe())
        kept(report.kept, report.otherwise)
        if report.check is not None:
            step(report.check.describe())

    with build_bar() as bar:

        @contextmanager
        def images(title: str, total: int) -> Iterator[Callable[[], None]]:
            done = 0

            def advance() -> None:
                nonlocal done
                done += 1
                bar(BuildPhase(name=title, parent=None, done=done, total=total))

            with images_step(title, total):
                yield advance

        yield Watcher(on_begin=begin, on_step=end, images_bar=images, on_phase=bar)


@contextmanager
def images_step(title: str, total: int) -> Iterator[Callable[[], None]]:
    """Say on which images something is found out, if on any."""
    if total:
        step(title)
    yield lambda: None


@contextmanager
def loop_bar(title: str) -> Iterator[Callable[[LoopProgress], None]]:
    """A bar with frames per second and latency, fed from `run_loop`'s on_progress."""
    columns = (
        SpinnerColumn(),
        Words(),
        BarColumn(),
        MofNCompleteColumn(),
        Words("live"),
        TimeRemainingColumn(),
    )
    with progress(stderr, *columns) as bar:
        task = bar.add_task(title, total=None, live="")

        def advance(progress: LoopProgress) -> None:
            dropped = f", {progress.dropped} dropped" if progress.dropped else ""
            live = f"{progress.rate_fps:.1f} frames/s, {progress.latency_ms:.0f} ms{dropped}"
            bar.update(task, completed=progress.frames, total=progress.total, live=live)

        yield advance


@contextmanager
def count_bar(title: str, total: int | None, *, done: int = 0) -> Iterator[Callable[[], None]]:
    """A bar of things that are counted, some of which may be done already; total None is open."""
    columns = (Words(), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with progress(stderr, *columns) as bar:
        task = bar.add_task(title, total=total, completed=done)
        yield lambda: bar.advance(task)


@contextmanager
def _download_bar(title: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar of the bytes that came."""
    columns = (Words(), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with progress(stderr, *columns) as bar:
        task = bar.add_task(title, total=total)
        yield lambda count: bar.advance(task, count)


def step(sentence: str) -> None:
    """One step of a longer job, on stderr."""
    stderr.print(f":: {sentence}", soft_wrap=True)


class _Steps(logging.Handler):
    """Says as a step what a model's loader or importer took or assumed."""

    def emit(self, record: logging.LogRecord) -> None:
        step(record.getMessage())


class _Log(logging.Handler):
    """Prints what this package and its libraries log or warn of."""

    def emit(self, record: logging.LogRecord) -> None:
        sentence = _one_line(record.getMessage())
        stderr.print(f"{record.levelname} {record.name}: {sentence}", soft_wrap=True)
        if record.exc_info and record.exc_info[1] is not None:
            trace(record.exc_info[1])


_STEPS = _Steps(logging.INFO)


def begin(*, is_verbose: bool, is_traced: bool) -> None:
    """Let all be printed here: logs, warnings, and what was taken or assumed of a model.

    Args:
        is_verbose: Whether what is done is logged, what is assumed with it.
        is_traced: Whether Python is to print where the error comes from that ends it.
    """
    if is_traced:
        sys.excepthook = lambda _kind, problem, _trace: trace(problem)
    # Errors that have nobody to go to; whoever took over their printing keeps it.
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = _trace_of
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = _trace_of
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # no locale's encoding ends a command
    level = logging.INFO if is_verbose else logging.WARNING
    logging.basicConfig(level=level, handlers=[_Log(level)])
    logging.captureWarnings(True)
    show_downloads(_download_bar)
    for name in ("fcn_trt.model", "fcn_trt.network"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.INFO)
        logger.removeHandler(_STEPS)
        if not is_verbose:
            logger.addHandler(_STEPS)


def kept(exceptions: Mapping[str, str], otherwise: str) -> None:
    """Say on stderr which nodes compute in another type than asked, if any do, and why.

    Args:
        exceptions: By node, its type.
        otherwise: Type of what is not quantised: one that holds less than a node's was too small.
    """
    for kind in dict.fromkeys(exceptions.values()):
        names = ", ".join(name for name, value in exceptions.items() if value == kind)
        reason = f", because {otherwise} cannot hold it" if kind != otherwise else ""
        step(f"kept in {kind}{reason}: {names}")


def written(path: Path, what: str) -> None:
    """Say on stderr what was written where."""
    stderr.print(f"wrote {what} to {path}", soft_wrap=True)
