"""The README's commands exist with these options, its links lead somewhere, its Python runs."""

import importlib.metadata
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer.main

from fcn_trt.bench.result_file import read_result
from fcn_trt.cli.app import app

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


def commands():
    lines = [
        line.partition("#")[0].strip() for block in blocks("sh") for line in block.splitlines()
    ]
    return [line for line in lines if line.startswith("fcn-trt ")]


def test_there_are_commands():
    assert len(commands()) > 5


@pytest.mark.parametrize("line", commands())
def test_command_has_these_options(line):
    name, *words = shlex.split(line)[1:]
    group: Any = typer.main.get_command(app)
    group.commands[name].make_context(name, words, resilient_parsing=False).close()


@pytest.mark.parametrize(
    "target", re.findall(r"^make (\S+)", "\n".join(blocks("sh")), re.MULTILINE)
)
def test_make_target_exists(target):
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#]+)\)", TEXT))
def test_link_leads_to_a_file(link):
    assert link.startswith("https://") or (ROOT / link).exists()


def test_every_dependency_is_justified():
    table = TEXT.split("### Dependencies")[1].split("##")[0].replace("_", "-")
    required = importlib.metadata.requires("fcn-trt") or []
    names = {re.split(r"[^\w-]", line)[0] for line in required}
    assert len(names) > 10
    for name in names - {"fcn-trt"}:
        assert re.search(rf"\|.*\b{name}\b.*\|.*\|", table), name


RESULTS = sorted(set((ROOT / "benchmarks").glob("*.json")) - {ROOT / "benchmarks" / "schema.json"})


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: str(path.name))
def test_each_result_names_the_command_that_makes_it_again(path):
    (row,) = (line for line in TEXT.splitlines() if line.startswith(f"| `{path.name}`"))
    assert f"`{read_result(path).command}`" in row


def test_python_example_runs(tiny_bundle, tmp_path):
    import numpy as np

    (code,) = blocks("python")
    code = code.replace('"engines/r50"', repr(str(tiny_bundle.path)))
    frame = np.zeros((40, 60, 3), np.uint8)
    names: dict[str, Any] = {"frame": frame, "frames": [frame] * 3}
    exec(compile(code, "README.md", "exec"), names)  # noqa: S102  # the README's own example
    assert names["label_map"].shape == (40, 60)
    assert names["view"].shape == (40, 60, 3)
