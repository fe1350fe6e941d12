import datetime as dt
import io
import re
from dataclasses import replace

import pytest

from fcn_trt.cli import terminal
from fcn_trt.cli.evaluate import figures_table
from fcn_trt.cli.models import models_table
from fcn_trt.console import PlainConsole
from fcn_trt.doctor import Finding
from fcn_trt.engine.bundle import Bundle
from fcn_trt.engine.manifest import FileRecord
from fcn_trt.engine.preflight import Obstacle
from fcn_trt.engine.tensorrt.progress import BuildPhase
from fcn_trt.evaluation.scores import Evaluation
from fcn_trt.spec import ShapeRange
from fcn_trt.video.loop import LoopReport, Progress

LOOP = LoopReport(
    frames=12,
    dropped=0,
    elapsed_s=1.0,
    rate_fps=12.34,
    latency_p50_ms=40.04,
    latency_p90_ms=41.0,
    latency_p99_ms=42.06,
    latency_has_queue=False,
    stop="end of source",
)


@pytest.fixture
def screen(monkeypatch):
    """A terminal of 80 columns as both streams; returns what it was sent."""
    stream = io.StringIO()
    for name in ("stdout", "stderr"):
        console = PlainConsole(file=stream, width=80, force_terminal=True, color_system=None)
        monkeypatch.setattr(terminal, name, console)
    return stream


def shown(table, width=80):
    stream = io.StringIO()
    PlainConsole(file=stream, width=width).print(table)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        (
            {},
            "12 frames at 12.3 frames/s, latency p50 40.0 ms, p99 42.1 ms, without a queue (end of "
            "source)",
        ),
        (
            {"dropped": 3, "latency_has_queue": True, "stop": "limit"},
            "12 frames, 3 dropped at 12.3 frames/s, latency p50 40.0 ms, p99 42.1 ms, with the "
            "wait in the queue (limit)",
        ),
        (
            {"frames": 1, "rate_fps": 0.0},
            "1 frame, latency p50 40.0 ms, p99 42.1 ms, without a queue (end of source)",
        ),
        ({"frames": 0, "rate_fps": 0.0, "stop": "interrupted"}, "0 frames (interrupted)"),
    ],
    ids=["file", "live", "one frame", "none"],
)
def test_loop_is_said_in_one_sentence_of_what_there_is(changed, sentence):
    assert terminal.loop_sentence(replace(LOOP, **changed)) == sentence


def test_class_without_pixels_has_a_dash_for_its_iou():
    iou = {"[b]road[/b]": 0.5, "sky": float("nan")}
    evaluation = Evaluation(
        images=1,
        miou=0.5,
        mean_accuracy=0.5,
        pixel_accuracy=1.0,
        boundary_f=0.5,
        per_class=iou,
        accuracy_per_class=iou,
        boundary_f_per_class=iou,
        confusion=((1, 0, 0), (0, 0, 0)),
    )
    text = shown(figures_table("title", evaluation))
    assert [line.split() for line in text.splitlines() if line.strip()][-3:] == [
        *(["all", "pixels", "100.00"], ["[b]road[/b]", *["50.00"] * 3], ["sky", "-", "-", "-"])
    ]


def test_square_brackets_of_a_path_are_shown(tiny_bundle, tmp_path):
    bundle = Bundle(path=tmp_path / "[bold]a[/bold]", manifest=tiny_bundle.manifest)
    assert "[bold]a[/bold]" in shown(terminal.inspection_table(bundle, None), 200)


def inspected(bundle, obstacle=None, **changes):
    """The rows of the table, by name."""
    manifest = replace(bundle.manifest, **changes)
    text = shown(
        terminal.inspection_table(Bundle(path=bundle.path, manifest=manifest), obstacle), 200
    )
    rows = (line.split("│")[1:3] for line in text.splitlines() if line.startswith("│"))
    return {name.strip(): value.strip() for name, value in rows}


