"""Typed ONNX to a network that OpenVINO runs on the CPU.

OpenVINO computes an FP32 graph in BF16 wherever the CPU can, unless it is told otherwise. So the
precision hint always says that the graph's own types hold, and what was compiled is read back.

Source: OpenVINO, "CPU device", inference_precision and the runtime model's runtimePrecision.
"""

from __future__ import annotations

import logging
import math
import platform
import re
from collections.abc import Container, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import openvino as ov
from openvino import opset13

from fcn_trt.cache import kept_folder
from fcn_trt.engine.bundle import Bundle, CheckBundle, Compiled, refuse_foreign_files, write_bundle
from fcn_trt.engine.manifest import Proof
from fcn_trt.engine.openvino.transpose import transpose_wide
from fcn_trt.engine.openvino.zero_points import drop_zero_points
from fcn_trt.engine.options import BuildOptions
from fcn_trt.engine.proof import Convolution, convolution_gmac, prove
from fcn_trt.errors import EngineError, OutputError
from fcn_trt.forks import keep, require_unforked
from fcn_trt.network.file import Network
from fcn_trt.onnx_wire import onnx_nodes
from fcn_trt.spec import (
    INPUT_NAME,
    MAX_PER_PIXEL,
    OUTPUT_NAME,
    SMALL_NUMBERS,
    Precision,
    Spec,
)

__all__ = [
    "CONVOLUTIONS",
    "CompiledNetwork",
    "build_openvino",
    "compile_check",
    "compile_free_shape",
    "compile_network",
    "compile_on_cpu",
    "compile_trial",
    "computes",
    "cpu_name",
    "floats_among",
    "node_name",
    "openvino_core",
    "openvino_errors",
    "openvino_version",
    "operation_gmac",
    "read_network",
    "require_computed",
]

logger = logging.getLogger(__name__)

_AS_TYPED = "dynamic"
"""The precision hint under which each node computes in its own type; the name of one type would
make the FP32 nodes of a mixed graph compute in that type, too."""

_NAMES = {"f32": "fp32", "bf16": "bf16", "f16": "fp16", "u8": "int8", "i8": "int8"}
_CAPABILITIES: dict[Precision, str] = {
    "fp32": "FP32",
    "fp16": "FP16",
    "bf16": "BF16",
    "int8": "INT8",
    "fp8": "FP32",  # values and weights are rounded to FP8, and computed with in FP32
}
CONVOLUTIONS = {
    "Convolution": (False, False),
    "GroupConvolution": (False, True),
    "ConvolutionBackpropData": (True, False),
    "GroupConvolutionBackpropData": (True, True),
}
"""Operations that count, by whether they go backwards and whether they have groups."""

_NO_RULE = re.compile(r"No conversion rule found for operations: (?:[\w.]+\.)?(\w+)-\d+")

_BIAS_FREE = "/WithoutBiases"
"""What OpenVINO's ONNX reader appends to the name of a convolution whose bias it splits off."""


@dataclass(frozen=True, slots=True)
class CompiledNetwork:
    """A network that this CPU computes in the type that its graph prescribes.

    Attributes:
        model: openvino.CompiledModel.
        proof: What its convolutions compute in.
    """

    model: Any
    proof: Proof


def build_openvino(
    network: Network,
    out: Path,
    *,
    inputs_sha256: str = "",
    check: CheckBundle = lambda _: (),
) -> Bundle:
    """Compile a typed ONNX on this CPU, prove its precision, and write the bundle.

    Args:
        inputs_sha256: Of everything that a recipe made the network from.
        check: As for `write_bundle`.

    Raises:
        OnnxError: the file is damaged or carries no spec.
        EngineError: OpenVINO cannot compile it, or compiles it to another precision.
        BundleError: the folder holds files that are no bundle's.
        OutputError: the bundle cannot be written.
    """
    refuse_foreign_files(out)
    data = network.read_bytes()
    compiled = Compiled(
        target="openvino",
        target_version=openvino_version(),
        device=cpu_name(),
        compute_capabilities=(),
        precision_proven=compile_network(network).proof,
        scratch_bytes=None,
        plan=None,
    )
    return write_bundle(
        out,
        network=network,
        data=data,
        compiled=compiled,
        options=BuildOptions(),
        inputs_sha256=inputs_sha256,
        check=check,
    )


