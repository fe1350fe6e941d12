"""The command line: which commands there are, and how a run of one ends.

Results go to stdout, people-text and progress to stderr. Exit status: 0 done; 1 an error that the
user can act on, in one sentence; 2 wrong usage; 130 Ctrl-C or SIGTERM.
"""

from __future__ import annotations

import functools
import logging
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
from fcn_trt.cli.common import missing_sentence
from fcn_trt.cli.compare import compare
from fcn_trt.cli.demo import demo
from fcn_trt.cli.evaluate import evaluate
from fcn_trt.cli.export import export
from fcn_trt.cli.inspect import doctor, inspect
from fcn_trt.cli.models import models, profile
from fcn_trt.cli.quantize import quantize
from fcn_trt.cli.recipes import recipes
from fcn_trt.cli.run import run
from fcn_trt.cli.sensitivity import sensitivity
from fcn_trt.errors import FcnTrtError
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
    debug = "--debug" in sys.argv[1:]
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    try:
        status = _command()(args=arguments, standalone_mode=False, prog_name="fcn-trt")
    except USAGE_ERROR as error:
        terminal.error(_usage_sentence(error))
        status = 2
    except (KeyboardInterrupt, typer.Abort):
        status = 130
    except (FcnTrtError, ValueError, OSError) as error:
        if debug:
            raise
        terminal.error(str(error))
        status = 1
    except ImportError as error:
        if debug:
            raise
        terminal.error(missing_sentence(error))
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


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what is done.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Options before the command; --debug, anywhere, shows where an error comes from."""
    level = logging.INFO if verbose else logging.WARNING
    printed = logging.StreamHandler()
    printed.setLevel(level)
    form = "%(levelname)s %(name)s: %(message)s"
    logging.basicConfig(level=level, format=form, handlers=[printed])
    terminal.say_what_is_assumed(is_logged=verbose)
    if version:
        typer.echo(__version__)
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())
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
app.command()(bench)
app.command()(advise)
app.command()(inspect)
app.command()(doctor)
