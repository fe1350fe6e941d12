"""Whole tensors of a network, run on the CPU piece by piece so that few of them exist at once.

A network whose tensors are all outputs holds all of them until it has run: 6 GB for fcn_resnet50 at
1024x2048. So it is cut where a single tensor is alive, which is between its residual blocks: each
piece is a network of its own, and what it handed over is freed before the next one runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import openvino as ov
from openvino import opset13

from fcn_trt.engine.openvino import openvino_core, openvino_errors
from fcn_trt.engine.tensor_maxima import Maxima
from fcn_trt.errors import EngineError
from fcn_trt.spec import INPUT_NAME, Spec

__all__ = ["LIMIT_BYTES", "OnTensor", "TensorValues"]

LIMIT_BYTES = 256 << 20
"""What a piece hands over together, unless a single piece that cannot be cut has more."""

KEPT_BYTES = 256 << 20
"""Inputs of the pieces that stay compiled. A compiled network never gives the memory of its input
back (2026.4), which are 2.3 GB for fcn_resnet50 at 1024x2048; to compile the pieces beyond this
anew for each batch takes about a thirteenth of the time that they run."""

Values: TypeAlias = npt.NDArray[np.float32]

OnTensor: TypeAlias = Callable[[str, Values], None]
"""Takes a tensor's ONNX name and its values, which are gone when it returns."""


class TensorValues:
    """An FP32 network that shows its tensors.

    Args:
        network: The FP32 ONNX file.
        spec: Its spec; a dynamic network is fixed at the shape that it is optimised for.
        wanted: ONNX names of the float tensors whose values are handed over.
        limit_bytes: What a piece hands over together, where it can be cut finely enough.

    Raises:
        EngineError: OpenVINO cannot compile the network, or has no such tensor.
    """

    def __init__(
        self,
        network: Path,
        spec: Spec,
        wanted: Collection[str],
        *,
        limit_bytes: int = LIMIT_BYTES,
    ) -> None:
        self._network = network
        with openvino_errors(f"compile {network}"):
            model = openvino_core().read_model(network)
            if spec.dynamic is not None:
                model.reshape({INPUT_NAME: [spec.batch, 3, *spec.input_size]})
            tensors = _float_tensors(model, wanted)
            groups = _grouped(model, tensors, limit_bytes)
            self._pieces = list(_cut(groups))
            self._kept = list(_kept(self._pieces))
        shown = {name for tensor in tensors for name in tensor.wanted}
        if missing := [name for name in wanted if name not in shown]:
            raise EngineError(
                f"{network} has no tensor {missing[0]!r} any more once OpenVINO has read it; "
                "export it with `fcn-trt export`"
            )

    @property
    def pieces(self) -> int:
        """How many networks it was cut into."""
        return len(self._pieces)

    def measure(self, images: Values, on_tensor: OnTensor) -> Maxima:
        """Run the network once.

        Args:
            images: (batch, 3, height, width) normalised images.
            on_tensor: Called with each wanted tensor, in the order in which they are computed.

        Returns:
            The largest magnitude over all images of each float tensor that is not wanted.

        Raises:
            EngineError: OpenVINO cannot run the network on the images.
        """
        maxima: Maxima = {}
        values = images
        for piece, kept in zip(self._pieces, self._kept, strict=True):
            with openvino_errors(f"run {self._network}"):
                compiled = kept or _compile(piece.network)
                # A request of its own, as one that stays keeps all of its outputs.
                results = compiled.create_infer_request().infer(
                    [values], share_inputs=True, share_outputs=True
                )
                compiled.release_memory()
                del compiled
            for name in piece.input_names:
                on_tensor(name, values)
            for index, names in enumerate(piece.output_names):
                for name in names:
                    on_tensor(name, results[index])
            for index, names in enumerate(piece.maxima_names, start=len(piece.output_names)):
                maxima |= dict.fromkeys(names, float(results[index]))
            values = results[piece.end] if piece.end is not None else values
            del results
        return maxima


@dataclass(frozen=True, slots=True)
class _Tensor:
    """A float tensor that has a name in the ONNX file.

    Attributes:
        port: openvino.Output.
        names: What the file calls it, aliases included.
        wanted: Those of its names under which its values are handed over.
        place: Of the operation that computes it, in the order of computation.
    """

    port: Any
    names: tuple[str, ...]
    wanted: tuple[str, ...]
    place: int

    @property
    def size_bytes(self) -> int:
        """Of what is handed over."""
        return 4 * math.prod(self.port.get_shape()) if self.wanted else 0


