"""`fcn-trt calibrate`, as a user runs it."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time

import cv2
import pytest

pytest.importorskip("onnx", reason="needs the extra: pip install 'fcn-trt[export]'")

from fcn_trt.calibration.cache import read_calibration
from fcn_trt.calibration.table import read_table


@pytest.fixture(scope="module")
def folder(tmp_path_factory, make_frame):
    path = tmp_path_factory.mktemp("cli") / "frames"
    path.mkdir()
    for number in range(4):
        cv2.imwrite(str(path / f"{number}.png"), make_frame(seed=number))
    return path


@pytest.fixture
def cache(cli, tiny_network, folder, tmp_path, monkeypatch):
    """A cache of 1970."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    path = tmp_path / "c.json"
    assert cli("calibrate", tiny_network, "--images", folder, "--out", path).status == 0
    return path


def test_images_become_a_cache(cli, tiny_network, folder, tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    out = tmp_path / "c.json"
    done = cli("calibrate", tiny_network, "--images", folder, "--limit", 3, "--out", out)
    assert done.status == 0
    assert done.err == f":: calibrating {tiny_network} on 3 images: {folder}\n"
    assert "calibration of fcn_r18-d8" in done.out
    assert "with a histogram" in done.out
    found = read_calibration(out)
    assert (found.images, found.method, found.created) == (3, "mse", "1970-01-02")


def test_folders_and_streets_are_measured_together(cli, tiny_network, folder, tmp_path):
    out = tmp_path / "c.json"
    arguments = ["--images", folder, "--images", folder, "--scenes", 2, "--limit", 5]
    found = cli("calibrate", tiny_network, *arguments, "--out", out, "--json").json
    assert found["images"] == 7
    assert found["calibration"] == str(out)
    assert found["histograms"] < found["tensors"]
    assert read_calibration(out).images_name == "frames and frames and 2 drawn streets"


def test_what_is_read_is_not_written_over(cli, tiny_network, cache, tmp_path):
    for source, options in ((tiny_network, ["--scenes", 1]), (cache, ["--method", "entropy"])):
        before = source.read_bytes()
        done = cli("calibrate", source, *options, "--out", source)
        assert done.status == 2
        assert "is read; write another file" in done.err
        assert source.read_bytes() == before


def test_other_json_is_not_written_over(cli, tiny_network, tmp_path):
    other = tmp_path / "other.json"
    other.write_text('{"a": 1}')
    done = cli("calibrate", tiny_network, "--scenes", 1, "--out", other)
    assert done.status == 1
    assert "is there and no calibration cache" in done.err
    assert other.read_text() == '{"a": 1}'


def test_table_that_lacks_a_tensor_is_refused(cli, tiny_network, tmp_path):
    (tmp_path / "t.table").write_text(
        "TRT-100300-EntropyCalibration2\n(Unnamed Layer* 0) [Constant]_output: 3c010a14\n"
    )
    out = tmp_path / "c.json"
    done = cli("calibrate", tiny_network, "--import", tmp_path / "t.table", "--out", out)
    assert done.status == 1
    assert "does not say how large 'image' gets" in done.err
    assert not out.exists()


def test_second_run_leaves_the_same_bytes_and_the_day_of_the_first(
    cli, tiny_network, folder, cache, monkeypatch
):
    before = cache.read_bytes()
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "864000")
    assert cli("calibrate", tiny_network, "--images", folder, "--out", cache).status == 0
    assert cache.read_bytes() == before


def test_another_method_needs_no_images(cli, cache, tmp_path):
    out = tmp_path / "m.json"
    assert cli("calibrate", cache, "--method", "minmax", "--out", out, "--json").json["method"]
    found, before = read_calibration(out), read_calibration(cache)
    assert (found.method, before.method) == ("minmax", "mse")
    assert found.amaxes() == before.amaxes("minmax") != before.amaxes()


@pytest.mark.parametrize(
    ("export", "options", "version"),
    [
        ("trt", [], "10.3.0"),
        ("trt", ["--tensorrt", "8.5.2"], "8.5.2"),
        ("deepstream", [], "10.3.0"),
    ],
)
def test_cache_becomes_a_table_of_tensorrt(cli, cache, tmp_path, export, options, version):
    out = tmp_path / "calib.table"
    done = cli("calibrate", cache, "--export", export, *options, "--out", out)
    assert done.status == 0
    table = read_table(out)
    assert (table.version, table.algorithm) == (version, "EntropyCalibration2")
    assert table.amaxes == pytest.approx(read_calibration(cache).amaxes(), rel=1e-6)
    keys = f"network-mode=1 and int8-calib-file={out}"
    assert (keys in done.err) == (export == "deepstream")


