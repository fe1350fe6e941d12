"""What a user types, what comes out on which stream, and which status a script sees."""

from __future__ import annotations

import dataclasses
import itertools
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from fcn_trt import __version__
from fcn_trt.cli.app import main
from fcn_trt.cli.common import missing_sentence
from fcn_trt.engine.openvino.builder import computes
from fcn_trt.files import Closing
from fcn_trt.runtime.segmenter import Segmenter
from fcn_trt.spec import read_spec
from fcn_trt.video.scene_source import open_scene
from fcn_trt.video.source import open_source
from tests.plans import as_network

COMMANDS = (
    *("demo", "models", "profile", "export", "calibrate", "quantize", "sensitivity"),
    *("build", "run", "eval", "compare", "inspect", "doctor"),
)
SIZE = "64x96"
SCENE = "scene:3:64x96"


def files_in(folder: Path) -> list[str]:
    found = (str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    return sorted(found)


def write_video(path: Path, count: int = 12) -> Path:
    """Frames of blurred noise, 48x64 at 10 frames a second."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, (64, 48))
    noise = np.random.default_rng(0).integers(0, 256, (count, 6, 8, 3), dtype=np.uint8)
    for image in noise:
        writer.write(cv2.resize(image, (64, 48), interpolation=cv2.INTER_CUBIC))
    writer.release()
    return path


def write_dataset(root: Path, *, classes: str | None = None, highest: int = 10) -> Path:
    """Two labelled images of 64x96, one of them .jpg."""
    rng = np.random.default_rng(0)
    for kind in ("images", "labels"):
        (root / kind).mkdir(parents=True)
    for name in ("a.png", "b.jpg"):
        cv2.imwrite(str(root / "images" / name), rng.integers(0, 256, (64, 96, 3), dtype=np.uint8))
        labels = rng.integers(0, highest + 1, (64, 96), dtype=np.uint8)
        cv2.imwrite(str(root / "labels" / f"{name[0]}.png"), labels)
    if classes is not None:
        (root / "classes.txt").write_text(classes)
    return root


@pytest.fixture(scope="session")
def checkpoint(make_model, tmp_path_factory) -> Path:
    """fcn_r18-d8 for CamVid's 11 classes with base width 8, as MMSegmentation would save it."""
    torch = pytest.importorskip("torch")
    path: Path = tmp_path_factory.mktemp("checkpoint") / "street.pth"
    state = make_model(classes=11).module.state_dict()
    torch.save({"state_dict": state, "meta": {"model": "fcn_r18-d8", "labels": "camvid"}}, path)
    return path


@pytest.fixture(scope="session")
def camvid_bundle(checkpoint, tmp_path_factory) -> Path:
    """That checkpoint as a bundle for 64x96, through export and build."""
    from fcn_trt.engine.openvino.builder import build_openvino
    from tests.plans import export_network

    folder = tmp_path_factory.mktemp("camvid_bundle")
    export_network(str(checkpoint), folder / "street.onnx", size=(64, 96))
    bundle: Path = build_openvino(as_network(folder / "street.onnx"), folder / "street").path
    return bundle


@pytest.fixture(scope="session")
def video(tmp_path_factory) -> Path:
    return write_video(tmp_path_factory.mktemp("video") / "street.mp4")


# What a user does.


def test_version_is_printed_by_every_way_in(cli, own_process):
    assert cli("--version") == (0, f"{__version__}\n", "")
    assert own_process("--version") == (0, f"{__version__}\n", "")
    script = shutil.which("fcn-trt", path=str(Path(sys.executable).parent))
    assert script is not None
    assert subprocess.run([script, "--version"], capture_output=True, text=True).stdout.split() == [
        __version__
    ]


@pytest.mark.parametrize("command", [(), *((name,) for name in COMMANDS)])
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_is_on_stdout(cli, monkeypatch, command, flag):
    monkeypatch.setenv("COLUMNS", "120")
    done = cli(*command, flag)
    assert (done.status, done.err) == (0, "")
    assert f"Usage: fcn-trt {' '.join(command)}" in done.out
    if not command:
        assert all(f" {name} " in done.out for name in COMMANDS)


@pytest.mark.parametrize("arguments", [(), ("--verbose",)])
def test_without_a_command_the_help_is_shown_as_wrong_usage(cli, arguments):
    done = cli(*arguments)
    assert done.status == 2
    assert "Usage: fcn-trt" in done.out


@pytest.mark.parametrize("as_json", [False, True])
def test_demo_does_the_whole_main_job(cli, tmp_path, monkeypatch, as_json):
    out = tmp_path / "demo"
    if not as_json:
        monkeypatch.setattr("fcn_trt.demo.job.EVALUATED_SCENES", 3)
    arguments = ["demo", "--out", out, "--size", "64x128", "--frames", 5]
    done = cli(*arguments, *(["--json"] if as_json else []))
    assert done.status == 0
    steps = done.err.splitlines()
    assert [step[:3] for step in steps] == [":: "] * len(steps)
    assert any("checking against PyTorch on drawn streets" in step for step in steps)
    assert files_in(out) == [
        *("bundle/manifest.json", "bundle/network.onnx"),
        *("demo.png", "fcn.onnx", "segmented.mp4"),
    ]
    with open_source(str(out / "segmented.mp4")) as source:
        assert len(list(source)) == 5
    if as_json:
        assert done.json["loop"]["frames"] == 5
        assert done.json["evaluation"]["images"] == 40
        assert done.json["video"] == str(out / "segmented.mp4")
    else:
        assert "mean IoU" in done.out
        assert str(out / "segmented.mp4") in done.out


def test_models_are_listed_with_their_costs(cli):
    found = {model["model"]: model for model in cli("models", "--json").json["models"]}
    assert found["pad_fcn_resnet101"]["parameters"] == pytest.approx(51.95e6, rel=0.003)
    assert found["fcn_resnet50"]["gmac"].keys() == {"256x512", "512x1024", "1024x2048"}
    assert found["fcn_r50-d8"]["weights"] > 1


def test_models_are_one_line_each(cli, monkeypatch):
    # One size, for the time it takes.
    monkeypatch.setattr("fcn_trt.cli.models.LADDER", ((64, 96),))
    done = cli("models")
    assert (done.status, done.err) == (0, "")
    lines = [line.split() for line in done.out.splitlines()]
    assert ["fcn_resnet50", "32,957,013", "3.2", "1"] in lines


def test_published_weights_are_listed(cli):
    text, found = cli("models", "--weights"), cli("models", "--weights", "--json").json["weights"]
    assert all(weights["url"].startswith("https://") for weights in found)
    assert all(weights["name"] in text.out for weights in found)
    assert any("fcn_r50-d8_512x1024_40k_cityscapes" in line for line in text.out.splitlines())


@pytest.mark.parametrize(
    ("size", "gflops"), [("256x512", 216.42), ("512x1024", 865.69), ("1024x2048", 3462.77)]
)
def test_profile_is_that_of_the_published_table(cli, size, gflops):
    found = cli("profile", "pad_fcn_resnet101", "--size", size, "--json").json
    assert found["parameters"] == pytest.approx(51.95e6, rel=0.003)
    assert found["gflops"] == pytest.approx(gflops, rel=0.003)
    text = cli("profile", "pad_fcn_resnet101", "--size", size).out
    assert f"pad_fcn_resnet101 at {size}: {found['gflops']:.2f} GFLOPs" in text
    assert f"{found['parameters']:,}" in text


@pytest.mark.parametrize(
    ("model", "parameters"), [("fcn_resnet50", 35_322_218), ("fcn_resnet101", 54_314_346)]
)
def test_profile_counts_the_auxiliary_head(cli, model, parameters):
    found = cli("profile", model, "--size", "256x512", "--json").json
    assert found["parameters_with_auxiliary"] == parameters
    text = cli("profile", model, "--size", "256x512").out
    assert ["with", "auxiliary", "head", f"{parameters:,}"] in map(str.split, text.splitlines())


def test_export_of_random_weights_says_so(cli, tmp_path):
    out = tmp_path / "m.onnx"
    done = cli("export", "fcn_r18-d8", "--weights", "random:3", "--size", SIZE, "--out", out)
    said = ":: export: not checked, since random weights label nothing\n"
    assert done == (0, "", f"{said}wrote fcn_r18-d8 with weights random (seed 3) to {out}\n")
    spec = read_spec(out)
    assert (spec.weights, spec.input_size, spec.source_sha256) == ("random (seed 3)", (64, 96), "")


def test_export_of_a_checkpoint_and_of_its_onnx(cli, checkpoint, tmp_path):
    first, second = tmp_path / "first.onnx", tmp_path / "second.onnx"
    done = cli("export", checkpoint, "--size", SIZE, "--out", first, "--json")
    assert done.json["network"] == str(first)
    assert done.json["spec"]["labels"] == "camvid"
    done = cli("export", first, "--size", "32x64", "--batch", 2, "--out", second, "--json")
    assert done.json["spec"]["input_size"] == [32, 64]
    assert (read_spec(second).model, read_spec(second).batch) == ("fcn_r18-d8", 2)
    assert files_in(tmp_path) == ["first.onnx", "second.onnx"]


@pytest.mark.parametrize("option", ["--batch", "--min-batch", "--max-batch"])
def test_export_refuses_a_batch_that_no_network_takes(cli, tmp_path, option):
    arguments = ["--weights", "random", "--size", SIZE, option, 999999999999]
    done = cli("export", "fcn_r18-d8", *arguments, "--out", tmp_path / "m.onnx")
    assert (done.status, done.err.count("\n")) == (2, 1)
    assert f"'{option}'" in done.err
    assert "65536" in done.err  # in the words of the installed typer
    assert files_in(tmp_path) == []


def test_export_names_the_limit_that_is_wrong(cli, tmp_path):
    limits = ["--size", "64x64", "--min-size", "128x128"]
    done = cli("export", "fcn_r18-d8", "--weights", "random", *limits, "--out", tmp_path / "m.onnx")
    assert done.status == 2
    assert "'--min-size': the network's own size, 64x64, which the engine is optimised" in done.err
    assert files_in(tmp_path) == []


def test_missing_opencv_is_no_matter_of_an_extra():
    missing = ModuleNotFoundError("No module named 'cv2'", name="cv2")
    assert "`fcn-trt doctor`" in missing_sentence(missing)
    assert "OpenCV" in missing_sentence(missing)


def test_export_names_the_classes_that_were_asked(cli, make_model, tmp_path):
    torch = pytest.importorskip("torch")
    state = make_model(classes=19).module.state_dict()
    torch.save({"state_dict": state, "meta": {"model": "fcn_r18-d8"}}, tmp_path / "x.pth")
    arguments = ["export", tmp_path / "x.pth", "--size", SIZE, "--out", tmp_path / "x.onnx"]
    found = cli(*arguments, "--labels", "cityscapes", "--json").json
    assert found["spec"]["classes"][:2] == ["road", "sidewalk"]


@pytest.mark.parametrize("precision", [None, "fp32", "fp16", "bf16"])
def test_build_proves_the_precision(cli, tiny_network, tmp_path, precision):
    if not computes(precision or "fp32"):
        pytest.skip(f"needs a CPU that computes {precision}")
    out = tmp_path / "bundle"
    asked = [] if precision is None else ["--precision", precision]
    found = cli("build", tiny_network, "--out", out, *asked, "--json").json
    assert found["bundle"] == str(out)
    assert found["manifest"]["precision_proven"]["convolutions"] == {precision or "fp32": 18}
    assert files_in(tmp_path) == ["bundle/manifest.json", "bundle/network.onnx"]


def test_build_says_what_it_built(cli, tiny_network, tmp_path):
    done = cli("build", tiny_network, "--out", tmp_path / "bundle", "--target", "openvino")
    assert done.err == (
        ":: build: not checked, its ONNX carries no reference\n"
        f"wrote the bundle to {tmp_path / 'bundle'}\n"
    )
    assert "18 fp32 (100.0 % of GMAC); read from the engine" in done.out


def test_inspect_says_what_a_bundle_is(cli, tiny_bundle):
    found = cli("inspect", tiny_bundle.path, "--json").json
    assert (found["runs_here"], found["obstacle"]) == (True, None)
    assert found["manifest"]["spec"]["model"] == "fcn_r18-d8"
    assert found["manifest"]["files"].keys() == {"network.onnx"}
    text = cli("inspect", tiny_bundle.path)
    assert (text.status, text.err) == (0, "")
    assert tiny_bundle.manifest.files["network.onnx"].sha256 in text.out
    assert "none (random weights)" in text.out


def test_run_fills_several_sinks_at_once(cli, tiny_bundle, video, tmp_path):
    names = [tmp_path / "out.mp4", f"{tmp_path}/views/", f"labels:{tmp_path}/labels", "none"]
    sinks = [part for name in names for part in ("--sink", name)]
    done = cli("run", tiny_bundle.path, "--source", video, *sinks)
    assert done.status == 0
    assert done.out.startswith("12 frames at ")
    assert done.out.endswith(", without a queue (end of source)\n")
    assert done.err.startswith(":: OpenVINO ")
    numbers = range(12)
    assert files_in(tmp_path) == [
        *(f"labels/{number:06d}.png" for number in numbers),
        "out.mp4",
        *(f"views/{number:06d}.jpg" for number in numbers),
    ]
    labels = Image.open(tmp_path / "labels" / "000000.png")
    assert (labels.mode, labels.size) == ("P", (64, 48))
    assert set(np.unique(np.asarray(labels))) <= {0, 1, 2}
    with open_source(str(tmp_path / "out.mp4")) as written:
        assert written.info.rate_fps == 10
        assert [frame.shape for frame in written] == [(48, 64, 3)] * 12


def test_run_stops_at_the_limit(cli, tiny_bundle):
    arguments = ["run", tiny_bundle.path, "--source", SCENE, "--limit", 4, "--json"]
    found = cli(*arguments).json
    assert (found["frames"], found["stop"]) == (4, "limit")
    assert found["latency_p50_ms"] > 0


@pytest.mark.parametrize(("is_live", "in_flight"), [(True, 1), (False, 2)])
def test_run_keeps_no_frame_of_a_live_source_back(
    cli, tiny_bundle, monkeypatch, is_live, in_flight
):
    """Frame k is told before frame k + 1 is read; in a file one more is in flight."""
    ahead: list[int] = []
    scene = open_scene(SCENE)

    class Frames(Closing):
        info = dataclasses.replace(scene.info, is_live=is_live)

        def __iter__(self):
            return itertools.islice(scene, 4)

    def stream(self, frames, **options):
        taken = 0

        def counted():
            nonlocal taken
            for frame in frames:
                taken += 1
                yield frame

        for done, pair in enumerate(real(self, counted(), **options)):
            ahead.append(taken - done)
            yield pair

    real = Segmenter.stream
    monkeypatch.setattr("fcn_trt.video.source.open_source", lambda _: Frames())
    monkeypatch.setattr(Segmenter, "stream", stream)
    assert cli("run", tiny_bundle.path, "--source", "it", "--limit", 4).status == 0
    assert ahead[0] == max(ahead) == in_flight


def test_opacity_decides_how_much_of_the_frame_is_seen(cli, tiny_bundle, video, tmp_path):
    arguments = ["run", tiny_bundle.path, "--source", video, "--limit", 1]
    for opacity in (0, 1):
        sink = tmp_path / f"{opacity}-%d.png"
        assert cli(*arguments, "--opacity", opacity, "--sink", sink).status == 0
    with open_source(str(video)) as source:
        first = next(iter(source))
    view = cv2.imread(str(tmp_path / "0-0.png"))
    assert view is not None
    assert np.array_equal(view, first)
    colours = cv2.imread(str(tmp_path / "1-0.png"))
    assert colours is not None
    assert len(np.unique(colours.reshape(-1, 3), axis=0)) <= 3


def test_eval_on_camvid_s_layout(cli, camvid_bundle, tmp_path):
    root = write_dataset(tmp_path, highest=11)
    found = cli("eval", camvid_bundle, "--dataset", "camvid", "--root", root, "--json").json
    assert found["images"] == 2
    assert 0 <= found["miou"] < 0.5
    assert 0 < found["pixel_accuracy"] < 0.5
    assert list(found["per_class"])[:2] == ["sky", "building"]
    text = cli("eval", camvid_bundle, "--dataset", "camvid", "--root", root)
    assert f"{100 * found['miou']:.2f}" in text.out
    assert "  pedestrian" in text.out


def test_eval_on_scenes_needs_no_folder(cli, camvid_bundle):
    found = cli("eval", camvid_bundle, "--dataset", "scene", "--json").json
    assert found["images"] == 40
    assert found["per_class"].keys() >= {"road", "sky"}


def test_doctor_says_what_this_machine_can_do(cli):
    found = {finding["part"]: finding for finding in cli("doctor", "--json").json["findings"]}
    assert "FP32" in found["OpenVINO"]["found"]
    text = cli("doctor")
    assert (text.status, text.err) == (0, "")
    assert all(part in text.out for part in found)


def test_json_is_all_there_is_on_stdout_of_a_real_process(own_process, tiny_bundle):
    done = own_process("run", tiny_bundle.path, "--source", SCENE, "--limit=2", "--json")
    assert done.json["frames"] == 2
    assert done.err.startswith(":: OpenVINO ")
    assert done.err.count("\n") == 1


def test_verbose_logs_on_stderr(own_process, tiny_bundle):
    done = own_process("--verbose", "inspect", tiny_bundle.path, "--json")
    assert done.json["manifest"]["format"] == 4


def test_reader_that_goes_away_is_no_error():
    command = f"{sys.executable} -m fcn_trt doctor | head -c 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True)  # noqa: S602
    assert done.stderr == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_being_stopped_leaves_a_playable_video_and_one_sentence(tiny_bundle, tmp_path, number):
    command = ["run", tiny_bundle.path, "--source", SCENE, "--sink", tmp_path / "x.mp4"]
    process = subprocess.Popen(
        [sys.executable, "-m", "fcn_trt", *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        until = time.monotonic() + 60
        while not any(path.stat().st_size for path in tmp_path.glob(".*/x.mp4")):
            assert time.monotonic() < until
            assert process.poll() is None
            time.sleep(0.05)
        time.sleep(0.5)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert out.endswith("(interrupted)\n")
    assert out.count("\n") == 1
    assert err.startswith(":: OpenVINO ")
    assert err.count("\n") == 1
    assert files_in(tmp_path) == ["x.mp4"]
    with open_source(str(tmp_path / "x.mp4")) as source:
        assert len(list(source)) == int(out.split()[0])


def test_ctrl_c_before_anything_ran_is_one_word(cli, monkeypatch):
    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr("fcn_trt.doctor.examine", interrupt)
    assert cli("doctor") == (130, "", "interrupted\n")


# What goes wrong.


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("nope", "No such command 'nope'; see `fcn-trt --help`"),
        ("--nope", "No such option: --nope; see `fcn-trt --help`"),
        ("doctor --nope", "No such option: --nope; see `fcn-trt doctor --help`"),
        ("run", "Missing argument '"),
        ("run b", "Missing option '--source'"),
        ("run b --source scene --limit 0", "Invalid value for '--limit': "),
        ("run b --source scene --opacity 2", "Invalid value for '--opacity': "),
        ("profile fcn_resnet50 --size", "Option '--size' requires an argument"),
        ("profile fcn_resnet50 --size 512", "size '512' is not HEIGHTxWIDTH in pixels, such as 5"),
        ("profile fcn_resnet50 --size 0x9", "size '0x9' has a side that is not between 1 and 163"),
        ("export m.pth --size 9xa --out m.onnx", "size '9xa' is not HEIGHTxWIDTH in pixels, such"),
        ("demo --size 256", "size '256' is not HEIGHTxWIDTH in pixels, such as 512x1024; see `fcn"),
        ("demo --precision int4", "'int4' is none of fp32, fp16, bf16, int8, fp8; see"),
        (
            "build m.onnx --out b --precision fp4",
            "'fp4' is none of fp32, fp16, bf16, int8, fp8; see",
        ),
        ("build m.onnx --out b --precision int8", "'--calibration': int8 needs a cache from"),
        ("build m.onnx --out b --calibration c.json", "'--calibration': it needs --precision"),
        (
            "export m.onnx --weights random --size 64x96 --out n.onnx",
            "'--weights': an .onnx file carries its",
        ),
        ("quantize m.onnx --out q.onnx --precision fp16 --float fp32", "only int8 and fp8 leave"),
        (
            "quantize m.onnx --out q.onnx --precision int8 --calibration c.json --float bf16",
            "'bf16' is none of fp16, fp32; see",
        ),
        ("build m.onnx --out b --target tpu", "'tpu' is none of openvino, tensorrt, tensorrt-r"),
        ("eval b --dataset moon --root r", "'moon' is none of coco_voc, voc, cityscapes, ad"),
        ("eval b --dataset camvid", "Invalid value for '--root': camvid needs the folder of"),
        ("eval b --dataset scene --root r", "Invalid value for '--root': scene takes none; see"),
    ],
)
def test_wrong_usage_is_one_sentence_and_status_2(cli, tmp_path, monkeypatch, command, message):
    monkeypatch.chdir(tmp_path)
    done = cli(*command.split())
    assert done.status == 2
    assert message in done.sentence
    assert "--help`" in done.sentence
    assert files_in(tmp_path) == []


@pytest.fixture
def trouble(tmp_path: Path, monkeypatch, checkpoint, camvid_bundle, make_model, video) -> Path:
    """A working folder full of things that are wrong; nothing may be added to it."""
    torch = pytest.importorskip("torch")
    folder = tmp_path / "trouble"
    folder.mkdir()
    monkeypatch.chdir(folder)
    data = checkpoint.read_bytes()
    (folder / "street.pth").write_bytes(data)
    (folder / "half.pth").write_bytes(data[: len(data) // 2])
    (folder / "text.pth").write_text("no checkpoint")
    (folder / "half.safetensors").write_bytes(b"\x40\0\0\0\0\0\0\0{")
    torch.save({"fc.weight": torch.zeros(3, 3)}, folder / "classifier.pth")
    torch.save(make_model().module.state_dict(), folder / "ambiguous.pth")
    torch.save([1, 2], folder / "list.pth")
    whole = video.read_bytes()
    (folder / "half.mp4").write_bytes(whole[: len(whole) // 2])
    (folder / "text.mp4").write_text("no video")
    shutil.copytree(camvid_bundle, folder / "bundle")
    shutil.copytree(camvid_bundle, folder / "altered")
    network = folder / "altered" / "network.onnx"
    altered = bytearray(network.read_bytes())
    altered[5000] ^= 1
    network.write_bytes(altered)
    shutil.copytree(camvid_bundle, folder / "lacking")
    (folder / "lacking" / "network.onnx").unlink()
    (folder / "half.onnx").write_bytes(network.read_bytes()[:5000])
    (folder / "text.onnx").write_text("no network")
    (folder / "photos").mkdir()
    (folder / "photos" / "a.jpg").write_text("mine")
    write_dataset(folder / "animals", classes="cat\ndog\n", highest=1)
    write_dataset(folder / "dirty", highest=200)
    (write_dataset(folder / "unlabelled") / "labels" / "a.png").unlink()
    return folder


EXPORT = "--size 64x96 --out new.onnx"


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (f"export gone.pth {EXPORT}", "gone.pth is neither a file nor a published checkpoint; `fc"),
        (f"export fcn_r18-d8 --weights gone.pth {EXPORT}", "gone.pth is neither a file nor a pub"),
        (f"export gone.onnx {EXPORT}", "gone.onnx cannot be read: "),
        ("build gone.onnx --out new", "gone.onnx cannot be read: No such file or directory"),
        ("build gone.onnx --out new --precision fp32", "gone.onnx cannot be read: No such file or"),
        ("run gone --source scene", "gone is no bundle: manifest.json cannot be read (No such fi"),
        ("inspect gone", "gone is no bundle: manifest.json cannot be read (No such file or direct"),
        ("run bundle --source gone.mp4 --sink new.mp4", "source 'gone.mp4' does not exist; give "),
        ("run bundle --source half.mp4 --sink new.mp4", "half.mp4 is not a video that OpenCV can"),
        ("run bundle --source text.mp4 --sink new.mp4", "text.mp4 is not a video that OpenCV can"),
        ("run bundle --source photos --sink new.mp4", "a.jpg"),
        ("run bundle --source scene:x --sink new.mp4", "source 'scene:x' is not scene[:SEED[:HxW"),
        ("run bundle --source scene:1:9x9", "size is 9x9; each side must be at least 16 pixels"),
        ("run bundle --source rtsp://127.0.0.1:9/x", "stream 'rtsp://127.0.0.1:9/x' cannot be op"),
        ("run bundle --source 99", "camera 99 cannot be opened; see which there are with `ls /de"),
        ("run bundle --source scene --sink new.gif", "sink 'new.gif' is none that can be written"),
        ("run bundle --source scene --sink gone/new.mp4", "gone/new.mp4 cannot be written: No su"),
        (f"export half.pth {EXPORT}", "half.pth is damaged or truncated ("),
        (f"export text.pth {EXPORT}", "text.pth is a text and no PyTorch checkpoint; give"),
        (f"export half.safetensors {EXPORT}", "half.safetensors is damaged or truncated ("),
        (f"export list.pth {EXPORT}", "list.pth holds a list, not a dict of tensors"),
        (f"export classifier.pth {EXPORT}", "classifier.pth is an image classifier, and only FCN"),
        (f"export fcn_r50-d8 --weights street.pth {EXPORT}", "street.pth is not fcn_r50-d8; it i"),
        (f"export fcn_resnet50 --weights street.pth {EXPORT}", "street.pth is not fcn_resnet50; "),
        (f"export ambiguous.pth {EXPORT}", "name the one it was trained as: fcn_r18-d8, fcn_r18-"),
        (f"export street.pth --labels voc {EXPORT}", "street.pth cannot be labelled (voc has 21 "),
        (f"export street.pth --weights random {EXPORT}", "street.pth is a checkpoint itself; lea"),
        (f"export fcn_r18-d8 --weights random:x {EXPORT}", "random:x has no seed of 1 to 18 digi"),
        (f"export fcn_d6_r50b-d16 {EXPORT}", "no weights are published for fcn_d6_r50b-d16; give"),
        (f"export fcn_r34-d8 {EXPORT}", "unknown model 'fcn_r34-d8'; `fcn-trt models` lists the "),
        ("profile fcn_r34-d8", "unknown model 'fcn_r34-d8'; `fcn-trt models` lists the 23 known,"),
        ("export street.pth --size 64x96 --out gone/new.onnx", "gone/new.onnx cannot be written: "),
        ("export street.pth --size 64x96 --out photos", "photos cannot be written: Is a director"),
        (f"export half.onnx {EXPORT}", "half.onnx cannot be read as ONNX: "),
        (f"export text.onnx {EXPORT}", "text.onnx cannot be read as ONNX: "),
        ("build half.onnx --out new", "half.onnx is not a whole ONNX file"),
        ("build text.onnx --out new", "text.onnx is not a whole ONNX file"),
        ("build bundle/network.onnx --out photos", "photos holds files that are no bundle's, such"),
        ("build bundle/network.onnx --out text.mp4", "text.mp4 is a file; give the name of a fol"),
        (
            "build bundle/network.onnx --out text.mp4/x",
            "text.mp4/x cannot be written: text.mp4 is a file",
        ),
        ("inspect altered", "altered/network.onnx was altered: it has "),
        ("run altered --source scene --sink new.mp4", "altered/network.onnx was altered: it has "),
        ("eval altered --dataset scene", "altered/network.onnx was altered: it has "),
        ("inspect lacking", "lacking/network.onnx cannot be read (No such file or directory); bu"),
        ("inspect photos", "photos is no bundle: manifest.json cannot be read (No such file or d"),
        ("eval bundle --dataset camvid --root photos", "photos/images cannot be read: No such f"),
        ("eval bundle --dataset camvid --root gone", "gone/images cannot be read: No such file"),
        ("eval bundle --dataset camvid --root unlabelled", "1 of 2 images have no labels, the fi"),
        ("eval bundle --dataset camvid --root dirty", "labels/a.png has label 200, but camvid has"),
        ("eval bundle --dataset generic --root dirty", "dirty/classes.txt cannot be read (No suc"),
        ("eval bundle --dataset generic --root animals", "bundle does not predict the classes of"),
        ("demo --out text.mp4 --frames 1", "text.mp4 cannot be made: a file is in its way; choos"),
        ("demo --out text.mp4/x --frames 1", "text.mp4/x cannot be made: a file is in its way; ch"),
    ],
)
def test_what_is_wrong_is_one_sentence_and_status_1(cli, trouble, command, message):
    before = files_in(trouble)
    done = cli(*command.split())
    assert done.status == 1
    assert message in done.sentence
    assert files_in(trouble) == before


def test_what_is_wrong_is_the_same_from_a_process_of_its_own(own_process, trouble):
    done = own_process("run", "bundle", "--source", "half.mp4", "--sink", "new.mp4")
    assert done.status == 1
    assert "half.mp4 is not a video that OpenCV can read" in done.sentence
    done = own_process("export", "half.pth", *EXPORT.split(), cwd=trouble)
    assert done.status == 1
    assert "half.pth is damaged or truncated (" in done.sentence


def test_weights_that_cannot_be_downloaded_say_where_to_put_them(cli, trouble, monkeypatch):
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # where nothing listens
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    done = cli("export", "fcn_resnet50", *EXPORT.split())
    assert done.status == 1
    sentence = done.sentence
    assert sentence.startswith("fcn_resnet50_coco cannot be downloaded (")
    assert "fetch https://download.pytorch.org/models/fcn_resnet50_coco-1167a1af.pth " in sentence
    assert sentence.endswith("or give a checkpoint's PATH instead of a name")
    place = Path(sentence.partition(" put it at ")[2].partition(",")[0])
    assert place.parent.is_dir()
    assert files_in(place.parent) == []


def test_debug_shows_where_an_error_comes_from(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["fcn-trt", "inspect", str(tmp_path), "--debug"])
    with pytest.raises(ValueError, match=r"is no bundle: manifest\.json"):
        main()


def mount(folder: Path, *options: str) -> bool:
    """Mount a tmpfs; whether that is possible here."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(folder)]
    has_mount = os.geteuid() == 0 and shutil.which("mount") is not None
    return has_mount and subprocess.run(command, capture_output=True).returncode == 0


def unmount(folder: Path) -> None:
    subprocess.run(["umount", str(folder)], check=True)  # noqa: S607


@pytest.fixture
def full_disk(tmp_path) -> Iterator[Path]:
    """A folder into which at most 400 kB fit: a small disk, or a limit where mounting needs root.

    The user's cache lies elsewhere.
    """
    folder = tmp_path / "full"
    if mount(folder, "size=400k"):
        yield folder
        unmount(folder)
        return
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, limits[1]))
    yield folder
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.fixture
def read_only(tmp_path) -> Iterator[Path]:
    """A folder that cannot be written to; root can write wherever it is not mounted so."""
    folder = tmp_path / "read_only"
    if mount(folder, "ro"):
        yield folder
        unmount(folder)
        return
    if os.geteuid() == 0:
        pytest.skip("needs mount, or another user than root")
    folder.chmod(0o555)
    yield folder
    folder.chmod(0o755)


WRITERS = [
    ("export {checkpoint} --size 64x96 --out {folder}/new.onnx", "new.onnx cannot be written: "),
    ("build {bundle}/network.onnx --out {folder}/new", "new cannot be written: "),
    ("run {bundle} --source scene:3:720x1280 --limit 40 --sink {folder}/new.mp4", "new.mp4 "),
    ("run {bundle} --source scene:3:480x640 --limit 40 --sink labels:{folder}/new", "new"),
    ("demo --size 64x128 --frames 2 --out {folder}/new", "new"),
]


@pytest.mark.parametrize(("command", "message"), WRITERS)
def test_full_disk_is_one_sentence_and_leaves_nothing_half_written(
    cli, full_disk, checkpoint, camvid_bundle, command, message
):
    if "labels:" in command and not full_disk.is_mount():
        pytest.skip("no label map is as large as the limit; a small disk needs root")
    names = {"checkpoint": checkpoint, "bundle": camvid_bundle, "folder": full_disk}
    done = cli(*(part.format(**names) for part in command.split()))
    assert done.status == 1
    assert message in done.sentence
    assert "make room" in done.sentence
    assert any(said in done.sentence for said in ("No space left", "too large", "disk is full"))
    # Each image of a folder is whole; anything else is not there.
    assert all(cv2.imread(str(full_disk / name)) is not None for name in files_in(full_disk))
    assert all(name.endswith(".png") for name in files_in(full_disk))


@pytest.mark.parametrize(("command", "message"), WRITERS)
def test_read_only_folder_is_one_sentence(
    cli, read_only, checkpoint, camvid_bundle, command, message
):
    names = {"checkpoint": checkpoint, "bundle": camvid_bundle, "folder": read_only}
    done = cli(*(part.format(**names) for part in command.split()))
    assert done.status == 1
    assert message in done.sentence
    assert "Read-only file system" in done.sentence or "Permission denied" in done.sentence
    assert "choose another" in done.sentence
    assert files_in(read_only) == []
