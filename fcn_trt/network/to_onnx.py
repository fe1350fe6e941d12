"""`Fcn` to FP32 ONNX, node by node.

The module is traced with torch.fx and written with onnx.helper, because an FCN is made of six
operators: the graph then has the module's own names (`backbone.layer1.0.conv1`) and nothing
else, whatever the version of PyTorch's exporter. Batch normalisation is folded into the
convolutions in float64.
"""

from __future__ import annotations

import operator
from typing import Any

import onnx
import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from fcn_trt.model.checkpoint import LoadedModel
from fcn_trt.model.fcn import Fcn
from fcn_trt.network.contract import initializer, new_network
from fcn_trt.spec import INPUT_NAME, OUTPUT_NAME, ShapeRange, Size, Spec

__all__ = ["model_spec", "to_onnx"]


def model_spec(
    model: LoadedModel, *, size: Size, batch: int, dynamic: ShapeRange | None = None
) -> Spec:
    """The spec of a loaded model at one input size, or around one."""
    arch = model.module.arch
    return Spec(
        model=arch.name,
        family=arch.family,
        weights=model.weights,
        labels=model.labels.name,
        classes=model.labels.classes,
        palette=model.labels.palette,
        mean=model.mean,
        std=model.std,
        input_size=size,
        batch=batch,
        stride=arch.stride,
        align_corners=arch.align_corners,
        precision="fp32",
        logits_type="float32",
        source_sha256=model.source_sha256,
        licence=model.licence,
        dynamic=dynamic,
    )


def to_onnx(
    model: LoadedModel, *, size: Size, batch: int = 1, dynamic: ShapeRange | None = None
) -> tuple[onnx.ModelProto, Spec]:
    """Write a loaded model as FP32 ONNX.

    Args:
        model: From `load_checkpoint` or `random_model`.
        size: (height, width) of the input in pixels.
        batch: Images per inference.
        dynamic: Shapes that the network shall take; None fixes `size` and `batch`.

    Returns:
        The ONNX model, which keeps the contract of network.py, and its spec.

    Raises:
        ValueError: a side is less than 1, or `size` and `batch` are not within `dynamic`.
    """
    spec = model_spec(model, size=size, batch=batch, dynamic=dynamic)
    writer = _Writer(model.module)
    writer.write()
    return new_network(writer.nodes, writer.constants, spec), spec


class _Writer:
    """Turns a module into ONNX nodes and constants."""

    def __init__(self, module: Fcn) -> None:
        self.graph = fx.Tracer().trace(module)
        self.modules = dict(module.named_modules())
        self.folded = self._fold()
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.names: dict[fx.Node, str] = {}
        self.taken: set[str] = set()

    def _fold(self) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """Take each batch normalisation out of the graph, into its convolution's weight and bias.

        The module keeps its own: only the sums are new, in float64.
        """
        folded = {}
        for node in self.graph.nodes:
            norm = self._module(node)
            if isinstance(norm, nn.BatchNorm2d):
                source = node.args[0]
                conv = self.modules[source.target]
                bias = None if conv.bias is None else conv.bias.double()
                terms = (norm.running_mean, norm.running_var, norm.weight, norm.bias)
                mean, variance, scale, shift = (term.double() for term in terms)
                folded[source.target] = fuse_conv_bn_weights(
                    conv.weight.double(), bias, mean, variance, norm.eps, scale, shift
                )
                node.replace_all_uses_with(source)
                self.graph.erase_node(node)
        return folded

    def _module(self, node: fx.Node) -> nn.Module | None:
        return self.modules[str(node.target)] if node.op == "call_module" else None

    def write(self) -> None:
        """Write every node, in order."""
        for node in self.graph.nodes:
            if node.op == "placeholder":
                self.names[node] = INPUT_NAME
            elif node.op == "output":
                # The last node is the classifier; its output takes the name of the contract.
                self.nodes[-1].output[0] = OUTPUT_NAME
            else:
                self.names[node] = self._name(node)
                module = self._module(node)
                if isinstance(module, nn.Conv2d):
                    self._conv(node, module)
                elif isinstance(module, nn.MaxPool2d):
                    self._maxpool(node, module)
                else:
                    kind, attributes = _PLAIN[node.target if module is None else type(module)]
                    self._add(kind, node, **attributes)

    def _name(self, node: fx.Node) -> str:
        """The module's path, or its caller's path and the operator; numbered when it repeats."""
        if node.op == "call_module":
            base = str(node.target)
        else:
            caller = list(node.meta.get("nn_module_stack", {"": None}))[-1]
            base = f"{caller}.{_OPERATORS[node.target]}"
        name, count = base, 1
        while name in self.taken:
            count += 1
            name = f"{base}.{count}"
        self.taken.add(name)
        return name

    def _add(self, op: str, node: fx.Node, *constants: str, **attributes: Any) -> None:
        """Append one ONNX node, which reads what the traced one does and these constants."""
        name = self.names[node]
        inputs = [*(self.names[argument] for argument in node.all_input_nodes), *constants]
        self.nodes.append(onnx.helper.make_node(op, inputs, [name], name=name, **attributes))

    def _conv(self, node: fx.Node, conv: nn.Conv2d) -> None:
        """Convolution with folded bias."""
        weight, bias = f"{self.names[node]}.weight", f"{self.names[node]}.bias"
        values = self.folded.get(str(node.target), (conv.weight, conv.bias))
        self.constants += [
            initializer(name, tensor.detach().float().numpy())
            for name, tensor in zip((weight, bias), values, strict=True)
        ]
        self._add(
            "Conv",
            node,
            weight,
            bias,
            kernel_shape=list(conv.kernel_size),
            strides=list(conv.stride),
            pads=[*conv.padding, *conv.padding],
            dilations=list(conv.dilation),
        )

    def _maxpool(self, node: fx.Node, pool: nn.MaxPool2d) -> None:
        """The stem's 3x3 max-pooling."""
        self._add(
            "MaxPool",
            node,
            kernel_shape=[pool.kernel_size] * 2,
            strides=[pool.stride] * 2,
            pads=[pool.padding] * 4,
        )


_OPERATORS: dict[Any, str] = {operator.add: "add", torch.cat: "cat"}
_PLAIN: dict[Any, tuple[str, dict[str, int]]] = {
    nn.ReLU: ("Relu", {}),
    operator.add: ("Add", {}),  # residual: convolution branch, then skip branch
    torch.cat: ("Concat", {"axis": 1}),
}
"""Operators with nothing to look up in their modules."""