def test_bundle_is_told_with_what_a_user_asks_first(tiny_bundle):
    manifest = tiny_bundle.manifest
    rows = inspected(tiny_bundle)
    assert rows["runs here"] == "yes"
    assert rows["model"] == "fcn_r18-d8 (mmsegmentation), weights random (seed 2)"
    assert rows["licence of the weights"] == "unknown"
    assert rows["input"] == "64x96, batch 1; logits at stride 8"
    assert rows["target"] == f"openvino {manifest.target_version} for {manifest.device}"
    assert rows["precision proven"] == "18 fp32 (100.0 % of GMAC); read from the engine"
    assert rows["source SHA-256"] == "none (random weights)"
    assert rows["network.onnx"].endswith(manifest.files["network.onnx"].sha256)
    assert "kept in another type" not in rows


def test_kernels_are_told_in_one_row(tiny_bundle):
    sizes = {"decode-12.0.cubin": 30, "decode-8.6.cubin": 20, "overlay-8.6.cubin": 4}
    kernels = {name: FileRecord(size_bytes=n, sha256="0" * 64) for name, n in sizes.items()}
    files = tiny_bundle.manifest.files | kernels
    rows = inspected(tiny_bundle, files=files, kernels_sha256="ab" * 32)
    assert rows["kernels"] == f"for 8.6, 12.0; 54 bytes, of sources {'ab' * 32}"
    assert not set(sizes) & set(rows)


def test_why_a_bundle_does_not_run_here_comes_first(tiny_bundle):
    stands = Obstacle(reason="built for sm_87 with TensorRT 10.3.0", is_cured_by_rebuild=True)
    rows = inspected(tiny_bundle, stands)
    assert next(iter(rows.items())) == ("runs here", f"no: {stands.reason}")


def test_proof_that_only_the_network_gave_is_told_apart(tiny_bundle):
    proof = replace(tiny_bundle.manifest.precision_proven, source="network")
    rows = inspected(tiny_bundle, precision_proven=proof)
    assert rows["precision proven"].endswith("; read from the typed ONNX")


def test_dynamic_shape_licence_and_kept_nodes_are_told(tiny_bundle):
    spec = replace(
        tiny_bundle.manifest.spec,
        dynamic=ShapeRange(min_size=(32, 64), max_size=(96, 128), min_batch=1, max_batch=2),
        licence="CC BY 4.0",
        precision="fp16",
        exceptions={"decode_head.conv_seg": "fp32"},
        source_sha256="ab" * 32,
    )
    rows = inspected(tiny_bundle, spec=spec)
    assert rows["input"] == (
        "64x96, batch 1 only, though its ONNX takes 32x64 to 96x128, batch 1 to 2; logits at "
        "stride 8"
    )
    rows = inspected(tiny_bundle, spec=spec, target="tensorrt")
    assert rows["input"] == (
        "32x64 to 96x128, batch 1 to 2; optimised for 64x96, batch 1; logits at stride 8"
    )
    assert rows["licence of the weights"] == "CC BY 4.0"
    assert rows["kept in another type"] == "decode_head.conv_seg (fp32)"
    assert rows["source SHA-256"] == "ab" * 32


@pytest.mark.parametrize(
    ("age_s", "said"),
    [
        (0, "just now"),
        (59, "just now"),
        (60, "1 minute ago"),
        (7199, "1 hour ago"),
        (7200, "2 hours ago"),
        (86400, "1 day ago"),
        (10 * 86400, "10 days ago"),
    ],
)
def test_age_is_in_the_largest_unit_that_fits(tiny_bundle, age_s, said):
    created = dt.datetime.now(dt.timezone.utc) - dt.timedelta(seconds=age_s)
    rows = inspected(tiny_bundle, created=created.isoformat())
    assert f" ({said}) by fcn_trt " in rows["built"]


