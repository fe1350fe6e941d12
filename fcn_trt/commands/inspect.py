"""What a bundle is, and what this machine can do."""

from __future__ import annotations

from fcn_trt import report
from fcn_trt.commands.common import BundleArgument, JsonOption, print_json

__all__ = ["doctor", "inspect"]


def inspect(bundle: BundleArgument, as_json: JsonOption = False) -> None:
    """Say what a bundle is, after checking its files."""
    from fcn_trt.engine.bundle import load_bundle

    found = load_bundle(bundle)
    if as_json:
        print_json(found.manifest)
    else:
        report.show(report.inspection_table(found))


def doctor(as_json: JsonOption = False) -> None:
    """Say what this machine can do, and what helps where something is missing."""
    from fcn_trt.doctor import examine

    findings = examine()
    if as_json:
        print_json({"findings": findings})
    else:
        report.show(report.findings_table(findings))