def compile_network(network: Network) -> CompiledNetwork:
    """Compile for this CPU; a second time for the same file comes from the user's cache.

    A network of dynamic shape is compiled for the shape that it is optimised for.

    Raises:
        EngineError: OpenVINO cannot compile it, or compiles it to another precision.
    """
    spec = network.spec
    require_computed(spec.precision)
    with _cached(network) as options:
        model, compiled = _compile(network.read_bytes(), spec, options, str(network))
    builder = f"OpenVINO {openvino_version()} on this CPU ({cpu_name()})"
    found = list(_convolutions(model, compiled, spec))
    wanted = replace(spec, exceptions=spec.exceptions | _left_in_fp32(model, found, spec))
    return CompiledNetwork(compiled, prove(found, wanted, source="engine", builder=builder))


def _left_in_fp32(
    model: Any, found: Iterable[Convolution], spec: Spec
) -> dict[str, Literal["fp32"]]:
    """Convolutions of a quantised network that OpenVINO computes in FP32 instead.

    All of FP8, which it simulates on the same rounded values. What is FP16 where the CPU has none.
    Of INT8, one of one pixel with a stride if nothing else reads its quantised activation, as where
    the first convolution of its block was left in float: there OpenVINO 2026.4 moves the stride
    over the Q. All these cost time and no accuracy.
    """
    strided = {
        node_name(op.get_friendly_name(), (), spec)
        for op in model.get_ops()
        if op.get_type_name() == "Convolution"
        and math.prod(op.input_value(1).shape[2:]) == 1
        and max(op.get_attributes()["strides"]) > 1
    }
    halves = {name for name, kind in spec.exceptions.items() if kind == "fp16"}
    return {
        convolution.name: "fp32"
        for convolution in found
        if convolution.precision == "fp32"
        and (
            spec.precision == "fp8"
            or (spec.precision == "int8" and convolution.name in strided)
            or (convolution.name in halves and not computes("fp16"))
        )
    }


def compile_trial(data: bytes, spec: Spec) -> Any:
    """Compile a network that is thrown away after it has shown what it predicts.

    It is not cached, and a convolution may compute in another type than the spec says: OpenVINO
    computes some quantised ones in FP32 where a neighbour is not quantised, on the same rounded
    values and weights, so that only the speed differs.

    Returns:
        openvino.CompiledModel.

    Raises:
        EngineError: OpenVINO cannot compile it.
    """
    require_computed(spec.precision)
    return _compile(data, spec, {}, spec.model)[1]


def compile_check(data: bytes, spec: Spec) -> Any:
    """Compile the bytes of a network to see what it labels; as `compile_trial`, on any CPU.

    One that does not compute a type, such as FP16, computes in FP32 what is rounded to it.

    Returns:
        openvino.CompiledModel.

    Raises:
        EngineError: OpenVINO cannot compile it.
    """
    hint = _AS_TYPED if computes(spec.precision) else "f32"
    return _compile(data, spec, {"INFERENCE_PRECISION_HINT": hint}, spec.model)[1]


def compile_free_shape(network: Network) -> Any:
    """Compile for images of any number and size, as evaluation needs; the values are the same.

    Returns:
        openvino.CompiledModel.

    Raises:
        EngineError: OpenVINO cannot compile it.
    """
    require_computed(network.spec.precision)
    with _cached(network) as options:
        return _compile(network.read_bytes(), network.spec, options, str(network), free=True)[1]


def _compile(
    data: bytes, spec: Spec, options: dict[str, str], name: str, *, free: bool = False
) -> tuple[Any, Any]:
    """openvino.Model and openvino.CompiledModel of the bytes of a typed ONNX."""
    config = {
        "INFERENCE_PRECISION_HINT": _AS_TYPED,
        "PERFORMANCE_HINT": "LATENCY",
        **options,
        **(_FREE_SHAPE if free else {}),
    }
    with _unknown_operators(data, name), openvino_errors(f"compile {name}"):
        model = read_network(data, spec)
        _shield_concatenations(model)
        drop_zero_points(model)
        if free:
            model.reshape({INPUT_NAME: [-1, 3, -1, -1]})
        else:
            transpose_wide(model, spec)
        return model, compile_on_cpu(model, config)


def compile_on_cpu(model: Any, config: dict[str, str]) -> Any:
    """openvino.CompiledModel of an openvino.Model, which a fork leaves behind."""
    core = keep("OpenVINO", openvino_core())  # before, as it starts threads; they are the core's
    return keep("OpenVINO", core.compile_model(model, "CPU", config))


