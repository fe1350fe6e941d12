"""`fcn-trt bench` as a user and as a script see it."""

from __future__ import annotations

import functools
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import pytest

from fcn_trt.bench import ceiling, ladder
from fcn_trt.bench.result_file import read_result
from fcn_trt.cli import bench as module
from fcn_trt.machine import this_machine
from tests.processes import BLOCKED

SCHEMA = Path(__file__).parents[2] / "benchmarks" / "schema.json"
QUICK = ("--seconds", 0.1)
QUICK_BENCH = """
from fcn_trt.bench import ceiling
from fcn_trt.cli import bench
bench.CEILING_S = 0.05
ceiling.LEAST_ROUNDS = 1
from fcn_trt.cli.app import main
main()
"""


@pytest.fixture(autouse=True)
def quick_ceiling(monkeypatch):
    """Ceilings are measured as always, but not for long, and each of them once."""
    monkeypatch.setattr(module, "CEILING_S", 0.05)
    monkeypatch.setattr(ceiling, "LEAST_ROUNDS", 1)
    monkeypatch.setattr(ladder, "measure_ceiling", lambda types, **how: _once(tuple(types), **how))


_once = functools.cache(ceiling.measure_ceiling)


@pytest.fixture
def broken(tmp_path):
    """A folder that is no bundle."""
    (tmp_path / "broken").mkdir()
    return tmp_path / "broken"


def test_json_is_a_result_file_by_the_committed_schema(cli, tiny_bundle, tmp_path):
    out = tmp_path / "r.json"
    done = cli(
        *("bench", tiny_bundle.path, "--frame", "48x80", *QUICK, "--out", out, "--json"),
    )
    found = done.json
    assert found == json.loads(out.read_text())
    jsonschema.validate(found, json.loads(SCHEMA.read_text()))
    assert found["benchmark"] == "bench"
    assert found["command"].startswith(f"fcn-trt bench {tiny_bundle.path} --frame 48x80")
    (row,) = found["results"]
    assert row["name"] == str(tiny_bundle.path)
    assert row["problem"] == ""
    assert row["measurement"]["frame_size"] == [48, 80]
    assert list(row["measurement"]["stages"]) == ["preprocess", "network", "decode", "overlay"]
    assert row["achieved"]["ceiling"]["gmac_per_s"].keys() == {"fp32"}
    assert row["achieved"]["ceiling_share"] > 0


def test_table_says_what_its_columns_mean_and_what_to_doubt(cli, tiny_bundle):
    done = cli("bench", tiny_bundle.path, *QUICK)
    assert done.status == 0, done.err
    for text in ("Measured on", "label map ms", "frames/s", "of ceiling %", "not network %"):
        assert text in done.out
    assert "Each stage alone, median in ms" in done.out
    assert "preprocess  network  decode  overlay" in done.out
    assert "GMAC/s" in done.out
    assert "label maps with frames in flight" in done.out
    # Before the networks and after them.
    assert done.err.count("measuring products of matrices in fp32, and copies of memory") == 2
    assert f":: measuring {tiny_bundle.path}" in done.err
    assert "warm after" in done.err


def test_one_bad_target_does_not_lose_the_others(cli, tiny_bundle, broken, tmp_path):
    out = tmp_path / "r.json"
    done = cli("bench", broken, tiny_bundle.path, *QUICK, "--out", out)
    assert done.status == 1
    assert str(tiny_bundle.path) in done.out
    assert f"{broken}: not measured: {broken} is no bundle" in done.out
    *_, last = done.err.splitlines()
    assert last.startswith(f"error: 1 of 2 could not be measured, the first of them {broken}: ")
    bad, good = read_result(out).results
    assert "is no bundle" in bad["problem"]
    assert bad["measurement"] is None
    assert good["measurement"]["model"] == "fcn_r18-d8"


def test_each_target_has_its_own_ceiling_and_one_that_has_none_says_why(cli, tiny_bundle):
    if this_machine().gpu is not None:
        pytest.skip("this machine has a GPU")
    models = ("fcn_r18-d8", "--size", "32x64", "--precision", "fp16", "--target", "tensorrt")
    done = cli("bench", tiny_bundle.path, *models, *QUICK)
    assert done.status == 1
    assert ", and copies of memory, for openvino" in done.err
    assert "measuring products of matrices in fp16, and copies of memory, for tensorrt" in done.err
    lines = done.out.splitlines()
    (cpu,) = (line for line in lines if "GMAC/s in fp32; copies " in line)
    assert "ceiling of openvino" in cpu
    (gpu,) = (line for line in lines if "not measured: there is no GPU to measure: " in line)
    assert "ceiling of tensorrt" in gpu


