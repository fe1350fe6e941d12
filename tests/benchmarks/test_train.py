"""The training script, end to end on crops and a data set of a few pixels."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import typer

torch = pytest.importorskip("torch", reason="training needs the export extra")

from safetensors import safe_open  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from benchmarks.demo_model import train as script  # noqa: E402
from benchmarks.demo_model.samples import MixedSamples, Settings  # noqa: E402
from fcn_trt.errors import CheckpointError, DatasetError, OutputError  # noqa: E402
from fcn_trt.evaluation.datasets import LabelledImages, open_dataset  # noqa: E402
from fcn_trt.evaluation.scenes import HeldOutScenes  # noqa: E402
from fcn_trt.evaluation.scores import Evaluation  # noqa: E402
from fcn_trt.model.architecture import architecture  # noqa: E402
from fcn_trt.model.fcn import Fcn  # noqa: E402

TINY = Settings(
    iterations=2, batch=2, crop=(64, 64), evaluate_every=2, held_out_scenes=1, workers=0
)


@pytest.fixture
def camvid(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for part in ("train", "val"):
        for kind in ("images", "labels"):
            (tmp_path / "camvid" / part / kind).mkdir(parents=True)
        for name in ("a", "b"):
            folder = tmp_path / "camvid" / part
            frame = rng.integers(0, 256, (72, 96, 3), dtype=np.uint8)
            cv2.imwrite(str(folder / "images" / f"{name}.jpg"), frame)
            labels = rng.integers(0, 12, (72, 96), dtype=np.uint8)
            cv2.imwrite(str(folder / "labels" / f"{name}.png"), labels)
    return tmp_path / "camvid"


@pytest.fixture
def start(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    model = Fcn(architecture("fcn_r18-d8"), 11, base_width=32, auxiliary=True)
    torch.save({"state_dict": model.state_dict()}, tmp_path / "start.pth")
    return tmp_path / "start.pth"


@pytest.fixture
def small_streets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streets of a few pixels; that they are otherwise those of `eval` has a test of its own."""
    monkeypatch.setattr(script, "HeldOutScenes", partial(HeldOutScenes, size=(32, 64)))


def run(*arguments: object) -> tuple[int, str]:
    app = typer.Typer()
    app.command()(script.main)
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.output


@pytest.mark.usefixtures("small_streets")
def test_script_trains_writes_float16_weights_and_resumes(
    start: Path, camvid: Path, tmp_path: Path
) -> None:
    out = tmp_path / "weights.safetensors"
    common = ["--start", start, "--camvid", camvid, "--out", out, "--crop", "64x64", "--batch", 2]
    common += ["--workers", 0, "--held-out-scenes", 1, "--evaluate-every", 10]
    code, text = run(*common, "--iterations", 1)
    assert code == 0, text
    assert "float16  scene mIoU" in text
    assert "float16  CamVid val mIoU" in text
    first = out.read_bytes()

    code, text = run(*common, "--iterations", 2)
    assert code == 0, text
    assert "resuming after step 1" in text
    assert out.read_bytes() != first

    model = Fcn(architecture("fcn_r18-d8"), 11, base_width=32)
    keys = {key for key in model.state_dict() if not key.endswith("num_batches_tracked")}
    with safe_open(out, framework="pt") as file:
        assert set(file.keys()) == keys
        assert {file.get_tensor(key).dtype for key in keys} == {torch.float16}
        metadata = file.metadata()
    assert metadata.pop("licence")
    assert metadata == {"model": "fcn_r18-d8", "base_width": "32", "labels": "camvid"}
    assert out.stat().st_size < 8_000_000


