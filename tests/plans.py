"""Short ways for tests to make networks and bundles."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fcn_trt.engine.bundle import Bundle
from fcn_trt.engine.manifest import Manifest
from fcn_trt.engine.options import BuildOptions
from fcn_trt.files import sha256
from fcn_trt.network.file import Network
from fcn_trt.pipeline.plan import Export, Plan
from fcn_trt.pipeline.run import run
from fcn_trt.spec import Frame, LabelMap, Result, ShapeRange, Size, Spec

if TYPE_CHECKING:
    import onnx

    from fcn_trt.model.checkpoint import LoadedModel


def as_network(path: Path, spec: Spec | None = None) -> Network:
    """A file as one step hands it to the next, with another spec where one is given."""
    if spec is None:
        return Network.read(path)
    return Network(path=path, spec=spec, sha256=sha256(path))


def save(model: onnx.ModelProto, path: Path) -> None:
    """Write a graph as it is."""
    path.write_bytes(model.SerializeToString())


def export_network(
    model: object, out: Path, *, dynamic: ShapeRange | None = None, **options: Any
) -> Spec:
    """Export by the plan; returns the spec."""
    limits = {} if dynamic is None else {n: getattr(dynamic, n) for n in ShapeRange.__slots__}
    return run(Plan(export=Export(model=str(model), **limits, **options)), out).spec


def export_model(
    model: LoadedModel,
    out: Path,
    *,
    size: Size,
    batch: int = 1,
    dynamic: ShapeRange | None = None,
) -> Spec:
    """Export a model that is loaded already; returns the spec."""
    from fcn_trt.network.contract import save_network
    from fcn_trt.network.to_onnx import to_onnx

    return save_network(*to_onnx(model, size=size, batch=batch, dynamic=dynamic), out).spec


def as_results(pairs: Iterable[tuple[Frame, LabelMap]]) -> Iterator[Result]:
    """Frames with their label maps, as a model gives them."""
    for index, (frame, label_map) in enumerate(pairs):
        yield Result(frame=frame, label_map=label_map, index=index)


LIMITED = BuildOptions(compute_capabilities=("8.6",), workspace_bytes=64 << 20)


def build_limited(network: Path, out: Path) -> Bundle:
    """A bundle of TensorRT-RTX with limits and the key of a recipe."""
    from fcn_trt.engine.build import build_engine

    return build_engine(
        as_network(network),
        out,
        target="tensorrt-rtx",
        options=LIMITED,
        inputs_sha256="of a recipe",
    )


def without_time(bundle: Bundle) -> Manifest:
    """All that a bundle is, but when it was built."""
    return replace(bundle.manifest, created="2026-01-01T00:00:00+00:00")
