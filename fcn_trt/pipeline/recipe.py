"""engines/*.toml: what to build a bundle from, for which device, and within which limits.

A recipe is read strictly: an unknown key, a value of another type and a combination that cannot be
built are each refused with the key and what it allows. Paths in it are relative to its folder.

Read in this order: here, table, code, inputs, steps, network_cache.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

from fcn_trt.engine.manifest import Target
from fcn_trt.engine.options import RTX_CAPABILITIES, BuildOptions, require_capability
from fcn_trt.errors import RecipeError
from fcn_trt.pipeline.recipe_file import DeviceTable, RecipeTable, invalid, read_table
from fcn_trt.precision.request import Quantisation
from fcn_trt.spec import Precision, ShapeRange, Size

__all__ = ["Recipe", "read_recipe"]

_QUANTISED = ("int8", "fp8")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One bundle to build.

    Attributes:
        path: The recipe's own file.
        model: Name of an architecture or of published weights, or path of a checkpoint or .onnx.
        weights: Published name, path, or "random[:SEED]"; None takes the best published ones of an
            architecture, or what the file itself holds.
        labels: Label set; None takes the checkpoint's own.
        onnx_output: Output of an .onnx to keep; None finds it.
        size: (height, width) of the input in pixels.
        batch: Images per inference.
        dynamic: Shapes that the network shall take; None fixes `size` and `batch`.
        precision: Type that convolutions compute in.
        quantisation: Of int8 and fp8; what is left in float is fp32 on the CPU and fp16 on GPUs.
        images: Folder of images on which fp16 is checked; None takes drawn streets.
        target: What compiles and runs the engine.
        options: Limits of the builder.
        device: What it is for, in words.
        output: Folder of the bundle.
    """

    path: Path
    model: str
    weights: str | None
    labels: str | None
    onnx_output: str | None
    size: Size
    batch: int
    dynamic: ShapeRange | None
    precision: Precision
    quantisation: Quantisation | None
    images: Path | None
    target: Target
    options: BuildOptions
    device: str
    output: Path


def read_recipe(path: Path) -> Recipe:
    """Read a recipe and check all that can be checked without its model.

    Raises:
        RecipeError: it cannot be read, or a key of it is unknown, missing or not valid.
    """
    table = read_table(path)
    recipe = Recipe(
        path=path,
        model=table.model,
        weights=table.weights,
        labels=table.labels,
        onnx_output=table.onnx_output,
        size=table.size,
        batch=table.batch,
        dynamic=_dynamic(path, table),
        precision=table.precision,
        quantisation=_quantisation(path, table),
        images=path.parent / table.images if table.images else None,
        target=table.target,
        options=_options(path, table.device),
        device=table.device.name,
        output=path.parent / (table.output or path.stem),
    )
    _check_device(recipe)
    _check_calibration(recipe)
    _check_unused(recipe, table)
    return recipe


def _quantisation(path: Path, table: RecipeTable) -> Quantisation | None:
    """How int8 and fp8 are made; what is left is in fp32 on CPUs, which not all compute fp16."""
    if table.precision not in _QUANTISED or table.calibration is None:
        return None
    return Quantisation(
        calibration=path.parent / table.calibration,
        method=table.method,
        keep=frozenset(table.keep_float or ()),
        float_precision="fp32" if table.target == "openvino" else "fp16",
    )


def _dynamic(path: Path, table: RecipeTable) -> ShapeRange | None:
    """The shapes to take, with the recipe's own size and batch where a limit is left out."""
    if table.dynamic is None:
        return None
    given = table.dynamic
    try:
        allowed = ShapeRange(
            min_size=given.min_size or table.size,
            max_size=given.max_size or table.size,
            min_batch=given.min_batch or table.batch,
            max_batch=given.max_batch or table.batch,
        )
    except ValueError as error:
        raise invalid(path, "dynamic", str(error)) from error
    for key, low, high in (
        ("min_size", allowed.min_size, table.size),
        ("max_size", table.size, allowed.max_size),
        ("min_batch", (allowed.min_batch,), (table.batch,)),
        ("max_batch", (table.batch,), (allowed.max_batch,)),
    ):
        if any(least > most for least, most in zip(low, high, strict=True)):
            name = key.partition("_")[2]
            raise invalid(
                path,
                f"dynamic.{key}",
                f"the recipe's own {name}, which the engine is optimised for, lies outside",
            )
    return allowed


_OPTIONS = {
    "compute_capability": "compute_capabilities",
    "workspace": "workspace_bytes",
    "tactic_memory": "tactic_bytes",
}
"""What keys of [device] are called in `BuildOptions`, where that is something else."""


def _options(path: Path, device: DeviceTable) -> BuildOptions:
    given = {
        _OPTIONS.get(f.name, f.name): value
        for f in fields(DeviceTable)
        if f.name != "name" and (value := getattr(device, f.name)) is not None
    }
    try:
        return BuildOptions(**given)
    except ValueError as error:
        raise RecipeError(f"{path} is not valid in [device]: {error}") from error


def _check_device(recipe: Recipe) -> None:
    """Refuse limits that the target does not have, and GPUs that it does not compile for."""
    key, asked = "device.compute_capability", recipe.options.compute_capabilities
    if recipe.target == "openvino" and recipe.options != BuildOptions():
        raise invalid(
            recipe.path, "device", "its limits are for TensorRT; keep only the name for openvino"
        )
    if recipe.target == "tensorrt" and len(asked) > 1:
        raise invalid(
            recipe.path,
            key,
            f"tensorrt compiles for the one GPU it runs on, and {len(asked)} are given",
        )
    strange = [text for text in asked if text not in RTX_CAPABILITIES]
    if recipe.target == "tensorrt-rtx" and strange:
        raise invalid(
            recipe.path,
            key,
            f"TensorRT-RTX does not compile for {strange[0]}; it knows "
            f"{', '.join(RTX_CAPABILITIES)} (Jetsons are for the target tensorrt)",
        )
    try:
        for text in asked:
            require_capability(recipe.precision, text)
    except ValueError as error:
        raise invalid(recipe.path, "precision", str(error)) from error


def _check_calibration(recipe: Recipe) -> None:
    """Refuse to quantise without knowing how large tensors get."""
    if recipe.precision in _QUANTISED and recipe.quantisation is None:
        raise RecipeError(
            f"{recipe.path} lacks the key 'calibration': {recipe.precision} needs the path of a "
            "cache from `fcn-trt calibrate`; add it, or choose fp16"
        )


def _check_unused(recipe: Recipe, table: RecipeTable) -> None:
    """Refuse keys that would say something and change nothing."""
    is_onnx = Path(recipe.model).suffix == ".onnx"
    is_quantised = recipe.precision in _QUANTISED
    calibrated = f"only {' and '.join(_QUANTISED)} are calibrated"
    for key, given, is_used, reason in (
        ("images", table.images, recipe.precision == "fp16", "only fp16 is checked on images"),
        ("calibration", table.calibration, is_quantised, calibrated),
        ("method", table.method, is_quantised, calibrated),
        ("keep_float", table.keep_float, is_quantised, "everything is in float already"),
        ("onnx_output", recipe.onnx_output, is_onnx, "only an .onnx model has outputs to choose"),
    ):
        if given is not None and not is_used:
            raise invalid(recipe.path, key, f"{reason}; leave the key out")