@pytest.mark.exhaustive
@pytest.mark.usefixtures("small_streets")
def test_a_stopped_run_ends_with_the_weights_of_an_unbroken_one(
    start: Path, camvid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken = tmp_path / "whole.safetensors", tmp_path / "broken.safetensors"
    always = Settings(
        iterations=2,
        batch=2,
        crop=(64, 64),
        evaluate_every=1,
        save_s=0.0,
        workers=0,
        held_out_scenes=1,
    )
    script.train(start, camvid, whole, settings=always)

    def stop(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(script, "_report", stop)
        with pytest.raises(KeyboardInterrupt):
            script.train(start, camvid, broken, settings=always)
    assert not broken.exists()
    script.train(start, camvid, broken, settings=always)
    expected = _tensors(whole)
    for key, value in _tensors(broken).items():
        torch.testing.assert_close(value, expected[key], rtol=0, atol=2e-3)


def _tensors(path: Path) -> dict[str, object]:
    with safe_open(path, framework="pt") as file:
        return {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_samples_are_crops_that_depend_on_their_number_alone(camvid: Path, share: float) -> None:
    settings = replace(TINY, scene_share=share, iterations=4)
    samples = MixedSamples(open_dataset("camvid", camvid / "train"), settings)
    image, labels = samples[3]
    assert (image.shape, image.dtype) == ((3, 64, 64), torch.uint8)
    assert (labels.shape, labels.dtype) == ((64, 64), torch.uint8)
    assert set(labels.unique().tolist()) <= {*range(11), 255}
    again = samples[3]
    assert torch.equal(image, again[0])
    assert torch.equal(labels, again[1])
    assert not torch.equal(image, samples[4][0])


def test_an_image_without_labels_is_refused_before_training(
    start: Path, camvid: Path, tmp_path: Path
) -> None:
    (camvid / "val" / "labels" / "b.png").unlink()
    with pytest.raises(DatasetError, match=r"1 of 2 images have no labels, the first is .*b\.png"):
        script.train(start, camvid, tmp_path / "w.safetensors", settings=TINY)


def test_it_is_measured_on_the_streets_that_eval_measures_on(
    monkeypatch: pytest.MonkeyPatch, camvid: Path
) -> None:
    measured = []

    def listen(process: object, images: LabelledImages) -> Evaluation:
        measured.append(images)
        return Evaluation(
            images=1,
            miou=0.5,
            mean_accuracy=0.5,
            pixel_accuracy=0.5,
            boundary_f=0.5,
            per_class={},
            accuracy_per_class={},
            boundary_f_per_class={},
            confusion=(),
        )

    monkeypatch.setattr(script, "evaluate", listen)
    validation = open_dataset("camvid", camvid / "val")
    script._report("x", torch.nn.Identity(), validation, 3, fast=False)
    assert measured == [HeldOutScenes(count=3), validation]


def test_a_checkpoint_of_another_width_is_refused(camvid: Path, tmp_path: Path) -> None:
    wide = Fcn(architecture("fcn_r18-d8"), 11, base_width=16, auxiliary=True)
    torch.save({"state_dict": wide.state_dict()}, tmp_path / "wide.pth")
    code, text = run(
        "--start", tmp_path / "wide.pth", "--camvid", camvid, "--out", tmp_path / "w.safetensors"
    )
    assert code == 1
    assert "has tensors of other shapes" in text
    assert not (tmp_path / "w.safetensors").exists()


def test_a_checkpoint_without_the_auxiliary_head_is_refused(camvid: Path, tmp_path: Path) -> None:
    model = Fcn(architecture("fcn_r18-d8"), 11, base_width=32)
    torch.save({"state_dict": model.state_dict()}, tmp_path / "bare.pth")
    with pytest.raises(CheckpointError, match="keys missing, 0 unknown"):
        script.train(tmp_path / "bare.pth", camvid, tmp_path / "w.safetensors", settings=TINY)


def test_a_file_that_is_no_checkpoint_is_refused(camvid: Path, tmp_path: Path) -> None:
    path = tmp_path / "text.pth"
    path.write_text("state_dict")
    with pytest.raises(CheckpointError, match=r"text\.pth"):
        script.train(path, camvid, tmp_path / "w.safetensors", settings=TINY)


def test_weights_that_float16_cannot_hold_are_not_written(tmp_path: Path) -> None:
    model = Fcn(architecture("fcn_r18-d8"), 11, base_width=32)
    model.backbone.stem[1].running_var.fill_(1e6)
    with pytest.raises(CheckpointError, match="running_var exceeds float16"):
        script.write_weights(model, tmp_path / "w.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_output_folder_is_named(tmp_path: Path) -> None:
    model = Fcn(architecture("fcn_r18-d8"), 11, base_width=32)
    with pytest.raises(OutputError, match="cannot be written"):
        script.write_weights(model, tmp_path / "missing" / "w.safetensors")


def test_settings_without_iterations_are_refused() -> None:
    with pytest.raises(ValueError, match="iterations, batch"):
        Settings(iterations=0)
