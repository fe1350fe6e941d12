"""From a checkpoint, or an existing ONNX file, to ours."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, cast, get_args

import typer

from fcn_trt.cli import terminal
from fcn_trt.cli.common import (
    AcceptOption,
    JsonOption,
    NoCheckOption,
    OptionalSize,
    SizeOption,
    TrustOption,
    WeightsHashOption,
    as_usage,
    in_words_of_options,
    parse_checking,
    parse_label_set,
    parse_trust,
    parse_word,
    print_json,
    run_plan,
)
from fcn_trt.input_format import InputColour, InputFormat, Rgb, Scale, parse_channels
from fcn_trt.spec import MAX_BATCH, NO_LABEL

__all__ = ["export"]

OptionalBatch = Annotated[
    int | None, typer.Option(min=1, max=MAX_BATCH, help="Makes the batch dynamic.")
]


def _channels(text: str | None) -> Rgb | None:
    """Parser of options with a number per channel."""
    with as_usage():
        return None if text is None else parse_channels(text)


def export(
    model: Annotated[
        str, typer.Argument(help="Name of a model, a checkpoint that says what it is, or an .onnx.")
    ],
    out: Annotated[Path, typer.Option(help="The ONNX file to write.")],
    size: SizeOption,
    weights: Annotated[
        str | None,
        typer.Option(help="Checkpoint, published name, or random[:SEED]; the best published one."),
    ] = None,
    trust: TrustOption = False,
    weights_sha256: WeightsHashOption = None,
    batch: Annotated[int, typer.Option(min=1, max=MAX_BATCH, help="Images per inference.")] = 1,
    labels: Annotated[
        str | None, typer.Option(help="File with a class per line, or a known set.")
    ] = None,
    mean: Annotated[
        Any,
        typer.Option(parser=_channels, metavar="M,M,M", help="Subtracted from each channel."),
    ] = None,
    std: Annotated[
        Any, typer.Option(parser=_channels, metavar="S,S,S", help="Divides each after the mean.")
    ] = None,
    scale: Annotated[
        str | None, typer.Option(help="Brightest pixel before the mean: 255, or 1.")
    ] = None,
    input_colour: Annotated[
        str | None, typer.Option(help="Order of the network's channels: rgb (default), or bgr.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Of a network with one sigmoid channel; 0.5 by default.")
    ] = None,
    ema: Annotated[
        bool | None, typer.Option("--ema/--no-ema", help="Take the averaged weights, or not.")
    ] = None,
    ignore: Annotated[
        int | None,
        typer.Option(min=0, max=NO_LABEL, help='Number in label files for "no label", beside 255.'),
    ] = None,
    output: Annotated[str | None, typer.Option(help="Output of an .onnx to keep.")] = None,
    min_size: OptionalSize = None,
    max_size: OptionalSize = None,
    min_batch: OptionalBatch = None,
    max_batch: OptionalBatch = None,
    images: Annotated[
        str | None,
        typer.Option(help="Frames to check it on: a folder, picture or video; else drawn ones."),
    ] = None,
    accept: AcceptOption = None,
    no_check: NoCheckOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write a checkpoint, or an existing ONNX file, as FP32 ONNX that ends at its logits."""
    from fcn_trt.pipeline.plan import Export, Plan

    word = parse_word(input_colour, get_args(InputColour), "--input-colour")
    brightest = parse_word(scale, ("1", "255"), "--scale")
    with as_usage():
        said = InputFormat(
            mean=mean,
            std=std,
            scale=cast("Scale | None", brightest and int(brightest)),
            colour=cast("InputColour | None", word),
        )
    with in_words_of_options():
        step = Export(
            model=model,
            size=size,
            weights=weights,
            trust=parse_trust(trust, weights_sha256),
            batch=batch,
            labels=parse_label_set(labels),
            input=said,
            threshold=threshold,
            average=ema,
            ignore=ignore,
            output=output,
            min_size=min_size,
            max_size=max_size,
            min_batch=min_batch,
            max_batch=max_batch,
            images=images,
            checking=parse_checking(accept, no_check),
        )
    spec = run_plan(Plan(export=step), out).spec
    if as_json:
        print_json({"network": out, "spec": spec.to_dict()})
    else:
        terminal.written(out, f"{spec.model} with weights {spec.weights}")