def test_findings_are_shown_with_what_helps():
    finding = Finding(part="GPU", found="missing", ok=False, advice="pip install 'x[y]'")
    assert "pip install 'x[y]'" in shown(terminal.findings_table([finding]))


def test_models_fit_a_terminal_of_80_columns():
    models = [
        {
            "model": "fcn_d6_r101b-d16_769x769",
            "parameters": 66_105_939,
            "gmac": {"256x512": 137.6, "512x1024": 550.4, "1024x2048": 2201.4},
            "weights": 1,
        }
    ]
    last = shown(models_table(models)).rstrip().splitlines()[-1]
    assert last.split() == [
        *("fcn_d6_r101b-d16_769x769", "66,105,939", "137.6", "550.4", "2201.4", "1")
    ]


def test_progress_is_shown_on_a_terminal(screen):
    with terminal.loop_bar("street [1].mp4") as advance:
        advance(Progress(frames=5, total=10, rate_fps=25.0, latency_ms=40.0, dropped=2))
    assert "street [1].mp4" in screen.getvalue()
    assert "5/10" in screen.getvalue()
    assert "25.0 frames/s, 40 ms, 2" in screen.getvalue()


@pytest.fixture
def bars(screen):
    """What `build_bar` shows after some phases: each bar's text and count, outer ones first."""

    def show(*phases):
        with terminal.build_bar() as advance:
            for name, parent, done, total in phases:
                advance(BuildPhase(name=name, parent=parent, done=done, total=total))
            screen.truncate(0)  # the end of the block draws them once more
            screen.seek(0)
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "\n", screen.getvalue())
        drawn = re.findall(r"^( *\S.*?) +[━╸╺]* +(\d+/\d+)", text, re.MULTILINE)
        return list(dict.fromkeys(drawn))

    return show


def test_phases_of_a_build_are_bars_with_the_inner_ones_indented(bars):
    assert bars(
        ("Building engine", None, 1, 6),
        ("Tactic [selection]", "Building engine", 0, 20),
        ("Timing", "Tactic [selection]", 2, 3),
    ) == [("Building engine", "1/6"), ("  Tactic [selection]", "0/20"), ("    Timing", "2/3")]


def test_phase_moves_on_and_is_gone_when_it_is_over(bars):
    begun = [("Building engine", None, 0, 2), ("Tactic selection", "Building engine", 0, 5)]
    moved = ("Tactic selection", "Building engine", 4, 5)
    assert bars(*begun, moved) == [("Building engine", "0/2"), ("  Tactic selection", "4/5")]
    over = ("Tactic selection", "Building engine", 5, 5)
    assert bars(*begun, moved, over) == [("Building engine", "0/2")]
    assert bars(*begun, over, *begun[1:]) == [
        ("Building engine", "0/2"),
        ("  Tactic selection", "0/5"),
    ]


def test_phase_whose_parent_is_over_stands_alone(bars):
    assert bars(("inner", "outer", 0, 3)) == [("inner", "0/3")]


def test_phase_without_steps_is_over_at_once(bars):
    assert bars(("Parsing", None, 0, 0)) == []


def test_images_are_counted_on_a_terminal(screen):
    with terminal.count_bar("evaluating", 3) as advance:
        advance()
    assert "1/3" in screen.getvalue()


def test_progress_is_kept_out_of_logs(capsys):
    with terminal.loop_bar("street") as advance:
        advance(Progress(frames=5, total=None, rate_fps=25.0, latency_ms=40.0, dropped=0))
    with terminal.count_bar("evaluating", 3) as count:
        count()
    with terminal.build_bar() as phase:
        phase(BuildPhase(name="Building engine", parent=None, done=1, total=6))
    assert capsys.readouterr() == ("", "")


def test_error_is_one_line_however_many_it_had(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    terminal.error("a long sentence about a [path]\nand what helps there")
    expected = "error: a long sentence about a [path] and what helps there\n"
    assert capsys.readouterr() == ("", expected)
