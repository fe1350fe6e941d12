"""What a bundle is, and what this machine can do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from fcn_trt.cli import terminal
from fcn_trt.cli.common import (
    AcceptOption,
    BundleArgument,
    JsonOption,
    RebuildOption,
    parse_checking,
    print_json,
    rebuild_here,
)
from fcn_trt.errors import BundleError

if TYPE_CHECKING:
    from fcn_trt.engine.bundle import Bundle
    from fcn_trt.spec import Check

__all__ = ["doctor", "inspect"]


def inspect(
    bundle: BundleArgument,
    rebuild: RebuildOption = False,
    check: Annotated[
        bool, typer.Option("--check", help="Hold the engine against its source here and now.")
    ] = False,
    accept: AcceptOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what a bundle is and whether it runs here, after checking its files."""
    from fcn_trt.engine.bundle import load_bundle
    from fcn_trt.engine.preflight import obstacle

    if rebuild:
        rebuild_here(bundle)
    found = load_bundle(bundle)
    stands = obstacle(found)
    now = _check(found, accept) if check else None
    if as_json:
        reason = stands.reason if stands else None
        facts = {"runs_here": stands is None, "obstacle": reason, "manifest": found.manifest}
        print_json(facts | ({"check": now} if check else {}))
        return
    terminal.show(terminal.inspection_table(found, stands))
    if now is not None:
        terminal.show(f"now: {now.describe()}")


def _check(bundle: Bundle, accept: float | None) -> Check:
    """Hold an engine against its source now.

    Raises:
        AgreementError: it labels otherwise.
        BundleError: it carries no reference, or does not run here.
    """
    from fcn_trt.engine.preflight import require_runs_here
    from fcn_trt.pipeline.checks import check_engine
    from fcn_trt.runtime.segmenter import labelling

    require_runs_here(bundle)
    with terminal.watch(says_steps=False) as watcher:
        found = check_engine(
            bundle,
            labelling(bundle),
            name=str(bundle.path),
            checking=parse_checking(accept, no_check=False),
            bar=watcher.images_bar,
        )
    if found.agreement is None:
        raise BundleError(f"{bundle.path} cannot be checked {found.reason}; export its model again")
    return found


def doctor(as_json: JsonOption = False) -> None:
    """Say what this machine can do, and what helps where something is missing."""
    from fcn_trt.doctor import examine

    findings = examine()
    if as_json:
        print_json({"findings": findings})
    else:
        terminal.show(terminal.findings_table(findings))