def read_network(data: bytes, spec: Spec) -> Any:
    """The bytes of a network as OpenVINO reads them, at the shape that it is optimised for.

    Returns:
        openvino.Model, of which nothing is computed yet.

    Raises:
        EngineError: a tensor of it is larger than an image makes, and would fill the memory.
        RuntimeError: OpenVINO cannot read it.
    """
    model = openvino_core().read_model(data)
    shape = ov.PartialShape([spec.batch, 3, *spec.input_size])
    if model.input(INPUT_NAME).partial_shape != shape:
        model.reshape({INPUT_NAME: shape})
    most = max(MAX_PER_PIXEL * spec.batch * math.prod(spec.input_size), SMALL_NUMBERS)
    for op in model.get_ops():
        for port in op.outputs() if op.get_type_name() != "Constant" else ():
            sides = port.get_partial_shape()
            if sides.is_static and math.prod(sides.to_shape()) > most:
                raise EngineError(
                    f"{spec.model} makes {math.prod(sides.to_shape())} numbers of an image at "
                    f"{op.get_friendly_name()}, and at most {most} are computed; export it again"
                )
    return model


_FREE_SHAPE = {"CPU_RUNTIME_CACHE_CAPACITY": "0"}
"""Keep no kernels of other sizes: by default those of 5000 are kept, and memory grows with each
size. A size that comes again has its kernels still, and is as fast."""


def _shield_concatenations(model: Any) -> None:
    """Put a max-pooling of one pixel, which changes nothing, behind what is quantised after Concat.

    OpenVINO 2026.4 moves a FakeQuantize over a Concat and then takes values for codes: a
    convolution behind it read its activations rounded to whole numbers. In the network of
    tests/engine/openvino/test_builder.py, logits of 0.74 on average were off by 2.2, and 55 % of
    the labels were right. It does not move one over a max-pooling and a Concat.
    """
    for op in model.get_ops():
        if op.get_type_name() == "FakeQuantize" and _comes_from_concat(op.input_value(0)):
            pool = opset13.max_pool(op.input_value(0), *_ONE_PIXEL)
            op.input(0).replace_source_output(pool.output(0))


def _comes_from_concat(tensor: Any) -> bool:
    """Whether a tensor is a Concat's, or is made of one by what a FakeQuantize is moved over."""
    node = tensor.get_node()
    while node.get_type_name() in ("Convert", "Relu", "Clamp"):  # Convert is from float16
        node = node.input_value(0).get_node()
    return node.get_type_name() == "Concat" and len(tensor.shape) == 4


_ONE_PIXEL = ([1, 1], [1, 1], [0, 0], [0, 0], [1, 1])
"""Strides, dilations, padding before and behind, and kernel of a pooling."""


@contextmanager
def _unknown_operators(data: bytes, name: str) -> Iterator[None]:
    """Name the node of an operator that OpenVINO does not take; itself it names the operator."""
    try:
        yield
    except EngineError as error:
        unknown = _NO_RULE.search(str(error.__cause__))
        if unknown is None:
            raise
        operator = unknown[1]
        nodes = (node for kind, node in onnx_nodes(data) if kind == operator)
        raise EngineError(
            f"{name} cannot become an engine: OpenVINO {openvino_version()} does not take the "
            f"operator {operator} of node {next(nodes, '')!r}; replace it, or export the model "
            "with `fcn-trt export`"
        ) from error


@contextmanager
def _cached(network: Network) -> Iterator[dict[str, str]]:
    """Options that say where compiled blobs are kept; nowhere where the home cannot be written.

    One folder per content: OpenVINO itself tells files apart by path, size and a time stamp of
    whole seconds, and would run the old weights of a network that was just rebuilt.
    """
    with ExitStack() as stack:
        options = {}
        try:
            folder = stack.enter_context(kept_folder("openvino", network.sha256))
            options["CACHE_DIR"] = str(folder)
        except OutputError as error:
            logger.warning("compiling without a cache, so each start compiles anew: %s", error)
        yield options


