"""A walk from the logits of a foreign graph to its output, node by node.

What leaves the winning class of each pixel as it is, is passed. The last bilinear upsampling
becomes the spec's align_corners; what scales, shifts or chooses classes becomes one matrix, and so
do the two classes of a network with one logit. The rest is refused by the name of its node.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn, TypeAlias

import numpy as np
import onnx

from fcn_trt.errors import OnnxError
from fcn_trt.model.architecture import DEFAULT_THRESHOLD, log_odds
from fcn_trt.network.graph import Array, GraphView, Shape, attributes
from fcn_trt.network.sizes import called
from fcn_trt.spec import MAX_BATCH, Size

__all__ = ["SIZED", "STEPS", "Reading", "Tail", "Walk"]

logger = logging.getLogger(__name__)

Kind: TypeAlias = Literal["scores", "probabilities", "labels"]
"""Scores may be resized and added up, probabilities only compared, labels only counted."""

_ALIGN_CORNERS = {"half_pixel": False, "pytorch_half_pixel": False, "align_corners": True}

_INTEGERS = {getattr(onnx.TensorProto, n) for n in ("INT8", "INT16", "INT32", "INT64")} | {
    getattr(onnx.TensorProto, n) for n in ("UINT8", "UINT16", "UINT32", "UINT64", "BOOL")
}

_SUMS = {
    *("Add", "BatchNormalization", "Div", "Gather", "Identity", "Mul", "Neg", "Resize", "Slice"),
    *("Sub", "Upsample"),
}
"""Operators that make a logit of logits, the products among them by constants only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How a file's own output becomes a label map.

    Attributes:
        layout: A letter per side: N, C, H, W, and 1 for one that says nothing.
        kind: "best" is the class with the largest score, "above" whether the one score is above
            `threshold`, "labels" what is there, and "mask" whether it is not 0.
        threshold: Of "above".
    """

    layout: str
    kind: Literal["best", "above", "labels", "mask"]
    threshold: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tail:
    """What stands behind the logits.

    Attributes:
        tensor: The logits, as they are in the file.
        layout: Of them.
        align_corners: How they are upsampled.
        is_upsampled: Whether the file itself does so, and so says how.
        matrix: (classes, channels), that makes logits of the classes of them.
        shift: (classes,), that is added.
        is_binary: Whether one logit became two classes.
        reading: How the file's own output is read.
    """

    tensor: str
    layout: str
    align_corners: bool
    is_upsampled: bool
    matrix: Array
    shift: Array
    is_binary: bool
    reading: Reading


MAX_CHANNELS = 512
"""Of logits: a label map has at most 255 classes, and what is behind logits may leave some out."""

MAX_RANK = 8
"""Dimensions of what is behind logits."""


class Walk:
    """What is known of a tensor while it passes the nodes behind the logits."""

    def __init__(
        self, view: GraphView, shapes: dict[str, Shape], opset: int, size: Size, path: Path
    ) -> None:
        self.view, self.shapes, self.opset, self.size, self.path = view, shapes, opset, size, path
        self.layout = "NCHW"
        self.kind: Kind = "scores"
        self.squashed: onnx.NodeProto | None = None  # Softmax or Sigmoid
        self.is_joint = False  # that Softmax, or a LogSoftmax, is over more than the classes
        self.is_relative = False  # scores mean something only beside the other classes'
        self.unit = 1.0  # what a probability of 1 is
        self.align_corners = False
        self.is_upsampled = False
        self.output = ""  # the tensor that is passed to
        self.last_resize = ""
        self.own_threshold: float | None = None  # of a logit
        self.is_below = False  # what is below the threshold is found
        self.pair: int | None = None  # class that was chosen out of two behind a Softmax

    def cut(self, tensor: str, channels: int) -> None:
        """Let the network end at a tensor."""
        if channels > MAX_CHANNELS:
            raise OnnxError(
                f"{self.path} has scores of {channels} channels at {tensor!r}, but of at most "
                f"{MAX_CHANNELS} classes are chosen; name another output with --output, or "
                f"{_UP_TO_LOGITS}"
            )
        self.tensor, self.cut_layout = tensor, self.layout
        self.matrix, self.shift = np.eye(channels), np.zeros(channels)

    @property
    def channels(self) -> int:
        """How many there are now; 0 if that is not known."""
        return 1 if self.pair is not None else len(self.matrix)

    def _refuse(self, reason: str, node: onnx.NodeProto, remedy: str) -> NoReturn:
        raise OnnxError(f"{self.path} {reason} at node {called(node)}; {remedy}")

    def walk(self, nodes: list[tuple[onnx.NodeProto, str]]) -> None:
        """Pass all nodes, in order."""
        resizes = [n for n, _ in nodes if n.op_type in SIZED and not self._is_same_size(n)]
        self.last_resize = resizes[-1].output[0] if resizes else ""
        for node, self.output in nodes:
            self._step(node)

    def _step(self, node: onnx.NodeProto) -> None:
        try:
            STEPS[node.op_type](self, node)
        except OnnxError:
            raise
        except (IndexError, KeyError, StopIteration, TypeError, ValueError) as error:
            raise OnnxError(
                f"{self.path} is not sound at node {called(node)}, whose arguments do not fit what "
                "it reads; export it again"
            ) from error

    def finish(self, threshold: float | None) -> Tail:
        """The tail, with two classes where there is one logit."""
        is_binary = self.channels == 1
        if not is_binary:
            if threshold is not None:
                raise OnnxError(
                    f"{self.path} has {self.channels} classes, of which the best wins; leave "
                    "--threshold out, which is for a network with one"
                )
        else:
            self._check_logit()
            limit = self._limit(threshold)
            rows = (np.zeros(self.matrix.shape[1]), self.matrix[0])
            shifts = (limit, self.shift[0])
            if self.pair is not None:
                rows = (self.matrix[1 - self.pair], self.matrix[self.pair])
                shifts = (limit + self.shift[1 - self.pair], self.shift[self.pair])
            turn = -1 if self.is_below else 1
            self.matrix, self.shift = np.stack(rows[::turn]), np.stack(shifts[::turn])
        return Tail(
            tensor=self.tensor,
            layout=self.cut_layout,
            align_corners=self.align_corners,
            is_upsampled=self.is_upsampled,
            matrix=self.matrix,
            shift=self.shift,
            is_binary=is_binary,
            reading=self._reading(is_binary, threshold),
        )

    def _limit(self, threshold: float | None) -> float:
        """The logit from which the one class is found."""
        own = self.own_threshold
        if own is None:
            asked = DEFAULT_THRESHOLD if threshold is None else threshold
            logger.info(
                "%s has one score a pixel: assuming that a probability of %g finds its class",
                *(self.path.name, asked),
            )
            return log_odds(asked)
        if threshold is not None and not math.isclose(own, log_odds(threshold), abs_tol=1e-4):
            probability = (1 + math.tanh(own / 2)) / 2
            raise OnnxError(
                f"{self.path} has a threshold of its own, at a probability of {probability:.4g}; "
                "leave --threshold out"
            )
        return own

    def _check_logit(self) -> None:
        """Refuse one channel that nothing says to be a logit."""
        is_said = self.squashed is not None or self.own_threshold is not None
        if not is_said and not _is_logit(self.view, self.tensor):
            self._refuse(
                "has one channel that is neither a probability nor a convolution's logit",
                self.view.producers[self.tensor],
                "name another output with --output, or export the network up to its logits",
            )

    def _reading(self, is_binary: bool, threshold: float | None) -> Reading:
        if self.kind == "labels":
            return Reading(layout=self.layout, kind="mask" if is_binary else "labels")
        if not is_binary:
            return Reading(layout=self.layout, kind="best")
        probability = DEFAULT_THRESHOLD if threshold is None else threshold
        limit = log_odds(probability) if self.kind == "scores" else probability * self.unit
        return Reading(layout=self.layout, kind="above", threshold=limit)

    def _is_same_size(self, node: onnx.NodeProto) -> bool:
        before, after = (self.shapes.get(n, ()) for n in (node.input[0], node.output[0]))
        return before == after and bool(before) and min(before) > 0

    def _keep(self, node: onnx.NodeProto) -> None:
        """Leave all nodes so far in the network."""
        if self.kind != "scores" or sorted(self.layout) != sorted("NCHW"):
            self._refuse(f"changes its {self.kind}", node, _UP_TO_LOGITS)
        shape = self.shapes.get(self.output, ())
        self.cut(self.output, shape[self.layout.index("C")] if len(shape) == 4 else 0)

    def _pass_by(self, node: onnx.NodeProto) -> None:
        """Identity: nothing happens."""

    def _cast(self, node: onnx.NodeProto) -> None:
        to = attributes(node)["to"]
        if to in _INTEGERS and self.kind != "labels":
            self._refuse(f"rounds its {self.kind} to whole numbers", node, _UP_TO_LOGITS)
        if to == onnx.TensorProto.BOOL and self.channels > 2:
            self._refuse(f"makes one of {self.channels} classes", node, _UP_TO_LOGITS)

    def _transpose(self, node: onnx.NodeProto) -> None:
        order = attributes(node).get("perm", range(len(self.layout))[::-1])
        self.layout = "".join(self.layout[axis] for axis in order)

    def _squeeze(self, node: onnx.NodeProto) -> None:
        axes = self.view.argument(node, "axes", 1)
        if axes is None:
            shape = self.shapes.get(node.input[0], ())
            axes = np.array([axis for axis, side in enumerate(shape) if side == 1], np.int64)
        left = {int(axis) % len(self.layout) for axis in np.atleast_1d(axes)}
        self.layout = "".join(x for axis, x in enumerate(self.layout) if axis not in left)

    def _unsqueeze(self, node: onnx.NodeProto) -> None:
        found = self.view.argument(node, "axes", 1)
        axes = np.atleast_1d([] if found is None else found)
        letters = list(self.layout)
        if len(letters) + len(axes) > MAX_RANK:
            self._refuse(f"has more than {MAX_RANK} dimensions", node, _UP_TO_LOGITS)
        for axis in sorted(int(axis) % (len(letters) + len(axes)) for axis in axes):
            letters.insert(axis, "1")
        self.layout = "".join(letters)

    def _require_channels(self, axes: str, node: onnx.NodeProto) -> None:
        """Refuse what goes along another axis than the channels, or where there is one."""
        if "C" not in axes:
            self._refuse(
                f"goes along the axis {axes or '?'} of (N, C, H, W) instead of its classes",
                node,
                _UP_TO_LOGITS,
            )
        if self.channels == 1:
            self._refuse(
                "goes along one channel, of which it makes the same everywhere",
                node,
                "export the network up to its logits, or with a Sigmoid behind them",
            )

    def _softmax(self, node: onnx.NodeProto) -> None:
        # Before opset 13 it was over all axes from this one on.
        axis = attributes(node).get("axis", -1 if self.opset >= 13 else 1)
        axes = self.layout[axis:] if self.opset < 13 else self.layout[axis]
        self._require_channels(axes, node)
        self.is_joint = {*axes} - {"C", "1"} != set()
        if node.op_type == "Softmax":
            self._squash(node)
        elif self.kind != "scores":
            self._refuse(f"changes its {self.kind}", node, _UP_TO_LOGITS)
        else:
            self.is_relative = True

    def _squash(self, node: onnx.NodeProto) -> None:
        if self.kind == "labels" or (self.kind == "probabilities" and self.channels == 1):
            self._refuse(f"changes its {self.kind}", node, _UP_TO_LOGITS)
        self.kind = "probabilities"
        self.squashed = self.squashed or node

    def _argmax(self, node: onnx.NodeProto) -> None:
        found = attributes(node)
        axis = found.get("axis", 0) % len(self.layout)
        self._require_channels(self.layout[axis], node)
        if self.kind == "labels":
            self._refuse("changes its labels", node, _UP_TO_LOGITS)
        self.kind = "labels"
        one = "1" if found.get("keepdims", 1) else ""
        self.layout = self.layout[:axis] + one + self.layout[axis + 1 :]

    def _resize(self, node: onnx.NodeProto) -> None:
        if self._is_same_size(node):
            return
        if self.kind == "labels":
            self._refuse(
                "resizes its labels, and not its logits", node, "export it with the resize first"
            )
        if self.squashed is not None:
            self._refuse(
                f"resizes the probabilities of node {called(self.squashed)}, and not its logits,",
                node,
                "export it with that behind the resize, or without it",
            )
        if self.output != self.last_resize:
            self._keep(node)
            return
        self.align_corners = self._aligns_corners(node)
        self.is_upsampled = True
        shape = self.shapes.get(self.output, ())
        sides = dict(zip(self.layout, shape, strict=False))
        if sides and 0 < sides["H"] < self.size[0] and 0 < sides["W"] < self.size[1]:
            self._keep(node)  # what upsamples the rest is behind the file

    def _aligns_corners(self, node: onnx.NodeProto) -> bool:
        found = attributes(node)
        mode = found.get("mode", "nearest")
        coordinates = found.get("coordinate_transformation_mode", "half_pixel")
        if node.op_type == "Upsample" or self.opset < 11:
            coordinates = "asymmetric"  # all that these could do
        if mode != "linear" or coordinates not in _ALIGN_CORNERS:
            raise OnnxError(
                f"{self.path} resizes its logits with mode {mode} and {coordinates} coordinates at "
                f"node {called(node)}; bilinear with half_pixel or align_corners is what FCNs do"
            )
        return _ALIGN_CORNERS[coordinates]

    def _compare(self, node: onnx.NodeProto) -> None:
        limit = next((v for v in map(self.view.value, node.input) if v is not None), None)
        if limit is None or limit.size != 1:
            self._refuse("compares with more than one number", node, _UP_TO_LOGITS)
        is_less = node.op_type.startswith("Less")
        self.is_below = is_less != (node.input[0] in self.view.tensors)
        self._threshold(float(limit.item()), node)

    def _round(self, node: onnx.NodeProto) -> None:
        if self.kind == "scores":
            self._refuse("rounds its scores to whole numbers", node, _UP_TO_LOGITS)
        self._threshold(0.5 * self.unit, node)

    def _threshold(self, limit: float, node: onnx.NodeProto) -> None:
        if self.kind == "labels":
            self._refuse("changes its labels", node, _UP_TO_LOGITS)
        if self.channels != 1:
            self._refuse(f"finds each of {self.channels} classes for itself", node, _UP_TO_LOGITS)
        if self.kind == "probabilities":
            if not 0 < limit / self.unit < 1:
                self._refuse(f"has a threshold of {limit:g} on a probability", node, _UP_TO_LOGITS)
            limit = log_odds(limit / self.unit)
        self.own_threshold, self.kind = limit, "labels"

    def _clip(self, node: onnx.NodeProto) -> None:
        low, high = (self.view.argument(node, n, i) for i, n in ((1, "min"), (2, "max")))
        limits = (0.01 * self.unit, 0.99 * self.unit)
        if self.kind == "labels":
            limits = (0, max(self.channels - 1, 1))
        if self.kind == "scores":
            self._keep(node)
        elif (low is not None and low > limits[0]) or (high is not None and high < limits[1]):
            self._refuse(f"clips its {self.kind}", node, _UP_TO_LOGITS)

    def _choose(self, node: onnx.NodeProto) -> None:
        """Gather, Slice, Split: some of the classes, or one image of the batch."""
        indices, axis = self._indices(node)
        if indices is None:
            self._keep(node)
            return
        letter = self.layout[axis]
        if letter == "N" or (letter == "1" and indices.ndim == 0):
            pass
        elif letter != "C":
            self._keep(node)
        elif self.kind == "labels":
            self._refuse("changes its labels", node, _UP_TO_LOGITS)
        else:
            self._take(np.atleast_1d(indices), node)
        if indices.ndim == 0:
            self.layout = self.layout[:axis] + self.layout[axis + 1 :]

    def _take(self, indices: Array, node: onnx.NodeProto) -> None:
        is_softmax = self.squashed is not None and self.squashed.op_type == "Softmax"
        if len(indices) == 1 and self.channels > 1 and (is_softmax or self.is_relative):
            if self.channels != 2 or self.is_joint or self.is_relative:
                self._refuse(
                    f"takes one of {self.channels} classes' {self.kind}", node, _UP_TO_LOGITS
                )
            self.pair = int(indices[0])
            return
        if len(indices) > MAX_CHANNELS:
            self._refuse(f"takes {len(indices)} of its {self.kind}", node, _UP_TO_LOGITS)
        self.matrix, self.shift = self.matrix[indices], self.shift[indices]

    def _indices(self, node: onnx.NodeProto) -> tuple[Array | None, int]:
        """What of one axis is taken, and that axis; a single number takes the axis away.

        None is taken of several axes, or what is computed.
        """
        view = self.view
        axis = int(attributes(node).get("axis", 0))
        taken: Array | None = None
        if node.op_type == "Slice":
            starts, ends, axes, steps = (
                view.argument(node, name, index)
                for index, name in enumerate(("starts", "ends", "axes", "steps"), 1)
            )
            if starts is not None and ends is not None and starts.size == 1:
                axis = 0 if axes is None else int(axes.item())
                step = 1 if steps is None else int(steps.item())
                taken = self._range(node, axis)[int(starts.item()) : int(ends.item()) : step]
        elif node.op_type == "Gather":
            indices = view.argument(node, "", 1)
            if indices is not None and indices.ndim < 2:
                taken = np.asarray(self._range(node, axis)[indices])
        else:
            sizes = view.argument(node, "split", 1)
            parts = len(node.output) if sizes is None else np.cumsum(sizes)[:-1]
            split = np.array_split(self._range(node, axis), parts)
            taken = split[list(node.output).index(self.output)]
        return taken, axis % len(self.layout)

    def _range(self, node: onnx.NodeProto, axis: int) -> Array:
        shape = self.shapes.get(node.input[0], ())
        if not shape or shape[axis] < 1:
            self._refuse("takes a part of what has no known size", node, _UP_TO_LOGITS)
        if shape[axis] > MAX_BATCH:
            self._refuse(f"takes a part of {shape[axis]}", node, _UP_TO_LOGITS)
        return np.arange(shape[axis])

    def _affine(self, node: onnx.NodeProto) -> None:
        """Add, Sub, Mul, Div by constants, one or one per class."""
        at = next(i for i, name in enumerate(node.input) if name in self.view.tensors)
        value = self.view.value(node.input[at])
        numbers = self._per_class(value)
        is_inverse = node.op_type == "Div" and (at == 0 or value is None or not value.all())
        is_scaling = node.op_type in ("Mul", "Div") and not is_inverse
        if self.kind == "labels" and self.own_threshold is not None and is_scaling:
            return  # a mask of 255 instead of 1
        if self.kind == "probabilities" and is_scaling and value is not None and value.size == 1:
            factor = float(value.item())
            self.unit *= factor if node.op_type == "Mul" else 1 / factor
            if self.unit > 0:
                return
        if self.kind != "scores" or numbers is None or is_inverse:
            self._keep(node)
            return
        if is_scaling:
            if self.is_relative and (numbers.min() != numbers.max() or numbers[0] <= 0):
                self._refuse("scales the classes of a LogSoftmax", node, _UP_TO_LOGITS)
            gain = numbers if node.op_type == "Mul" else 1 / numbers
            self.matrix, self.shift = self.matrix * gain[:, None], self.shift * gain
        elif node.op_type == "Sub" and at == 0:
            self.matrix, self.shift = -self.matrix, numbers - self.shift
        else:
            self.shift = self.shift + (numbers if node.op_type == "Add" else -numbers)

    def _per_class(self, value: Array | None) -> Array | None:
        """A constant as one number per class; None if it is something else."""
        if value is None or value.ndim > len(self.layout) or not self.channels:
            return None
        sides = (1,) * (len(self.layout) - value.ndim) + value.shape
        others = [sides[axis] for axis, letter in enumerate(self.layout) if letter != "C"]
        if max(others, default=1) > 1 or value.size not in (1, self.channels):
            return None
        return np.broadcast_to(value.ravel().astype(np.float64), (self.channels,))


def _is_logit(view: GraphView, tensor: str) -> bool:
    """Whether a tensor is made of convolutions, with nothing behind them that is not linear."""
    waiting, seen = [tensor], {tensor}
    while waiting:
        node = view.producers.get(waiting.pop())
        if node is None:
            return False
        if node.op_type in ("Conv", "ConvTranspose"):
            continue
        sources = view.variables(node)[: 1 if node.op_type in SIZED else None]
        is_product = node.op_type in ("Mul", "Div") and len(sources) > 1
        if node.op_type not in _SUMS or is_product:
            return False
        waiting += {*sources} - seen
        seen.update(sources)
    return True


_UP_TO_LOGITS = "export the network up to its logits"

SIZED = {"Resize", "Upsample"}
"""Their further inputs are sizes, and may be computed."""

STEPS: dict[str, Callable[[Walk, onnx.NodeProto], None]] = {
    "Add": Walk._affine,
    "ArgMax": Walk._argmax,
    "Cast": Walk._cast,
    "Clip": Walk._clip,
    "Div": Walk._affine,
    "Gather": Walk._choose,
    "Greater": Walk._compare,
    "GreaterOrEqual": Walk._compare,
    "Identity": Walk._pass_by,
    "Less": Walk._compare,
    "LessOrEqual": Walk._compare,
    "LogSoftmax": Walk._softmax,
    "Mul": Walk._affine,
    "Resize": Walk._resize,
    "Round": Walk._round,
    "Sigmoid": Walk._squash,
    "Slice": Walk._choose,
    "Softmax": Walk._softmax,
    "Split": Walk._choose,
    "Squeeze": Walk._squeeze,
    "Sub": Walk._affine,
    "Transpose": Walk._transpose,
    "Unsqueeze": Walk._unsqueeze,
    "Upsample": Walk._resize,
}
