"""Write the network that the demo runs where PyTorch is not installed, from the demo's checkpoint.

    python -m benchmarks.demo_model.network

It is what `fcn-trt export` makes of the checkpoint, with weights rounded to `MANTISSA_BITS`, so
that it takes 9.3 MB instead of 11.3 in a wheel. The file carries PyTorch's own label maps, and how
far it labels as these.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import typer
from onnx import numpy_helper

from fcn_trt.demo.job import NETWORK, SIZE, packaged
from fcn_trt.files import temporary_folder
from fcn_trt.network.contract import load_network, save_network, stamp
from fcn_trt.network.file import Network
from fcn_trt.pipeline.plan import Export, Plan
from fcn_trt.pipeline.run import run
from fcn_trt.runtime.check import check
from fcn_trt.runtime.checked_network import CheckedNetwork

__all__ = ["MANTISSA_BITS", "write_network"]

MANTISSA_BITS = 13
"""Of float32's 23: eight times as exact as TF32 and FP16."""


def write_network(out: Path) -> Network:
    """Export the demo's checkpoint, round it, and hold it against PyTorch.

    Raises:
        AgreementError: it labels otherwise than PyTorch.
        OutputError: the file cannot be written.
    """
    with packaged("weights.safetensors") as weights, temporary_folder() as folder:
        export = Export(model=str(weights), size=SIZE)
        exported = run(Plan(export=export), folder / NETWORK).network
        reference = exported.reference()
        model, spec = load_network(exported.path)
    if reference is None:
        raise ValueError(f"{exported} carries no reference")
    _round(model)
    network = CheckedNetwork(model.SerializeToString(), spec)
    found = check("export", reference, network.label, name=str(out), precision="fp32")
    spec = replace(spec, checks=(found,))
    stamp(model, spec, reference)
    return save_network(model, spec, out)


def _round(model: onnx.ModelProto) -> None:
    """Round every float32 weight to the nearest number with fewer bits of mantissa."""
    dropped = 23 - MANTISSA_BITS
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            bits = numpy_helper.to_array(tensor).view(np.uint32).astype(np.uint64)
            bits = (bits + (1 << (dropped - 1))) >> dropped << dropped
            rounded = bits.astype(np.uint32).view(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(rounded, tensor.name))


def _main() -> None:
    with packaged(NETWORK) as path:
        typer.echo(write_network(path).spec.checks[-1].describe())


if __name__ == "__main__":
    _main()
