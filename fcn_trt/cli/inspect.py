"""What a bundle is, and what this machine can do."""

from __future__ import annotations

from fcn_trt.cli import terminal
from fcn_trt.cli.common import BundleArgument, JsonOption, RebuildOption, print_json, rebuild_here

__all__ = ["doctor", "inspect"]


def inspect(
    bundle: BundleArgument, rebuild: RebuildOption = False, as_json: JsonOption = False
) -> None:
    """Say what a bundle is and whether it runs here, after checking its files."""
    from fcn_trt.engine.bundle import load_bundle
    from fcn_trt.engine.preflight import obstacle

    if rebuild:
        rebuild_here(bundle)
    found = load_bundle(bundle)
    stands = obstacle(found)
    if as_json:
        reason = stands.reason if stands else None
        print_json({"runs_here": stands is None, "obstacle": reason, "manifest": found.manifest})
    else:
        terminal.show(terminal.inspection_table(found, stands))


def doctor(as_json: JsonOption = False) -> None:
    """Say what this machine can do, and what helps where something is missing."""
    from fcn_trt.doctor import examine

    findings = examine()
    if as_json:
        print_json({"findings": findings})
    else:
        terminal.show(terminal.findings_table(findings))
