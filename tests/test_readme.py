"""What READMEs say: commands exist with these options, links lead somewhere, Python runs."""

import importlib.metadata
import re
import shlex
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import typer.main

from fcn_trt.bench.result_file import read_result
from fcn_trt.cli.app import app
from fcn_trt.labels import label_set
from fcn_trt.video.loop import run_loop
from fcn_trt.video.scene_source import SceneSource
from fcn_trt.video.sink import open_sink
from tests.plans import as_results

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in (README, *sorted(ROOT.glob("[a-z]*/README.md")))
}
"""By path."""


def blocks(language, text=None):
    """The code of one page, or of all."""
    whole = "\n".join(PAGES.values()) if text is None else text
    return re.findall(rf"^```{language}\n(.*?)^```", whole, re.MULTILINE | re.DOTALL)


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


LINKS = [
    (page, link) for page, text in PAGES.items() for link in re.findall(r"\]\(([^)]+)\)", text)
]


@pytest.mark.parametrize(("page", "link"), LINKS)
def test_link_leads_to_a_file_and_to_a_title_in_it(page, link):
    name, _, title = link.partition("#")
    if name.startswith("https://"):
        return
    target = (ROOT / page).parent / name if name else ROOT / page
    assert target.exists()
    if title:
        titles = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.MULTILINE)
        assert title in {re.sub(r"[^\w -]", "", t.lower()).replace(" ", "-") for t in titles}


def test_readme_is_read_in_one_sitting():
    assert len(PAGES["README.md"].splitlines()) <= 150


def test_every_dependency_is_justified():
    table = PAGES["fcn_trt/README.md"].split("## Dependencies")[1].split("##")[0].replace("_", "-")
    required = importlib.metadata.requires("fcn-trt") or []
    names = {re.split(r"[^\w-]", line)[0] for line in required}
    assert len(names) > 10
    for name in names - {"fcn-trt"}:
        assert re.search(rf"\|.*\b{name}\b.*\|.*\|", table), name


RESULTS = sorted(set((ROOT / "benchmarks").glob("*.json")) - {ROOT / "benchmarks" / "schema.json"})


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: str(path.name))
def test_each_result_names_the_command_that_makes_it_again(path):
    lines = PAGES["benchmarks/README.md"].splitlines()
    (row,) = (line for line in lines if line.startswith(f"| `{path.name}`"))
    assert f"`{read_result(path).command}`" in row


@pytest.fixture
def working_folder(tmp_path, monkeypatch, make_model, make_frame):
    """What README's examples name: a checkpoint, frames, labelled images and a video."""
    torch = pytest.importorskip("torch", reason="needs the extra: pip install 'fcn-trt[export]'")
    monkeypatch.chdir(tmp_path)
    state = make_model(classes=11).module.state_dict()
    torch.save({"state_dict": state, "meta": {"model": "fcn_r18-d8"}}, "my.pth")
    for folder in ("frames", "labelled/images", "labelled/labels"):
        Path(folder).mkdir(parents=True)
        for index in range(2):
            picture = make_frame(seed=index) if "labels" not in folder else LABELS
            cv2.imwrite(f"{folder}/{index}.png", picture)
    Path("labelled/classes.txt").write_text("\n".join(label_set("camvid").classes))
    palette = np.zeros((1, 3), np.uint8)
    with SceneSource(1, size=(64, 96), frame_count=3) as street:
        sink = open_sink("drive.mp4", render=lambda frame, _: frame, palette=palette, rate_fps=15.0)
        blank = np.zeros((64, 96), np.uint8)
        run_loop(street, lambda frames: as_results((f, blank) for f in frames), [sink])


LABELS = np.zeros((64, 96), np.uint8)


@pytest.mark.parametrize("code", blocks("python"))
def test_python_runs_as_it_stands(code, working_folder, capsys):
    exec(compile(code, "README.md", "exec"), {})  # noqa: S102  # the README's own example
    assert "mIoU" in capsys.readouterr().out
    assert Path("segmented.mp4").is_file()