def _convolutions(model: Any, compiled: Any, spec: Spec) -> Iterator[Convolution]:
    """The convolutions of a compiled network, and the types they compute in.

    Args:
        model: openvino.Model, which has the shapes.
        compiled: openvino.CompiledModel, which has the types.
    """
    kinds: dict[str, str] = {}
    for node in compiled.get_runtime_model().get_ops():
        info = node.get_rt_info()
        if info["layerType"].value in ("Convolution", "Deconvolution"):
            kind = info["runtimePrecision"].value
            kinds |= dict.fromkeys(info["originalLayersNames"].value.split(","), kind)
    convolutions = [op for op in model.get_ops() if op.get_type_name() in CONVOLUTIONS]
    names = [op.get_friendly_name() for op in convolutions]
    for op, name in zip(convolutions, names, strict=True):
        found = next((kinds[alias] for alias in _aliases(op) if alias in kinds), None)
        if found is None and spec.precision == "fp8":
            found = "f32"  # some names get lost, but this plugin has no convolution in FP8
        if found is None:
            logger.warning("OpenVINO does not tell what %s of %s computes in", name, spec.model)
        else:
            yield Convolution(
                name=node_name(name, names, spec),
                precision=_NAMES.get(found, found),
                gmac=operation_gmac(op),
            )


def _aliases(op: Any) -> Iterator[str]:
    """The names that a convolution may be compiled under: its own, or what is computed with it.

    OpenVINO folds a normalisation, or the division by the next scale where it simulates FP8, into
    the weights, and calls the convolution after that.
    """
    yield op.get_friendly_name()
    readers = op.output(0).get_target_inputs()
    while len(readers) == 1:
        (reader,) = readers
        node = reader.get_node()
        if node.get_type_name() in (*CONVOLUTIONS, "Concat", "Result"):
            return
        yield node.get_friendly_name()
        readers = node.output(0).get_target_inputs()


def operation_gmac(op: Any) -> float:
    """Of a convolution of any kind; weights are (groups,) out, in, ... or else in, out, ..."""
    is_backwards, is_grouped = CONVOLUTIONS[op.get_type_name()]
    pixels = op.input_value(0).shape if is_backwards else op.output(0).shape
    kernel = op.input_value(1).shape
    return convolution_gmac(pixels, kernel[1:] if is_grouped else kernel)


def node_name(name: str, known: Container[str], spec: Spec) -> str:
    """What the ONNX calls a convolution.

    OpenVINO calls the one that makes the output after the output. In a half network that is one
    that was kept in FP32, since behind any other stands a Cast.
    """
    if name == OUTPUT_NAME:
        return next((node for node in spec.exceptions if node not in known), name)
    return name.removesuffix(_BIAS_FREE)


@contextmanager
def openvino_errors(work: str) -> Iterator[None]:
    """Say what OpenVINO could not do, with the last line of its own reason.

    Args:
        work: What is done in the block, such as "compile m.onnx".

    Raises:
        EngineError: OpenVINO raised in the block, or was left behind by a fork.
    """
    require_unforked("OpenVINO", work)
    try:
        yield
    except EngineError:
        raise
    except RuntimeError as error:
        last = (str(error).strip().splitlines() or ["no reason given"])[-1]
        raise EngineError(f"OpenVINO {openvino_version()} cannot {work}: {last}") from error


@cache
def openvino_core() -> Any:
    """The one openvino.Core of this process.

    On Linux each Core's CPU plugin puts down a signal stack of its own and, when it goes, puts the
    one before it back, even if that is freed by now (2026.4, src/plugins/intel_cpu/src/plugin.cpp,
    SigAltStackSetup). After two Cores that did not go in reverse order, Ctrl-C is a segmentation
    fault.
    """
    return ov.Core()


def computes(precision: Precision) -> bool:
    """Whether this CPU computes convolutions in a type; BF16 and FP16 need new ones."""
    has = openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return _CAPABILITIES.get(precision) in has


def require_computed(precision: Precision) -> None:
    """Refuse a type that this CPU does not compute.

    Raises:
        EngineError: it does not.
    """
    if not computes(precision):
        has = openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        raise EngineError(
            f"{precision} was asked for, which OpenVINO {openvino_version()} does not compute on "
            f"this CPU ({cpu_name()}); choose {' or '.join(floats_among(has))}"
        )


def floats_among(capabilities: Container[str]) -> list[Precision]:
    """The types of floats that a CPU of some capabilities computes, the smallest first."""
    kinds: tuple[Precision, ...] = ("fp16", "bf16", "fp32")
    return [kind for kind in kinds if _CAPABILITIES[kind] in capabilities]


def openvino_version() -> str:
    """Its release, such as "2026.4.1", without the build it came from."""
    return str(ov.__version__).partition("-")[0]


def cpu_name() -> str:
    """What OpenVINO calls this CPU."""
    name = openvino_core().get_property("CPU", "FULL_DEVICE_NAME")
    return str(name).strip() or platform.machine()
