"""Every command once, one after the other, as `make test-lowest` asks of the lowest versions."""

from importlib import resources
from pathlib import Path

import pytest
import typer.main

from fcn_trt.cli.app import app

WEIGHTS = resources.files("fcn_trt.demo") / "weights.safetensors"
WAY = f"""
demo --size 64x128 --precision fp32 --frames 2 --out demo
models
models --weights
profile fcn_r18-d8
export {WEIGHTS} --size 64x128 --out n.onnx
calibrate n.onnx --scenes 2 --out n.json
quantize n.onnx --precision fp16 --out fp16.onnx
quantize n.onnx --precision fp8 --calibration n.json --float fp32 --out fp8.onnx
build n.onnx --precision int8 --calibration n.json --out int8
recipes
recipes demo_cpu_int8 --out recipes
build recipes/demo_cpu_int8.toml --out recipe
run int8 --source scene:3:64x128 --limit 3 --sink out.mp4 --sink frames/ --sink labels:maps
frames out.mp4 --out raw --count 2
eval int8 --dataset scene --limit 2 --out eval.json --confusion eval.png
compare n.onnx int8 --images frames --limit 1
bench int8 --seconds 0.1 --out bench.json --plots plots
advise --device orin-nano-super --fps 30
inspect int8
doctor
sensitivity {{tiny}} --calibration tiny.json --images frames --limit 1 --out sensitivity.json
"""
"""Of the last one's network, which is tiny, the test measures tiny.json before it."""


@pytest.mark.exhaustive
def test_every_command_does_its_work(cli, tiny_network, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = WAY.replace("{tiny}", str(tiny_network)).strip().splitlines()
    group = typer.main.get_command(app)
    assert {line.split()[0] for line in lines} == set(getattr(group, "commands"))  # noqa: B009
    lines.insert(-1, f"calibrate {tiny_network} --scenes 2 --out tiny.json")
    for line in lines:
        done = cli(*line.split())
        assert done.status == 0, f"{line}: {done.err}"
    made = {path.name for path in Path().iterdir()}
    assert {"demo", "int8", "recipe", "out.mp4", "eval.png", "plots", "sensitivity.json"} <= made
    assert {path.name for path in Path("plots").iterdir()} == {"latency.png", "roofline.png"}