def test_results_are_there_after_each_target_and_ctrl_c(tiny_bundle, tmp_path):
    out = tmp_path / "r.json"
    command = [sys.executable, "-c", QUICK_BENCH, "bench", *[tiny_bundle.path] * 2]
    options = ["--seconds", "0.3", "--out", out]
    with subprocess.Popen([*map(str, command), *map(str, options)], stderr=subprocess.PIPE) as run:
        until = time.monotonic() + 100
        while not out.exists() and time.monotonic() < until:
            time.sleep(0.05)
        run.send_signal(signal.SIGINT)  # while the second one is measured
        _, err = run.communicate(timeout=60)
    assert run.returncode == 130
    assert err.decode().endswith("interrupted\n")
    assert "Traceback" not in err.decode()
    (row,) = read_result(out).results
    assert row["name"] == str(tiny_bundle.path)
    assert row["measurement"]["model"] == "fcn_r18-d8"


def test_model_is_built_with_random_weights_and_said_so(cli, tmp_path):
    pytest.importorskip("torch", reason="needs the extra: pip install 'fcn-trt[export]'")
    plots = tmp_path / "plots"
    arguments = ("bench", "fcn_r18-d8", "--size", "32x64", *QUICK)
    done = cli(*arguments, "--precision", "fp32", "--plots", plots)
    assert done.status == 0, done.err
    assert "fcn_r18-d8 32x64 fp32 openvino" in done.out
    assert "weights of models are random, so that only their speed means anything" in done.out
    assert ":: export of fcn_r18-d8 at 32x64 with random weights in fp32" in done.err
    assert f"wrote a plot to {plots / 'latency.png'}" in done.err
    assert sorted(path.name for path in plots.iterdir()) == ["latency.png", "roofline.png"]
    again = cli(*arguments, "--precision", "fp32", "--json")
    assert "export of" not in again.err
    (row,) = again.json["results"]
    assert row["measurement"]["input_size"] == [32, 64]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["fcn_r17"],
            "'fcn_r17' is neither a bundle's folder, nor a recipe, nor one of the models",
        ),
        (["fcn_r18-d8", "--size", "64"], "'--size': size '64' is not HEIGHTxWIDTH"),
        (["fcn_r18-d8", "--frame", "x"], "'--frame': size 'x' is not HEIGHTxWIDTH"),
        (["fcn_r18-d8", "--precision", "fp4"], "'fp4' is none of fp32, fp16, bf16, int8, fp8"),
        (["fcn_r18-d8", "--target", "cpu"], "'cpu' is none of openvino, tensorrt, tensorrt-rtx"),
        (["fcn_r18-d8", "--seconds", "0"], "Invalid value for '--seconds'"),
        (["{bundle}", "--size", "32x32"], "'--size': a bundle or recipe has its own"),
        (["{bundle}", "--precision", "int8"], "'--precision': a bundle or recipe has its own"),
        (["{bundle}", "--target", "tensorrt"], "'--target': a bundle or recipe has its own"),
        ([], "Missing argument 'TARGET...'"),
    ],
)
def test_wrong_usage_is_refused_before_any_work(cli, tiny_bundle, arguments, words):
    done = cli("bench", *[text.format(bundle=tiny_bundle.path) for text in arguments])
    assert done.status == 2
    assert words in done.sentence


def test_result_that_could_not_be_written_is_refused_before_the_work(cli, tiny_bundle, tmp_path):
    done = cli("bench", tiny_bundle.path, "--out", tmp_path / "no" / "r.json")
    assert done.status == 1
    assert "r.json cannot be written" in done.sentence


def test_bundles_are_measured_without_the_export_extra(tiny_bundle, tmp_path):
    def run(*arguments):
        command = [sys.executable, "-c", BLOCKED + QUICK_BENCH, "bench", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    # No other test measures this size, whose bundle would be found.
    both = ("fcn_r18-d8", tiny_bundle.path, "--size", "32x96", "--precision", "fp32")
    done = run(*both, *QUICK, "--json")
    assert done.returncode == 1
    model, bundle = json.loads(done.stdout)["results"]
    assert model["problem"].startswith("this command needs the package ")
    assert bundle["measurement"]["model"] == "fcn_r18-d8"
    drawn = run(tiny_bundle.path, *QUICK, "--plots", tmp_path / "plots")
    assert drawn.returncode == 1
    assert drawn.stderr.startswith("error: this command needs the package matplotlib; install")