@dataclass(frozen=True, slots=True)
class _Piece:
    """A part of the network.

    Attributes:
        network: openvino.Model.
        input_names: Wanted names of its input.
        output_names: Wanted names of each tensor that it hands over.
        maxima_names: Names of each tensor of which the largest magnitude follows.
        end: Number of the output that the next piece takes; None for the last piece.
    """

    network: Any
    input_names: tuple[str, ...]
    output_names: list[tuple[str, ...]]
    maxima_names: list[tuple[str, ...]]
    end: int | None


def _float_tensors(model: Any, wanted: Collection[str]) -> list[_Tensor]:
    """In the order of computation, the image first."""
    found = []
    for place, op in enumerate(model.get_ordered_ops()):
        if op.get_type_name() in ("Constant", "Result"):
            continue
        for port in op.outputs():
            if port.get_element_type() == ov.Type.f32 and port.get_names():
                names = tuple(sorted(port.get_names()))
                found.append(_Tensor(port, names, tuple(n for n in names if n in wanted), place))
    return sorted(found, key=lambda tensor: INPUT_NAME not in tensor.names)


def _grouped(model: Any, tensors: list[_Tensor], limit_bytes: int) -> list[list[_Tensor]]:
    """The tensors of each piece; all but the last piece end where the network can be cut."""
    alone = set(_alone(model))
    groups, since = [tensors[:1]], list[_Tensor]()
    for tensor in tensors[1:]:
        since.append(tensor)
        if tensor is tensors[-1] or (tensor.place in alone and tensor.port.get_target_inputs()):
            together = sum(other.size_bytes for other in (*groups[-1], *since))
            if together > limit_bytes and len(groups[-1]) > 1:
                groups.append([])
            groups[-1] += since
            since = []
    return groups


def _alone(model: Any) -> Iterator[int]:
    """Places of the operations after which nothing is alive but the one output that they have."""
    ops = [op for op in model.get_ordered_ops() if op.get_type_name() != "Result"]
    places = {op.get_name(): place for place, op in enumerate(ops)}
    last_use: dict[int, int] = {}  # of what depends on the image; all else is constant
    for place, op in enumerate(ops):
        sources = {places[port.get_source_output().get_node().get_name()] for port in op.inputs()}
        if op.get_type_name() == "Parameter" or sources & last_use.keys():
            last_use[place] = place
            last_use |= dict.fromkeys(sources & last_use.keys(), place)
    alive: set[int] = set()
    for place, op in enumerate(ops):
        alive = {other for other in {*alive, place} if last_use.get(other, -1) > place}
        outputs = [port for port in op.outputs() if port.get_target_inputs()]
        if alive == {place} and len(outputs) == 1:
            yield place


def _cut(groups: list[list[_Tensor]]) -> Iterator[_Piece]:
    """Take the network to pieces, each with a parameter of its own where the one before ends."""
    start = groups[0][0]
    parameter = start.port.get_node()
    for group in groups:
        end = group[-1] if group is not groups[-1] else None
        following = None
        if end is not None:
            following = opset13.parameter(end.port.get_shape(), ov.Type.f32)
            for reader in end.port.get_target_inputs():
                reader.replace_source_output(following.output(0))
        outputs = [t for t in group if t is not start and (t.wanted or t is end)]
        rest = [t for t in group if not t.wanted]
        results = [opset13.result(tensor.port) for tensor in outputs]
        results += [opset13.result(_maximum(tensor.port)) for tensor in rest]
        yield _Piece(
            network=ov.Model(results, [parameter]),
            input_names=start.wanted if group is groups[0] else (),
            output_names=[tensor.wanted for tensor in outputs],
            maxima_names=[tensor.names for tensor in rest],
            end=None if end is None else outputs.index(end),
        )
        parameter = following


def _maximum(tensor: Any) -> Any:
    """The largest magnitude, without a copy of the tensor for its magnitudes."""
    axes = np.arange(len(tensor.get_partial_shape()), dtype=np.int64)
    lowest = opset13.negative(opset13.reduce_min(tensor, axes))
    return opset13.maximum(opset13.reduce_max(tensor, axes), lowest).output(0)


def _compile(network: Any) -> Any:
    return openvino_core().compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})


def _kept(pieces: list[_Piece]) -> Iterator[Any]:
    """The compiled networks of the pieces that stay, and None for the others."""
    total = 0
    for piece in pieces:
        total += 4 * math.prod(piece.network.input(0).get_shape())
        yield _compile(piece.network) if total <= KEPT_BYTES else None
