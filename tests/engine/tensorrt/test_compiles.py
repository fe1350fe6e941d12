"""The real TensorRT-RTX builder takes every model, size and type; every refusal is a failure.

A model is exported and typed once, with weights from a seed, and then declared at each size: the
nodes of an FCN do not depend on it. Each compilation is for all the GPUs that have the type at
once. In INT8 and FP8 each tensor has the same made-up range, as the builder compiles any; the rest
is FP16, in FP8 with the convolutions that it has no kernels for.

`make test` compiles each model at full width at one size, and with dynamic shapes at an eighth of
the width, in the two types that are used most, and at an eighth of the width in every type; all
sizes, types and shapes at full width are in `make test-all`.
"""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from fcn_trt.engine.options import LEAST_CAPABILITY, BuildOptions, parse_capability
from fcn_trt.errors import EngineError
from fcn_trt.spec import ShapeRange, Spec

onnx = pytest.importorskip("onnx")
pytestmark = pytest.mark.usefixtures("rtx")

LADDER = ((256, 512), (512, 1024), (1024, 2048))
PRECISIONS = ("fp32", "fp16", "bf16", "int8", "fp8")
FREQUENT = ("fp16", "int8")
"""The types that are used most."""

CAPABILITIES = ("7.5", "8.6", "8.9", "12.0")
RANGE = ShapeRange(min_size=LADDER[0], max_size=LADDER[-1], min_batch=1, max_batch=4)
MODELS = {
    "fcn_resnet50": LADDER,
    "fcn_resnet101": LADDER,
    "fcn_r18-d8": LADDER,
    "fcn_r50-d8": LADDER,
    "fcn_r50b-d8_769x769": ((769, 769),),
    "fcn_d6_r50-d16": LADDER,
    "demo": LADDER,
    "zoo": LADDER,
}


@dataclass
class Typed:
    """A model in one type."""

    graph: Any
    spec: Spec


DEEPER = ("fcn_resnet101", "fcn_r50b-d8_769x769")
"""Of whose operators another model has the same."""


@pytest.fixture(
    scope="module",
    params=[pytest.param(m, marks=pytest.mark.exhaustive if m in DEEPER else ()) for m in MODELS],
)
def model(request):
    return request.param


@pytest.fixture(scope="module")
def exported(model, make_model, tmp_path_factory):
    """Make a model's FP32 network, static or dynamic, at full width or narrow."""
    from fcn_trt.model.load import load_model
    from fcn_trt.model.weights import find_model
    from fcn_trt.network.contract import load_network
    from fcn_trt.network.to_onnx import to_onnx
    from fcn_trt.pipeline.plan import Checking
    from tests.plans import export_network

    folder = tmp_path_factory.mktemp("networks")

    @cache
    def source(is_narrow):
        if model == "zoo":
            return _write_zoo_style(folder / f"zoo{is_narrow}.onnx", is_narrow=is_narrow)
        if model == "demo":
            return load_model(find_model("fcn_trt/demo/weights.safetensors"))
        return (
            make_model(model, classes=21) if is_narrow else load_model(find_model(model, "random"))
        )

    @cache
    def make(dynamic=None, *, is_narrow=False):
        size = MODELS[model][0]
        if model != "zoo":
            return Typed(*to_onnx(source(is_narrow), size=size, dynamic=dynamic))
        path = folder / f"{dynamic is None}{is_narrow}.onnx"
        off = Checking(is_on=False)  # its weights are random
        export_network(str(source(is_narrow)), path, size=size, dynamic=dynamic, checking=off)
        return Typed(*load_network(path))

    return make


