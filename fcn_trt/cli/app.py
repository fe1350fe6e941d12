"""The command line: which commands there are, and how a run of one ends.

Results go to stdout, people-text and progress to stderr. Exit status: 0 done; 1 an error, in one
sentence; 2 wrong usage; 130 Ctrl-C or SIGTERM.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
import threading
from typing import Annotated, Any, cast

import typer

from fcn_trt.cli import terminal
from fcn_trt.cli.advise import advise
from fcn_trt.cli.bench import bench
from fcn_trt.cli.build import build
from fcn_trt.cli.calibrate import calibrate
from fcn_trt.cli.common import bad_option
from fcn_trt.cli.compare import compare
from fcn_trt.cli.demo import demo
from fcn_trt.cli.evaluate import evaluate
from fcn_trt.cli.export import export
from fcn_trt.cli.failure import sentence_of
from fcn_trt.cli.frames import frames
from fcn_trt.cli.inspect import doctor, inspect
from fcn_trt.cli.models import models, profile
from fcn_trt.cli.quantize import quantize
from fcn_trt.cli.recipes import recipes
from fcn_trt.cli.run import run
from fcn_trt.cli.sensitivity import sensitivity
from fcn_trt.errors import LimitError
from fcn_trt.limits import MAX_BYTES, MAX_PIXELS
from fcn_trt.version import __version__

__all__ = ["main"]

app = typer.Typer(
    name="fcn-trt",
    help="FCN segmentation on live video: checkpoint, typed ONNX, engine bundle, label maps.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

USAGE_ERROR = cast(type[Exception], typer.BadParameter.__base__)
"""click's UsageError; a newer typer carries a click of its own and does not export this class."""


def main() -> None:
    """Run a command and end the process with its exit status."""
    # FFmpeg writes its own trouble to stderr; ours is the one sentence that says what to do.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
    if threading.current_thread() is threading.main_thread():
        # A service that is stopped ends as by Ctrl-C: what was written so far can be opened.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    given = sys.argv[1:]
    try:
        status = _command()(args=_in_front(given), standalone_mode=False, prog_name="fcn-trt")
    except USAGE_ERROR as error:
        terminal.error(_usage_sentence(error))
        status = 2
    except LimitError as error:
        terminal.error(str(error))
        status = 2
    except (KeyboardInterrupt, typer.Abort):
        status = 130
    except SystemExit:
        raise
    except BaseException as error:  # some libraries' errors are no Exception
        if "--debug" in given:
            raise
        terminal.error(sentence_of(error, given))
        status = 1
    if status == 130:
        terminal.interrupted()
    sys.exit(status or 0)


@functools.cache
def _command() -> Any:
    """The commands as typer reads them from their functions; it takes 75 ms."""
    return typer.main.get_command(app)


def _usage_sentence(error: Any) -> str:
    """What click says about wrong usage, and where the right usage stands."""
    command = error.ctx.command_path if error.ctx else "fcn-trt"
    return f"{error.format_message().rstrip('.')}; see `{command} --help`"


_FLAGS = ("--debug", "--verbose", "-v")
_LIMITS = {limit.option: limit for limit in (MAX_PIXELS, MAX_BYTES)}


def _in_front(arguments: list[str]) -> list[str]:
    """The command line with the options of every command before it, wherever they were written."""
    moved: list[str] = []
    others: list[str] = []
    rest = iter(arguments)
    for word in rest:
        if word == "--":
            return [*moved, *others, word, *rest]
        name, equals, _ = word.partition("=")
        if name in _LIMITS and not equals:
            value = next(rest, None)
            if value is None:
                raise bad_option(name, "it needs a number")
            moved += [word, value]
        elif name in _LIMITS or word in _FLAGS:
            moved.append(word)
        else:
            others.append(word)
    return [*moved, *others]


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error comes from.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what is done.")] = False,
    max_pixels: Annotated[
        str | None,
        typer.Option(metavar="N", help=f"Of an image or a frame; {MAX_PIXELS.default} by default."),
    ] = None,
    max_bytes: Annotated[
        str | None,
        typer.Option(metavar="N", help=f"Of a file that is read; {MAX_BYTES.default} by default."),
    ] = None,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Options of every command, before it or behind it."""
    terminal.begin(is_verbose=verbose, is_traced=debug)
    for limit, text in ((MAX_PIXELS, max_pixels), (MAX_BYTES, max_bytes)):
        if text is not None:
            limit.set(text)
        _ = limit.value  # a number of the environment that is none is refused at once
    if version:
        terminal.show(__version__)
    elif context.invoked_subcommand is None:
        context.get_help()  # which prints it
        raise typer.Exit(2)


# In the order that --help lists them in.
app.command()(demo)
app.command()(models)
app.command()(profile)
app.command()(export)
app.command()(calibrate)
app.command()(quantize)
app.command()(sensitivity)
app.command()(recipes)
app.command()(build)
app.command()(run)
app.command("eval")(evaluate)
app.command()(compare)
app.command()(frames)
app.command()(bench)
app.command()(advise)
app.command()(inspect)
app.command()(doctor)
