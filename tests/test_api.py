"""The public functions: what a notebook does, with real files, and the same errors as commands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import fcn_trt
from fcn_trt.errors import BundleError, OnnxError, PlanError, SourceError
from fcn_trt.images import read_image
from fcn_trt.spec import read_spec

PUBLIC = [
    *("BuildOptions", "Bundle", "FcnTrtError", "Network", "Result", "Segmenter", "ShapeRange"),
    *("Spec", "__version__", "build", "calibrate", "compare", "evaluate", "export", "load"),
    *("quantize", "run", "stream"),
]


@pytest.fixture
def images(make_frame, tmp_path) -> Path:
    folder: Path = tmp_path / "frames"
    folder.mkdir()
    for index in range(3):
        cv2.imwrite(str(folder / f"{index}.png"), make_frame(seed=index))
    return folder


def test_public_names_are_these_and_each_can_be_had():
    assert sorted(fcn_trt.__all__) == sorted(PUBLIC)
    assert set(dir(fcn_trt)) == set(PUBLIC)
    assert all(getattr(fcn_trt, name) is not None for name in PUBLIC)
    with pytest.raises(AttributeError, match="no attribute 'Segmentor'"):
        _ = fcn_trt.Segmentor


class TestSteps:
    @pytest.fixture(autouse=True)
    def needs_the_extra(self):
        pytest.importorskip("torch", reason="needs the extra: pip install 'fcn-trt[export]'")

    def test_each_takes_what_the_one_before_gave(self, images, tmp_path):
        network = fcn_trt.export(
            "fcn_r18-d8",
            weights="random:1",
            size=(32, 64),
            labels="camvid",
            out=tmp_path / "m.onnx",
        )
        assert network.spec == read_spec(tmp_path / "m.onnx")
        heard: list[tuple[str, int, int | None]] = []
        cache = fcn_trt.calibrate(
            network,
            images=images,
            out=str(tmp_path / "m.json"),
            progress=lambda *now: heard.append(now),
        )
        assert heard == [("calibrating", done, 3) for done in range(4)]
        typed = fcn_trt.quantize(
            network,
            precision="int8",
            calibration=cache,
            float_precision="fp32",
            keep_float=["last"],
            out=tmp_path / "q.onnx",
        )
        assert typed.spec.exceptions == {"decode_head.conv_seg": "fp32"}
        bundle = fcn_trt.build(typed, out=tmp_path / "engine")
        assert set(bundle.manifest.precision_proven.convolutions) == {"int8", "fp32"}
        with fcn_trt.load(bundle) as segmenter:
            assert segmenter.segment(np.zeros((40, 50, 3), np.uint8)).shape == (40, 50)

    def test_fp16_tells_of_the_images_it_is_checked_on(self, tiny_network, images, tmp_path):
        heard: list[tuple[str, int, int | None]] = []
        fcn_trt.quantize(
            tiny_network,
            precision="fp16",
            images=images,
            out=tmp_path / "h.onnx",
            progress=lambda *now: heard.append(now),
        )
        title = f"checking what fits fp16 on {images}"
        assert heard == [(title, done, 3) for done in range(4)]

    def test_recipe_is_built(self, tiny_network, tmp_path):
        recipe = tmp_path / "street.toml"
        recipe.write_text(f'model = "{tiny_network}"\nprecision = "fp32"\ntarget = "openvino"\n')
        assert fcn_trt.build(recipe).path == tmp_path / "street"
        with pytest.raises(ValueError, match="a recipe says everything itself"):
            fcn_trt.build(recipe, target="tensorrt")

    def test_what_does_not_go_together_is_named(self, tiny_network, tmp_path):
        with pytest.raises(PlanError, match="int8 needs a cache"):
            fcn_trt.quantize(tiny_network, precision="int8", out=tmp_path / "q.onnx")
        with pytest.raises(PlanError, match="unknown model 'fcn_r34-d8'"):
            fcn_trt.export("fcn_r34-d8", size=(32, 64), out=tmp_path / "m.onnx")
        with pytest.raises(OnnxError, match=r"gone\.onnx cannot be read"):
            fcn_trt.build(tmp_path / "gone.onnx", out=tmp_path / "b")
        with pytest.raises(ValueError, match="out="):
            fcn_trt.build(tiny_network)


def test_stream_gives_results_with_their_times_and_views(tiny_bundle, images):
    results = list(fcn_trt.stream(tiny_bundle, str(images), view=True))
    assert [result.index for result in results] == [0, 1, 2]
    times = [result.captured_at for result in results]
    assert all(time is not None for time in times)
    assert times == sorted(times, key=lambda time: time or 0.0)
    for result in results:
        frame, label_map = result
        assert frame is result.frame
        assert label_map.shape == frame.shape[:2]
        assert result.view is not None
        assert result.view.shape == frame.shape


def test_stream_ends_its_thread_when_it_is_closed_early(tiny_bundle):
    import threading

    results = fcn_trt.stream(tiny_bundle.path, "scene:1:64x96")
    assert next(results).view is None
    results.close()  # type: ignore[attr-defined]  # a generator, said to be an iterator
    assert not [t for t in threading.enumerate() if t.name == "fcn-trt reader"]


def test_stream_leaves_a_segmenter_that_it_was_given_open(tiny_bundle, images, make_frame):
    with fcn_trt.load(tiny_bundle) as segmenter:
        assert len(list(fcn_trt.stream(segmenter, str(images)))) == 3
        segmenter.segment(make_frame())


def test_stream_raises_what_the_source_raised(tiny_bundle, images):
    (images / "1.png").write_bytes(b"no picture")
    with pytest.raises(SourceError, match=r"1\.png"):
        list(fcn_trt.stream(tiny_bundle, str(images)))


def test_run_writes_what_it_is_told(tiny_bundle, images, tmp_path):
    heard: list[tuple[str, int, int | None]] = []
    done = fcn_trt.run(
        tiny_bundle,
        source=str(images),
        sinks=[f"labels:{tmp_path / 'maps'}"],
        limit=2,
        progress=lambda *now: heard.append(now),
    )
    assert (done.frames, done.stop) == (2, "limit")
    assert len(list((tmp_path / "maps").iterdir())) == 2
    assert heard == [("segmenting", 1, 2), ("segmenting", 2, 2)]


def test_evaluate_and_compare_measure(tiny_bundle, tiny_network, images, tmp_path):
    root = tmp_path / "labelled"
    (root / "labels").mkdir(parents=True)
    images.rename(root / "images")
    with fcn_trt.load(tiny_bundle) as segmenter:
        for path in (root / "images").iterdir():
            label_map = segmenter.segment(read_image(path))
            cv2.imwrite(str(root / "labels" / path.name), label_map)
    (root / "classes.txt").write_text("\n".join(tiny_bundle.manifest.spec.classes))
    out = tmp_path / "scores.json"
    scores = fcn_trt.evaluate(tiny_bundle, dataset="generic", root=root, out=out)
    assert (scores.images, scores.pixel_accuracy) == (3, 1.0)
    assert fcn_trt.evaluate(tiny_bundle, dataset="generic", root=root, out=out) == scores
    with pytest.raises(ValueError, match="root="):
        fcn_trt.evaluate(tiny_bundle, dataset="generic")
    with pytest.raises(ValueError, match="scene draws its own images"):
        fcn_trt.evaluate(tiny_bundle, dataset="scene", root=root)
    alike = fcn_trt.compare(tiny_bundle, tiny_network, images=root / "images", limit=2)
    assert (alike.images, alike.pixels) == (2, 1.0)


def test_bar_is_shown_on_stderr_and_nothing_on_stdout(tiny_bundle, images, capfd):
    fcn_trt.run(tiny_bundle, source=str(images), progress=True)
    assert capfd.readouterr().out == ""


def test_folder_that_is_no_bundle_is_refused(tmp_path):
    with pytest.raises(BundleError):
        fcn_trt.load(tmp_path)


USER = """
import fcn_trt

