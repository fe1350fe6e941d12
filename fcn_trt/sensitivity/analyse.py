"""From a network, its calibration and images to what each convolution costs, and what to keep."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from fcn_trt.code import code_sha256
from fcn_trt.comparison.images import CompareImages, ImageChoice
from fcn_trt.engine.openvino.builder import cpu_name, openvino_version
from fcn_trt.errors import DatasetError, OnnxError
from fcn_trt.files import combined_sha256, sha256
from fcn_trt.network.file import Network
from fcn_trt.sensitivity.layers import Layer, find_layers
from fcn_trt.sensitivity.record import Record
from fcn_trt.sensitivity.result import Effect, Point, Question, Score, Sensitivity
from fcn_trt.sensitivity.search import beyond, rank, shortest_prefix, without_needless
from fcn_trt.sensitivity.trial import Trials
from fcn_trt.spec import Spec

if TYPE_CHECKING:
    import onnx

    from fcn_trt.precision.type_network import Ranges

__all__ = ["Bar", "analyse"]


class Bar(Protocol):
    """Shows how far a loop is; what it yields is called after each step."""

    def __call__(
        self, title: str, total: int, *, done: int = 0
    ) -> AbstractContextManager[Callable[[], None]]:
        """Begin to show a loop of `total` steps, some of which are done already."""


def analyse(
    network: Path,
    calibration: Path,
    choice: ImageChoice,
    question: Question,
    *,
    out: Path | None = None,
    bar: Bar,
    say: Callable[[str], None],
) -> Sensitivity:
    """Measure each convolution, and search the smallest set to keep in float.

    Args:
        network: FP32 ONNX of static shape.
        calibration: Cache that was made for it.
        choice: Images that were not calibrated on, with labels for a bound of mean IoU.
        out: File of the result, written after each network that was measured; what an earlier run
            with the same inputs measured is read from it. None keeps nothing.

    Raises:
        OnnxError: the network is typed already or has no static shape.
        CalibrationError: the calibration is damaged or of another network.
        SourceError, DatasetError: an image or its labels cannot be read.
        EngineError: this CPU cannot run the quantised network.
        OutputError: `out` is something else, or cannot be written.
        ValueError: the bound needs labels.
    """
    if question.bound.max_drop is not None and choice.labels is None:
        raise ValueError("a bound of mean IoU needs labels; bound the agreement instead")
    file = Network.read(network)
    model, ranges = _load(file, calibration, question)
    spec = file.spec
    images = choice.find(spec)
    layers = find_layers(model.graph, question.precision)
    key = _key(file, ranges, question, images, choice)
    record = Record(key, (layer.name for layer in layers), out)
    if record.resumed:
        say(f"going on from {record.resumed} networks that {out} has")
    with bar("FP32", len(images)) as tick:
        trials = Trials(
            model,
            spec,
            images,
            precision=question.precision,
            float_precision=question.float_precision,
            ranges=ranges,
            on_image=tick,
        )
    if trials.reference.miou is not None and math.isnan(trials.reference.miou):
        raise DatasetError(f"the labels in {choice.labels} name no class; is --ignore right?")
    work = _Work(
        spec=spec,
        layers=layers,
        question=question,
        trials=trials,
        record=record,
        bar=bar,
        say=say,
    )
    found = work.run()
    record.write(found.to_dict())
    return found


def _load(
    network: Network, calibration: Path, question: Question
) -> tuple[onnx.ModelProto, Ranges]:
    """The network, and its ranges if they belong together."""
    from fcn_trt.network.contract import model_of
    from fcn_trt.precision.type_network import find_ranges

    spec = network.spec
    if spec.precision != "fp32":
        raise OnnxError(
            f"{network} is {spec.precision} already; start from the FP32 ONNX that it was made of"
        )
    if spec.dynamic is not None:
        raise OnnxError(
            f"{network} has a dynamic shape, so its convolutions have no fixed cost; export it at "
            "one size, which the same calibration serves"
        )
    model = model_of(network)
    ranges = find_ranges(
        network,
        model,
        question.precision,
        calibration=calibration,
        method=question.method,
        float_precision=question.float_precision,
    )
    return model, ranges


def _key(
    network: Network,
    ranges: Ranges,
    question: Question,
    images: CompareImages,
    choice: ImageChoice,
) -> str:
    """Hash of everything that the score of a set follows from."""
    files = (
        [sha256(file) for pair in images.dataset.pairs for file in pair]
        if images.dataset
        else [still.sha256() for still in images.stills]
    )
    return combined_sha256(
        [
            network.sha256,
            json.dumps(dict(ranges.amaxes)),
            question.precision,
            question.float_precision,
            str(choice.ignore if images.dataset else None),
            str(sorted((choice.said or {}).items())),
            *files,
            code_sha256("fcn_trt.sensitivity.analyse"),
            openvino_version(),
            cpu_name(),
        ]
    )


@dataclass(kw_only=True, eq=False)
class _Work:
    """One analysis, from the first network that is measured to the last."""

    spec: Spec
    layers: tuple[Layer, ...]
    question: Question
    trials: Trials
    record: Record
    bar: Bar
    say: Callable[[str], None]
    tried: set[frozenset[str]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.names = frozenset(layer.name for layer in self.layers)
        self.gmac = sum(layer.gmac for layer in self.layers)
        self.images = self.trials.images

    def run(self) -> Sensitivity:
        self._measure_each()
        effects = self._effects()
        order = [effect.name for effect in effects]
        length = shortest_prefix(order, self._holds)
        keep = None if length is None else without_needless(order[:length], self._holds)
        if length is not None:
            for longer in beyond(length, len(order)):
                self._score(frozenset(order[:longer]))
        prefixes = [frozenset(order[:count]) for count in range(len(order) + 1)]
        return Sensitivity(
            model=self.spec.model,
            images=self.images,
            question=self.question,
            reference=self.trials.reference,
            effects=effects,
            points=tuple(self._point(kept) for kept in prefixes if kept in self.tried),
            chosen=(
                None if keep is None or set(keep) == self.names else self._point(frozenset(keep))
            ),
        )

    def _set_of(self, layer: Layer) -> frozenset[str]:
        """What is kept in float to see what a convolution changes."""
        name = frozenset([layer.name])
        return self.names - name if self.question.alone else name

    def _measure_each(self) -> None:
        """Measure all quantised, and each convolution's own set."""
        sets = [frozenset[str](), *map(self._set_of, self.layers)]
        missing = [kept for kept in sets if kept not in self.record]
        images = self.images
        done = (len(sets) - len(missing)) * images
        with self.bar("convolutions x images", len(sets) * images, done=done) as tick:
            for kept in missing:
                self.record.add(kept, self.trials.measure(kept, on_image=tick))

    def _effects(self) -> tuple[Effect, ...]:
        """Every convolution, the one that gains most first."""
        everything = self.record[frozenset()].agreement
        scores = {layer.name: self.record[self._set_of(layer)] for layer in self.layers}
        gains = {
            name: 100 - score.agreement if self.question.alone else score.agreement - everything
            for name, score in scores.items()
        }
        gmac = {layer.name: layer.gmac for layer in self.layers}
        return tuple(
            Effect(
                name=name,
                gmac=gmac[name],
                share=100 * gmac[name] / self.gmac,
                score=scores[name],
                gain=gains[name],
            )
            for name in rank(gains, gmac)
        )

    def _score(self, kept: frozenset[str]) -> Score:
        self.tried.add(kept)
        if kept not in self.record:
            with self.bar(f"{len(kept)} in float", self.images) as tick:
                self.record.add(kept, self.trials.measure(kept, on_image=tick))
        return self.record[kept]

    def _holds(self, kept: frozenset[str]) -> bool:
        is_known = kept in self.record
        score = self._score(kept)
        holds = self.question.bound.holds(score, self.trials.reference)
        if not is_known:
            verdict = "enough" if holds else "not enough"
            self.say(f"{len(kept)} in float: {_describe(score)}, {verdict}")
        return holds

    def _point(self, kept: frozenset[str]) -> Point:
        in_float = [layer for layer in self.layers if layer.name in kept]
        share = sum(layer.gmac for layer in in_float) / self.gmac
        return Point(
            kept=tuple(layer.name for layer in in_float),
            quantised_share=100 * (1 - share),
            score=self.record[kept],
        )


def _describe(score: Score) -> str:
    agreement = f"{score.agreement:.3f} % as in FP32"
    return agreement if score.miou is None else f"{agreement}, mean IoU {score.miou:.2f} %"
