"""What a network's tensors hold: run on the CPU once per batch, with each tensor shown in passing.

A network whose tensors are all outputs holds all of them until it has run: 6 GB for fcn_resnet50 at
1024x2048. So whoever wants a tensor reads it inside the network, through an operation of our own
that is computed with the others, while OpenVINO frees what nobody reads any more: 1.6 GB. Of the
other tensors one number comes out.

Source: OpenVINO, "Custom Python operations".
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import openvino as ov
from openvino import opset13

from fcn_trt.engine.openvino.builder import compile_on_cpu, openvino_errors, read_network
from fcn_trt.errors import EngineError
from fcn_trt.network.file import Network
from fcn_trt.spec import Frame, Spec
from fcn_trt.stages.preprocess import preprocess_into

__all__ = ["Maxima", "OnTensor", "TensorValues", "batches"]

Maxima: TypeAlias = dict[str, float]
"""By the ONNX name of a float tensor that is no constant: its largest magnitude."""

Values: TypeAlias = npt.NDArray[np.float32]

OnTensor: TypeAlias = Callable[[str, Values], None]
"""Takes a tensor's ONNX name and its values, which are gone when it returns."""


class TensorValues:
    """An FP32 network that shows its tensors. It serves one thread at a time.

    Args:
        network: An FP32 one; a dynamic one is fixed at the shape that it is optimised for.
        wanted: ONNX names of the float tensors whose values are handed over.

    Raises:
        EngineError: OpenVINO cannot compile the network, or has no such tensor.
    """

    def __init__(self, network: Network, wanted: Collection[str] = ()) -> None:
        self._network = network
        self._audience = _Audience()
        data = network.read_bytes()
        with openvino_errors(f"compile {network}"):
            model = read_network(data, network.spec)
            shown, self._rest = list[_Show](), list[tuple[int, list[str]]]()
            outputs: list[Any] = []  # OpenVINO computes in their order
            for tensor in _float_tensors(model):
                if names := sorted(tensor.get_names().intersection(wanted)):
                    shown.append(_Show([tensor], names, self._audience))
                    outputs.append(shown[-1].output(0))
                else:
                    self._rest.append((len(outputs), sorted(tensor.get_names())))
                    outputs.append(_maximum(tensor))
            measuring = ov.Model(list(map(opset13.result, outputs)), model.get_parameters())
            compiled = compile_on_cpu(measuring, {"INFERENCE_PRECISION_HINT": "f32"})
            self._request = compiled.create_infer_request()
        found = {name for show in shown for name in show.names}
        if missing := [name for name in wanted if name not in found]:
            raise EngineError(
                f"{network} has no tensor {missing[0]!r} any more once OpenVINO has read it; "
                "export it with `fcn-trt export`"
            )

    def measure(self, images: Values, on_tensor: OnTensor = lambda _name, _values: None) -> Maxima:
        """Run the network once.

        Args:
            images: (batch, 3, height, width) normalised images.
            on_tensor: Called with each wanted tensor, in the order in which they are computed. What
                it raises comes through, after the run.

        Returns:
            The largest magnitude over all images of each float tensor that is not wanted, in the
            order in which they are computed.

        Raises:
            EngineError: OpenVINO cannot run the network on the images.
        """
        with self._audience.listening(on_tensor), openvino_errors(f"run {self._network}"):
            # Not `infer`, which with one thread computes in ours, where Ctrl-C comes. An exception
            # in there OpenVINO 2026.4 loses, and a later inference runs what it left behind.
            try:
                self._request.start_async([images], share_inputs=True)
            finally:  # Ctrl-C may come before it, and the images must outlive the run
                self._request.wait()
            results = self._request.results
        return {name: float(results[place]) for place, names in self._rest for name in names}


def batches(images: Iterable[Frame], spec: Spec) -> Iterator[tuple[Values, int]]:
    """Full batches and the number of new frames in each; the last one repeats its last frame.

    Each batch is gone when the next one comes, as both are the same array.
    """
    frames = iter(images)
    tensor = np.empty((spec.batch, 3, *spec.input_size), dtype=np.float32)
    while True:
        count = 0
        for row, frame in zip(tensor, frames, strict=False):
            preprocess_into(row, frame, mean=spec.mean, std=spec.std)
            count += 1
        if not count:
            return
        tensor[count:] = tensor[count - 1]  # so that maxima do not change
        yield tensor, count


@dataclass(slots=True)
class _Audience:
    """Who listens to a network that runs, and what went wrong there.

    An exception cannot go through OpenVINO, which would keep its text alone.
    """

    on_tensor: OnTensor | None = None
    error: BaseException | None = None

    @contextmanager
    def listening(self, on_tensor: OnTensor) -> Iterator[None]:
        """Hand tensors to a function in the block, and raise behind it what the function raised."""
        self.on_tensor, self.error = on_tensor, None
        try:
            yield
        except EngineError as error:
            if self.error is not None:
                raise self.error from error
            # Ctrl-C may come between two lines of ours, where OpenVINO makes an error of it.
            if "KeyboardInterrupt" in str(error.__cause__):
                raise KeyboardInterrupt from error
            raise
        else:
            if self.error is not None:
                raise self.error
        finally:
            self.on_tensor = self.error = None

    def take(self, name: str, values: Values) -> None:
        """Hand a tensor on, unless something went wrong before."""
        if self.on_tensor is None or self.error is not None:
            return
        try:
            self.on_tensor(name, values)
        except BaseException as error:  # noqa: BLE001  # it is raised again, Ctrl-C, too
            self.error = error


class _Show(ov.Op):
    """An operation that shows a tensor; its output, of which there must be one, is 0.

    Args:
        tensors: The openvino.Output, in a list as OpenVINO wants it.
        names: ONNX names under which the tensor is shown.
        audience: To whom.
    """

    def __init__(self, tensors: list[Any], names: list[str], audience: _Audience) -> None:
        super().__init__(self, tensors)
        self.names = names
        self._audience = audience

    def validate_and_infer_types(self) -> None:
        self.set_output_type(0, ov.Type.f32, ov.PartialShape([]))

    def clone_with_new_inputs(self, tensors: list[Any]) -> _Show:
        return _Show(tensors, self.names, self._audience)

    def has_evaluate(self) -> bool:
        return True

    def evaluate(self, outputs: list[Any], inputs: list[Any]) -> bool:
        for name in self.names:
            self._audience.take(name, inputs[0].data)
        outputs[0].data[...] = 0
        return True


def _float_tensors(model: Any) -> Iterator[Any]:
    """The openvino.Output of each tensor with a name, in the order of computation."""
    for op in model.get_ordered_ops():
        if op.get_type_name() not in ("Constant", "Result"):
            for port in op.outputs():
                if port.get_element_type() == ov.Type.f32 and port.get_names():
                    yield port


def _maximum(tensor: Any) -> Any:
    """The largest magnitude, without a copy of the tensor for its magnitudes."""
    axes = np.arange(len(tensor.get_partial_shape()), dtype=np.int64)
    lowest = opset13.negative(opset13.reduce_min(tensor, axes))
    return opset13.maximum(opset13.reduce_max(tensor, axes), lowest).output(0)
