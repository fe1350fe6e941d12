"""What a device is estimated to do, before anybody has one."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from fcn_trt.advice.data_sets import DATA_SETS, DEFAULT_DATA_SET
from fcn_trt.cli import terminal
from fcn_trt.cli.common import (
    JsonOption,
    bad_option,
    parse_precision,
    parse_size_of,
    print_json,
    refuse,
)
from fcn_trt.spec import LADDER, Precision, Size

if TYPE_CHECKING:
    from fcn_trt.advice.candidates import Advice, Published

__all__ = ["advise"]

DETAIL_SIZE: Size = (512, 1024)
DETAIL_PRECISION: Precision = "fp16"
"""What --layers shows where nothing else is asked for."""

LIMIT = 12
"""Lines of the table where nothing else is asked for."""


def advise(
    device: Annotated[
        str | None, typer.Option(help="Name of a device, as --devices lists them.")
    ] = None,
    fps: Annotated[float | None, typer.Option(help="Frames per second that are needed.")] = None,
    size: Annotated[
        list[str] | None,
        typer.Option(metavar="HxW", help="Height x width to look at; repeatable."),
    ] = None,
    precision: Annotated[
        list[str] | None, typer.Option(help="Precision to look at; repeatable.")
    ] = None,
    network: Annotated[
        Path | None,
        typer.Option(help="Your own: an ONNX file or a bundle's folder, instead of all models."),
    ] = None,
    min_miou: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=100,
            help="Published mean IoU in percent, at least; known at the published size alone.",
        ),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            help="Data set of the mIoU, of "
            f"{', '.join(entry.name for entry in DATA_SETS)}; {DEFAULT_DATA_SET}."
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help=f"So many lines of the table at most; {LIMIT}.")
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say what the estimates rest on, and the order.")
    ] = False,
    layers: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Show the layers of a model instead.")
    ] = None,
    devices: Annotated[bool, typer.Option("--devices", help="List the devices.")] = False,
    published: Annotated[
        bool, typer.Option("--published", help="Compare published measurements with estimates.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Estimate, without the device, what fits it, at which rate, and what to try first."""
    of_models: dict[str, object] = {"dataset": dataset, "min_miou": min_miou}
    judging: dict[str, object] = {
        "fps": fps,
        "network": network,
        **of_models,
        "limit": limit,
        "explain": explain or None,
    }
    detail: dict[str, object] = {
        "device": device,
        "size": size or None,
        "precision": precision or None,
    }
    if published:
        tables: dict[str, object] = {"devices": devices or None, "layers": layers}
        refuse("it changes nothing with --published", **judging, **detail, **tables)
        _say_published(as_json=as_json)
        return
    if devices:
        refuse("it changes nothing with --devices", **judging, **detail, layers=layers)
        _say_devices(as_json=as_json)
        return
    if device is None:
        raise bad_option("--device", "`fcn-trt advise --devices` lists the names")
    sizes = tuple(dict.fromkeys(parse_size_of(text, "--size") for text in size or ()))
    parsed = (parse_precision(text) for text in precision or ())
    precisions = cast(tuple[Precision, ...], tuple(dict.fromkeys(parsed)))
    if layers is not None:
        refuse("it changes nothing with --layers", **judging)
        _say_layers(device, layers, sizes=sizes, precisions=precisions, as_json=as_json)
        return
    if fps is None or not (math.isfinite(fps) and fps > 0):
        raise bad_option("--fps", "a rate above 0 is needed, such as 30")
    if as_json:
        refuse("it changes nothing with --json", limit=limit, explain=explain or None)
    from fcn_trt.advice.candidates import advise as judge
    from fcn_trt.advice.candidates import advise_on
    from fcn_trt.advice.devices import device as device_of

    chosen = device_of(device)
    if network is not None:
        refuse("no mIoU of your own network is published", **of_models)
        from fcn_trt.advice.own_network import OwnNetwork

        found = advise_on(
            OwnNetwork.read(network),
            chosen,
            rate_fps=fps,
            sizes=sizes,
            precisions=precisions or None,
        )
    else:
        found = judge(
            chosen,
            rate_fps=fps,
            sizes=sizes or LADDER,
            precisions=precisions or None,
            dataset=dataset or DEFAULT_DATA_SET,
            min_miou=min_miou,
        )
    _say_advice(found, limit or LIMIT, explain=explain, as_json=as_json)