def _write_zoo_style(path, *, is_narrow):
    """torchvision's own FCN as the ONNX Model Zoo has it: opset 11, dynamic axes, full size."""
    import torch
    import torchvision

    network = torchvision.models.segmentation.fcn_resnet50(
        weights=None, weights_backbone=None, aux_loss=True
    ).eval()
    if is_narrow:
        _narrow(network)
    sides = {0: "batch", 2: "height", 3: "width"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # this exporter is deprecated, but wrote the Zoo's files
        torch.onnx.export(
            network,
            (torch.zeros(1, 3, 64, 64),),
            str(path),
            input_names=["input"],
            output_names=["out", "aux"],
            opset_version=11,
            dynamo=False,
            dynamic_axes={"input": sides, "out": sides, "aux": sides},
        )
    return path


def _narrow(module):
    """Take an eighth of the channels everywhere but in the image and in the classes."""
    import torch

    for name, child in module.named_children():
        if isinstance(child, torch.nn.Conv2d):
            ins = child.in_channels if child.in_channels == 3 else child.in_channels // 8
            outs = child.out_channels if child.out_channels == 21 else child.out_channels // 8
            same = {n: getattr(child, n) for n in ("kernel_size", "stride", "padding", "dilation")}
            narrow = torch.nn.Conv2d(ins, outs, **same, bias=child.bias is not None)
            setattr(module, name, narrow)
        elif isinstance(child, torch.nn.BatchNorm2d):
            setattr(module, name, torch.nn.BatchNorm2d(child.num_features // 8).eval())
        else:
            _narrow(child)


def typed(network, precision):
    """A copy of an FP32 network in a type."""
    from fcn_trt.network.contract import OPSET, copy_in_opset
    from fcn_trt.precision.half import to_half
    from fcn_trt.precision.quantize import quantize_network

    graph, spec = network.graph, network.spec
    if precision == "fp32":
        return Typed(copy_in_opset(graph, OPSET), spec)
    if precision in ("fp16", "bf16"):
        return Typed(*to_half(graph, spec, precision))
    amaxes = dict.fromkeys(["image", *(name for n in graph.graph.node for name in n.output)], 4.0)
    return Typed(*to_half(*quantize_network(graph, spec, precision, amaxes, opset=19), "fp16"))


def convolutions(network):
    """How many there are of each type: that of the network, and that of what it leaves."""
    names = [n.name for n in network.graph.graph.node if n.op_type in ("Conv", "ConvTranspose")]
    assert set(network.spec.exceptions) <= set(names)
    return Counter(network.spec.exceptions.get(name, network.spec.precision) for name in names)


def left_by_fp8(network):
    """By name, the (out, in, height, width) of what is not FP8."""
    shapes = {t.name: tuple(t.dims) for t in network.graph.graph.initializer}
    nodes = {n.name: n for n in network.graph.graph.node}
    return {name: shapes[nodes[name].input[1]] for name in network.spec.exceptions}


def declared(network, size):
    """The same nodes at another input size."""
    from fcn_trt.network.contract import declare_ends, image_shape, logits_shape

    spec = replace(network.spec, input_size=size)
    del network.graph.graph.value_info[:]
    declare_ends(network.graph.graph, image_shape(spec), logits_shape(spec))
    return Typed(network.graph, spec)


def compile_it(network):
    """Compile for every GPU that has the type; an error of the parser or the builder raises."""
    from fcn_trt.engine.tensorrt.builder import compile_tensorrt

    data = network.graph.SerializeToString()
    least = parse_capability(LEAST_CAPABILITY.get(network.spec.precision, "7.5"))
    chosen = tuple(c for c in CAPABILITIES if parse_capability(c) >= least)
    options = BuildOptions(compute_capabilities=chosen)
    return compile_tensorrt(
        data, network.spec, name=Path(network.spec.model), target="tensorrt-rtx", options=options
    )


def require_compiled(network):
    compiled = compile_it(network)
    assert compiled.plan
    assert compiled.precision_proven.convolutions == convolutions(network)


def shapes(model):
    """What a dynamic network of a model takes, its own size among it."""
    size = MODELS[model][0]
    return replace(RANGE, min_size=size if len(MODELS[model]) > 1 else (513, 513))


@pytest.mark.parametrize("precision", FREQUENT)
def test_network_of_full_width_compiles_at_one_size(exported, precision):
    require_compiled(typed(exported(), precision))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_network_of_an_eighth_of_the_width_compiles(exported, precision):
    require_compiled(typed(exported(is_narrow=True), precision))


@pytest.mark.parametrize("precision", FREQUENT)
def test_dynamic_network_of_an_eighth_of_the_width_compiles(model, exported, precision):
    network = typed(exported(shapes(model), is_narrow=True), precision)
    assert network.spec.dynamic is not None
    require_compiled(network)


@pytest.mark.exhaustive
@pytest.mark.parametrize("precision", PRECISIONS)
def test_network_of_full_width_compiles_at_every_size(model, exported, precision):
    network = typed(exported(), precision)
    for size in MODELS[model]:
        require_compiled(declared(network, size))


@pytest.mark.exhaustive
@pytest.mark.parametrize("precision", PRECISIONS)
def test_dynamic_network_of_full_width_compiles_with_a_profile(model, exported, precision):
    network = typed(exported(shapes(model)), precision)
    assert network.spec.dynamic is not None
    require_compiled(network)


STEM_7X7, STEM_3X3 = (64, 3, 7, 7), (32, 3, 3, 3)
LEFT_BY_FP8 = {
    "fcn_resnet50": [STEM_7X7],
    "fcn_resnet101": [STEM_7X7],
    "fcn_r18-d8": [STEM_3X3],
    "fcn_r50-d8": [STEM_3X3],
    "fcn_r50b-d8_769x769": [STEM_7X7],
    "fcn_d6_r50-d16": [STEM_3X3],
    "demo": [(16, 3, 3, 3), (16, 16, 3, 3), (32, 16, 3, 3), (11, 64, 1, 1)],
    "zoo": [STEM_7X7],
}
"""What FP8 leaves in FP16: stems that read the image or are 7x7, and heads of few classes."""


@pytest.mark.exhaustive
def test_stems_and_heads_of_few_classes_are_fp16_in_fp8(model, exported):
    network = typed(exported(), "fp8")
    assert list(left_by_fp8(network).values()) == LEFT_BY_FP8[model]
    assert set(network.spec.exceptions.values()) == {"fp16"}


def test_fp8_for_a_gpu_without_it_is_refused_in_one_sentence(tiny_network):
    from fcn_trt.engine.tensorrt.builder import compile_tensorrt
    from fcn_trt.network.contract import load_network

    network = typed(Typed(*load_network(tiny_network)), "fp8")
    sentence = (
        r"fp8 needs a GPU of compute capability 8\.9 or more, but 8\.6 was asked for; choose fp16"
    )
    with pytest.raises(EngineError, match=f"^{sentence}$"):
        compile_tensorrt(
            network.graph.SerializeToString(),
            network.spec,
            name=tiny_network,
            target="tensorrt-rtx",
            options=BuildOptions(compute_capabilities=("8.9", "8.6")),
        )
