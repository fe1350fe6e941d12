import io

import pytest
from rich.console import Console

from fcn_trt import report
from fcn_trt.doctor import Finding
from fcn_trt.engine.bundle import Bundle
from fcn_trt.evaluate.protocol import Evaluation
from fcn_trt.video.loop import LoopReport, Progress

LOOP = LoopReport(
    frames=12,
    dropped=0,
    elapsed_s=1.0,
    rate_fps=12.34,
    latency_p50_ms=40.04,
    latency_p90_ms=41.0,
    latency_p99_ms=42.06,
    stop="end of source",
)


@pytest.fixture
def terminal(monkeypatch):
    """A terminal of 80 columns as both streams; returns what it was sent."""
    screen = io.StringIO()
    for name in ("stdout", "stderr"):
        console = Console(file=screen, width=80, force_terminal=True, color_system=None)
        monkeypatch.setattr(report, name, console)
    return screen


def shown(table, width=80):
    screen = io.StringIO()
    Console(file=screen, width=width, markup=False).print(table)
    return screen.getvalue()


def test_loop_is_said_in_one_sentence():
    sentence = "12 frames at 12.3 frames/s, latency p50 40.0 ms, p99 42.1 ms (end of source)"
    assert report.loop_sentence(LOOP) == sentence


def test_dropped_frames_are_said():
    live = LoopReport(**{name: getattr(LOOP, name) for name in LOOP.__slots__} | {"dropped": 3})
    assert report.loop_sentence(live).startswith("12 frames, 3 dropped at ")


def test_class_without_pixels_has_a_dash_for_its_iou():
    evaluation = Evaluation(
        images=1, miou=0.5, pixel_accuracy=1.0, per_class={"[b]road[/b]": 0.5, "sky": float("nan")}
    )
    text = shown(report.evaluation_table("title", evaluation))
    assert [line.split() for line in text.splitlines()[-4:] if line.strip()] == [
        *(["pixel", "accuracy", "100.00"], ["[b]road[/b]", "50.00"], ["sky", "-"])
    ]


def test_square_brackets_of_a_path_are_shown(tiny_bundle, tmp_path):
    bundle = Bundle(path=tmp_path / "[bold]a[/bold]", manifest=tiny_bundle.manifest)
    assert "[bold]a[/bold]" in shown(report.inspection_table(bundle, ""), 200)


def test_findings_are_shown_with_what_helps():
    finding = Finding(part="GPU", found="missing", ok=False, advice="pip install 'x[y]'")
    assert "pip install 'x[y]'" in shown(report.findings_table([finding]))


def test_models_fit_a_terminal_of_80_columns():
    models = [
        {
            "model": "fcn_d6_r101b-d16_769x769",
            "parameters": 66_105_939,
            "gmac": {"256x512": 137.6, "512x1024": 550.4, "1024x2048": 2201.4},
            "weights": 1,
        }
    ]
    last = shown(report.models_table(models)).rstrip().splitlines()[-1]
    assert last.split() == [
        *("fcn_d6_r101b-d16_769x769", "66,105,939", "137.6", "550.4", "2201.4", "1")
    ]


def test_progress_is_shown_on_a_terminal(terminal):
    with report.loop_bar("street [1].mp4") as advance:
        advance(Progress(frames=5, total=10, rate_fps=25.0, latency_ms=40.0, dropped=2))
    assert "street [1].mp4" in terminal.getvalue()
    assert "5/10" in terminal.getvalue()
    assert "25.0 frames/s, 40 ms, 2" in terminal.getvalue()


def test_images_are_counted_on_a_terminal(terminal):
    with report.count_bar("evaluating", 3) as advance:
        advance()
    assert "1/3" in terminal.getvalue()


def test_progress_is_kept_out_of_logs(capsys):
    with report.loop_bar("street") as advance:
        advance(Progress(frames=5, total=None, rate_fps=25.0, latency_ms=40.0, dropped=0))
    with report.count_bar("evaluating", 3) as count:
        count()
    assert capsys.readouterr() == ("", "")


def test_error_is_one_line_however_many_it_had(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    report.error("a long sentence about a [path]\nand what helps there")
    expected = "error: a long sentence about a [path] and what helps there\n"
    assert capsys.readouterr() == ("", expected)