def test_table_comes_back_as_a_cache(cli, cache, tiny_network, tmp_path):
    table, back = tmp_path / "calib.table", tmp_path / "back.json"
    assert cli("calibrate", cache, "--export", "trt", "--out", table).status == 0
    assert cli("calibrate", tiny_network, "--import", table, "--out", back).status == 0
    found, before = read_calibration(back), read_calibration(cache)
    assert found.amaxes() == pytest.approx(before.amaxes(), rel=1e-6)
    assert (found.method, found.network_sha256) == ("imported", before.network_sha256)
    done = cli("calibrate", back, "--method", "mse", "--out", tmp_path / "no.json")
    assert (done.status, "has no histograms" in done.sentence) == (1, True)
    again = tmp_path / "again.table"
    assert cli("calibrate", back, "--export", "trt", "--out", again).status == 0
    assert again.read_bytes() == table.read_bytes()


def test_table_of_another_network_is_refused(cli, tiny_network, tmp_path):
    table = tmp_path / "calib.table"
    table.write_text("TRT-100300-EntropyCalibration2\nbackbone.stem.22: 3c010a14\n")
    done = cli("calibrate", tiny_network, "--import", table, "--out", tmp_path / "c.json")
    assert done.status == 1
    assert "'backbone.stem.22'" in done.sentence
    assert not (tmp_path / "c.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("m.onnx", "give --images DIR or VIDEO, or --scenes N"),
        ("m.onnx --limit 3", "give --images DIR or VIDEO, or --scenes N"),
        ("m.onnx --images . --import t", "with --import does not take --images"),
        ("m.onnx --import t --method mse", "with --import does not take --method"),
        ("m.onnx --images . --tensorrt 10.3.0", "does not take --tensorrt"),
        ("m.onnx --export trt", "m.onnx is no calibration cache (.json)"),
        ("c.json", "a cache needs --method or --export"),
        ("c.json --method mse --images .", "c.json with --method does not take --images"),
        ("c.json --export trt --method mse", "with --export does not take --method"),
        ("c.json --export dla", "'dla' is neither trt nor deepstream"),
        ("m.onnx --images . --method kl", "'kl' is none of entropy, minmax, percentile, mse"),
    ],
)
def test_options_that_do_not_go_together_are_wrong_usage(cli, tmp_path, arguments, message):
    done = cli("calibrate", *arguments.split(), "--out", tmp_path / "out.json")
    assert done.status == 2
    assert message in done.sentence
    assert not (tmp_path / "out.json").exists()


def test_folder_of_the_result_is_checked_before_the_work(cli, tiny_network, folder, tmp_path):
    out = tmp_path / "gone" / "c.json"
    done = cli("calibrate", tiny_network, "--images", folder, "--out", out)
    assert done.status == 1
    assert "cannot be written: No such file or directory" in done.sentence


def test_odd_date_is_refused(cli, tiny_network, folder, tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "today")
    done = cli("calibrate", tiny_network, "--images", folder, "--out", tmp_path / "c.json")
    assert done.status == 1
    assert "SOURCE_DATE_EPOCH is 'today', but it must be seconds since 1970" in done.sentence


EAGER = """
import fcn_trt.calibration.calibrate as module
from fcn_trt.cli.app import main
module.calibrate.__kwdefaults__["save_every_s"] = 0  # so that the test need not wait for a state
main()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="sends a POSIX signal")
def test_ctrl_c_leaves_a_state_and_the_next_run_goes_on(
    cli, tiny_network, folder, user_cache, tmp_path
):
    out = tmp_path / "c.json"
    command = ["calibrate", tiny_network, *(["--images", folder] * 50), "--out", out]
    states = user_cache / "fcn_trt" / "calibration"
    arguments = [sys.executable, "-c", EAGER, *map(str, command)]
    process = subprocess.Popen(
        arguments,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that runs its jobs in the background has them ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.perf_counter() + 60
    while not list(states.glob("[!.]*.state")) and time.perf_counter() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert re.search(r"stopped after \d+ of 200 images; the same .* goes on after them\n", err)
    assert err.endswith("interrupted\n")
    assert list(tmp_path.iterdir()) == []
    assert len(list(states.glob("*.state"))) == 1
    done = cli(*command)
    assert done.status == 0
    assert ":: resumed after " in done.err
    assert list(states.glob("*.state")) == []
    assert read_calibration(out).images == 200