def _say_advice(advice: Advice, limit: int, *, explain: bool, as_json: bool) -> None:
    """The candidates on stdout; what to make of them on stderr."""
    from fcn_trt.advice.calibrated import compare_published
    from fcn_trt.advice.candidates import PREFERENCE
    from fcn_trt.advice.remarks import choices, doubts, measuring, range_facts, remarks
    from fcn_trt.cli.advise_tables import advice_table

    measure = measuring(advice)

    if as_json:
        print_json(
            {
                "device": advice.device,
                "rate_fps": advice.rate_fps,
                "published": [_published_facts(entry) for entry in advice.published],
                "left_out": advice.left_out,
                "order": PREFERENCE,
                "errors": compare_published().summary(),
                "ranges": range_facts(advice),
                "candidates": [candidate.to_dict() for candidate in advice.candidates],
                "choices": choices(advice),
                "measure": measure,
                "doubts": doubts(advice),
                "remarks": remarks(advice),
            }
        )
        return
    terminal.show(advice_table(advice, advice.shown[:limit]))
    more = len(advice.shown) - limit
    if more > 0:
        terminal.step(f"{more} more; --limit {len(advice.shown)} shows them all")
    for choice in choices(advice):
        terminal.step(choice)
    if measure is not None:
        terminal.step(f"measure it on the device: {measure}")
    terminal.step(f"why to doubt it: {'; '.join(doubts(advice))}")
    if not explain:
        terminal.step("--explain says what the estimates rest on")
        return
    for remark in remarks(advice):
        terminal.step(remark)


def _published_facts(entry: Published) -> dict[str, Any]:
    """What is published of a model, as JSON has it: with the size and type that it holds for."""
    return {
        "model": entry.weights.model,
        "weights": entry.weights.name,
        "miou": entry.weights.miou,
        "dataset": entry.data_set.name,
        "measured_on": entry.data_set.measured_on,
        "published_at": entry.data_set.published_at,
        "published_precision": "fp32",
    }


def _say_devices(*, as_json: bool) -> None:
    from fcn_trt.advice.devices import devices
    from fcn_trt.cli.advise_tables import devices_table

    if as_json:
        print_json({"devices": devices()})
        return
    terminal.show(devices_table(devices()))
    for entry in devices():
        if entry.note is not None:
            terminal.step(f"{entry.name}: {entry.note}")


def _say_published(*, as_json: bool) -> None:
    from fcn_trt.advice.calibrated import compare_published, fitted
    from fcn_trt.cli.advise_tables import profile_comparison_table, published_table

    comparison, efficiencies = compare_published(), fitted()
    if as_json:
        print_json(
            {
                "summary": comparison.summary(),
                "efficiencies": efficiencies.to_dict(),
                "rows": [row.to_dict() for row in comparison.rows],
            }
        )
        return
    terminal.show(profile_comparison_table(comparison))
    terminal.show(published_table(comparison.rows))
    terminal.show(comparison.describe())
    for remark in (*efficiencies.sentences(), *comparison.sources()):
        terminal.step(remark)


def _say_layers(
    device: str,
    model: str,
    *,
    sizes: tuple[Size, ...],
    precisions: tuple[Precision, ...],
    as_json: bool,
) -> None:
    from fcn_trt.advice.devices import device as device_of
    from fcn_trt.advice.estimate import estimate
    from fcn_trt.advice.network import ModelNetwork
    from fcn_trt.cli.advise_tables import layers_table
    from fcn_trt.model.architecture import architecture

    for option, given in (("--size", sizes), ("--precision", precisions)):
        if len(given) > 1:
            raise bad_option(option, "--layers shows one")
    counted = ModelNetwork(architecture(model)).at(sizes[0] if sizes else DETAIL_SIZE)
    found = estimate(
        device_of(device),
        counted,
        precision=precisions[0] if precisions else DETAIL_PRECISION,
    )
    if as_json:
        layers = [layer.to_dict() for layer in found.layers]
        print_json(found.to_dict() | {"device": found.device, "layers": layers})
    else:
        terminal.show(layers_table(found))