network = fcn_trt.export("my.pth", size=(512, 1024), out="my.onnx")
reveal_type(network)
cache = fcn_trt.calibrate(network, images="frames", out="my.json")
reveal_type(cache)
typed = fcn_trt.quantize(network, precision="int8", calibration=cache, out="my_int8.onnx")
reveal_type(typed.spec.classes)
bundle = fcn_trt.build(typed, target="openvino", out="engine")
reveal_type(bundle)
scores = fcn_trt.evaluate(bundle, dataset="generic", root="labelled")
reveal_type(scores.miou)
alike = fcn_trt.compare("my.pth", bundle, images="frames")
reveal_type(alike.pixels)
with fcn_trt.load(bundle) as segmenter:
    reveal_type(segmenter)
for result in fcn_trt.stream(bundle, "rtsp://camera"):
    reveal_type(result)
    reveal_type(result.captured_at)
report = fcn_trt.run(bundle, source="drive.mp4", sinks=["out.mp4"])
reveal_type(report.rate_fps)
"""


def test_a_users_file_is_typed_and_nothing_in_it_is_any(tmp_path):
    (tmp_path / "user.py").write_text(USER)
    wrong = 'import fcn_trt\nfcn_trt.export("m.pth", size="512x1024", out="m.onnx")\n'
    (tmp_path / "wrong.py").write_text(wrong)
    skip = "[mypy-torch.*,torchvision.*,onnx.*,openvino.*,cv2.*]\nfollow_imports = skip\n"
    (tmp_path / "mypy.ini").write_text("[mypy]\n" + skip)  # most of the time goes there
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-incremental", "user.py", "wrong.py"],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=tmp_path,
        env={"MYPYPATH": "", "PATH": "", "HOME": str(tmp_path)},
    )
    errors = [line for line in done.stdout.splitlines() if "error:" in line]
    assert len(errors) == 1, done.stdout
    assert errors[0].startswith('wrong.py:2: error: Argument "size" to "export"')
    revealed = [line.partition("Revealed type is ")[2] for line in done.stdout.splitlines()]
    revealed = [text.strip('"').replace("builtins.", "") for text in revealed if text]
    assert revealed == [
        "fcn_trt.network.file.Network",
        "pathlib.Path",
        "tuple[str, ...]",
        "fcn_trt.engine.bundle.Bundle",
        "float",
        "float",
        "fcn_trt.runtime.segmenter.Segmenter",
        "fcn_trt.spec.Result",
        "float | None",
        "float",
    ]
