"""What a device is estimated to do, before anybody has one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, cast

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
    from fcn_trt.advice.candidates import Advice

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
    min_miou: Annotated[
        float | None, typer.Option(min=0, max=100, help="Published mean IoU in percent, at least.")
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
    layers: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Show the layers of a model instead.")
    ] = None,
    devices: Annotated[bool, typer.Option("--devices", help="List the devices.")] = False,
    published: Annotated[
        bool, typer.Option("--published", help="Compare published measurements with estimates.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Estimate which model, size and precision suit a device."""
    judging: dict[str, object] = {
        "fps": fps,
        "dataset": dataset,
        "min_miou": min_miou,
        "limit": limit,
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
        refuse("it changes nothing with --json", limit=limit)
    from fcn_trt.advice.candidates import advise as judge
    from fcn_trt.advice.devices import device as device_of

    found = judge(
        device_of(device),
        rate_fps=fps,
        sizes=sizes or LADDER,
        precisions=precisions or None,
        dataset=dataset or DEFAULT_DATA_SET,
        min_miou=min_miou,
    )
    _say_advice(found, limit or LIMIT, as_json=as_json)


def _say_advice(advice: Advice, limit: int, *, as_json: bool) -> None:
    """The candidates on stdout; what is to be known about them on stderr."""
    from fcn_trt.advice.calibrated import compare_published
    from fcn_trt.advice.candidates import PREFERENCE
    from fcn_trt.advice.remarks import choices, range_facts, remarks
    from fcn_trt.cli.advise_tables import advice_table

    if as_json:
        print_json(
            {
                "device": advice.device,
                "rate_fps": advice.rate_fps,
                "dataset": advice.data_set.name,
                "left_out": advice.left_out,
                "order": PREFERENCE,
                "errors": compare_published().summary(),
                "ranges": range_facts(advice),
                "candidates": [candidate.to_dict() for candidate in advice.candidates],
                "choices": choices(advice),
                "remarks": remarks(advice),
            }
        )
        return
    terminal.show(advice_table(advice, (advice.suiting or advice.candidates)[:limit]))
    more = len(advice.suiting) - limit
    if more > 0:
        terminal.step(f"{more} more fit or may fit; --limit {len(advice.suiting)} shows them all")
    for remark in [*choices(advice), *remarks(advice)]:
        terminal.step(remark)


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
    from fcn_trt.cli.advise_tables import layers_table
    from fcn_trt.model.architecture import architecture

    for option, given in (("--size", sizes), ("--precision", precisions)):
        if len(given) > 1:
            raise bad_option(option, "--layers shows one")
    found = estimate(
        device_of(device),
        architecture(model),
        size=sizes[0] if sizes else DETAIL_SIZE,
        precision=precisions[0] if precisions else DETAIL_PRECISION,
    )
    if as_json:
        layers = [layer.to_dict() for layer in found.layers]
        print_json(found.to_dict() | {"device": found.device, "layers": layers})
    else:
        terminal.show(layers_table(found))
