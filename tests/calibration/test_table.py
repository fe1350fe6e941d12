"""TensorRT's calibration cache: real lines, every byte, and what is refused."""

from __future__ import annotations

import logging
import math
import random
import struct
from pathlib import Path

import numpy as np
import pytest

from fcn_trt.calibration.table import (
    CalibrationTable,
    format_table,
    parse_table,
    read_table,
    require_names,
    table_of,
)
from fcn_trt.errors import CalibrationError

PATH = Path("calib.table")
HEADER = "TRT-100300-EntropyCalibration2\n"


def bits(number: int) -> float:
    """The float32 of 32 bits."""
    return float(struct.unpack(">f", struct.pack(">I", number))[0])


def test_file_of_tensorrt_10_is_read_and_written_byte_by_byte():
    # 3c010204 is 1/127 as float32, which a sigmoid's output has; 3c810204 is twice that.
    text = HEADER + "image: 3c010204\nbackbone.stem.0: 3c810204\n"
    table = parse_table(text, PATH)
    assert (table.version, table.algorithm) == ("10.3.0", "EntropyCalibration2")
    assert table.scales["image"] == float(np.float32(1 / 127))
    assert table.amaxes == pytest.approx({"image": 1, "backbone.stem.0": 2}, rel=1e-7)
    assert format_table(table) == text
    assert format_table(table_of({"image": 1.0, "backbone.stem.0": 2.0}, "10.3.0")) == text


@pytest.mark.parametrize(
    ("header", "version"),
    [
        ("TRT-7103-EntropyCalibration2", "7.1.3"),
        ("TRT-8205-EntropyCalibration2", "8.2.5"),
        ("TRT-8502-MinMaxCalibration", "8.5.2"),
        ("TRT-8600-LegacyCalibration", "8.6.0"),
        ("TRT-100300-EntropyCalibration2", "10.3.0"),
        ("TRT-101602-MinMaxCalibration", "10.16.2"),
    ],
)
def test_release_and_calibrator_stand_in_the_first_line(header, version):
    text = f"{header}\na: 3f800000\n"
    table = parse_table(text, PATH)
    assert table.version == version
    assert header.endswith(table.algorithm)
    assert format_table(table) == text


def test_other_programs_leave_out_zeros_and_end_lines_as_windows_does():
    text = "TRT-8502-EntropyCalibration2\r\na: 1\r\nb: 3F800000\r\n\r\nc: 800000"
    table = parse_table(text, PATH)
    assert table.scales == {"a": bits(1), "b": 1.0, "c": bits(0x800000)}
    assert format_table(table).splitlines() == [
        "TRT-8502-EntropyCalibration2", "a: 00000001", "b: 3f800000", "c: 00800000",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [
        "input_1:0",
        "(Unnamed Layer* 22) [Constant]_output",
        "a: b",
        ": ",
        "a: 3f800000",
        " leading",
        "trailing ",
        "é\u2028\x0b\x1c\x85名",
        "x" * 5000,
    ],
)
def test_names_come_back_as_they_were(name, tmp_path):
    path = tmp_path / "t"
    table = CalibrationTable(version="8.5.2", algorithm="MinMaxCalibration", scales={name: 0.5})
    path.write_bytes(format_table(table).encode())
    assert read_table(path) == table


def test_any_names_and_scales_survive_the_round_trip():
    rng = random.Random(0)
    letters = ": []()*/._-aZ09\t'\"\\%é\u2028\x0c"
    for _ in range(200):
        scales: dict[str, float] = {}
        while len(scales) < 20:
            name = "".join(rng.choices(letters, k=rng.randint(1, 12)))
            scales[name] = bits(rng.randint(1, 0x7F7FFFFF))  # every positive finite float32
        table = CalibrationTable(version="10.3.0", algorithm="EntropyCalibration2", scales=scales)
        text = format_table(table)
        read = parse_table(text, PATH)
        assert read == table
        assert list(read.scales) == list(scales)
        assert format_table(read) == text
        again = table_of(read.amaxes, "10.3.0")
        assert format_table(again) == text


def test_scales_of_zero_are_left_out_with_a_warning(caplog):
    text = HEADER + "a: 00000000\nb: 3f800000\nc: 80000000\n"
    with caplog.at_level(logging.WARNING):
        assert parse_table(text, PATH).scales == {"b": 1.0}
    assert caplog.messages == [
        "calib.table: 2 tensors have scale 0 and are left out, the first is 'a'"
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"it begins with '' instead of TRT-VERSION-CALIBRATOR"),
        ("1: 3f800000\n", "begins with '1: 3f800000'"),
        ("TRT-8XXX-EntropyCalibration2\na: 3f800000\n", "begins with 'TRT-8XXX-"),
        ("TRT-100300-Entropy\na: 3f800000\n", "begins with 'TRT-100300-Entropy'"),
        ("TRT-110000-EntropyCalibration2\na: 3f800000\n", r"'11\.0\.0' reads no calibration"),
        ("TRT-4000-EntropyCalibration2\na: 3f800000\n", r"'4\.0\.0' reads no calibration"),
        ("TRT-12345-EntropyCalibration2\na: 3f800000\n", r"'12\.3\.45' reads no calibration"),
        ("TRT-08502-EntropyCalibration2\na: 3f800000\n", "begins with 'TRT-08502-"),
        (HEADER, "names no tensor with a scale"),
        (HEADER + "a: 0\n", "names no tensor with a scale"),
        (HEADER + "a: bf800000\n", r"line 2 gives 'a' the scale -1\.0"),
        (HEADER + "a: 7f800000\n", "line 2 gives 'a' the scale inf"),
        (HEADER + "a: 7fc00000\n", "line 2 gives 'a' the scale nan"),
        (HEADER + "a: 3f800000\nb: 3f800000\na: 3f800000\n", "line 4 names 'a' a second time"),
        (HEADER + "a: 0\na: 3f800000\n", "line 3 names 'a' a second time"),
        (HEADER + "a 3f800000\n", "line 2 is 'a 3f800000' instead of NAME: SCALE"),
        (HEADER + "a:3f800000\n", "line 2 is 'a:3f800000' instead of"),
        (HEADER + ": 3f800000\n", "line 2 is ': 3f800000' instead of"),
        (HEADER + "a: 3f80000g\n", "line 2 has '3f80000g' instead of 8 hex"),
        (HEADER + "a: 0x3f80\n", "line 2 has '0x3f80' instead of 8 hex"),
        (HEADER + "a: 3f8_0000\n", "line 2 has '3f8_0000' instead of 8 hex"),
        (HEADER + "a: 03f800000\n", "line 2 has '03f800000' instead of 8 hex"),
        (HEADER + "a: \uff13f800000\n", "instead of 8 hexadecimal digits"),
        (HEADER + "a: \n", "line 2 has '' instead of 8 hex"),
        (HEADER + "x" * 100 + "\n", "line 2 is 'xxxxx"),
    ],
)
def test_what_is_no_calibration_cache_is_refused(text, message):
    with pytest.raises(CalibrationError, match=message) as caught:
        parse_table(text, PATH)
    assert str(caught.value).startswith("calib.table is no calibration cache of TensorRT: ")
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_one_are_refused_unread(tmp_path):
    path = tmp_path / "t"
    with pytest.raises(CalibrationError, match="cannot be read: No such file"):
        read_table(path)
    path.write_bytes(HEADER.encode() + b"\xff: 3f800000\n")
    with pytest.raises(CalibrationError, match="no UTF-8 text"):
        read_table(path)
    with path.open("wb") as file:
        file.truncate(8 * 1024 * 1024 + 1)
    with pytest.raises(CalibrationError, match="at most 8388608 bytes are read, and it h"):
        read_table(path)


@pytest.mark.parametrize("name", ["", "a\nb", "a\rb"])
def test_name_that_no_line_can_hold_is_refused(name):
    with pytest.raises(CalibrationError, match="cannot be written into a calibration cache"):
        table_of({name: 1.0}, "10.3.0")


@pytest.mark.parametrize("amax", [0.0, -1.0, math.nan, math.inf, 1e-46, 1e300])
def test_magnitude_without_a_scale_is_refused(amax):
    with pytest.raises(CalibrationError, match="'a' has scale"):
        table_of({"a": amax}, "10.3.0")


def test_scale_that_is_no_float32_is_refused():
    with pytest.raises(CalibrationError, match="positive, finite float32"):
        CalibrationTable(version="10.3.0", algorithm="EntropyCalibration2", scales={"a": 0.1})


@pytest.mark.parametrize("version", ["11.0.0", "4.0.0", "10.3", "10.3.0.30", "8.10.0", "", "x"])
def test_release_that_reads_no_such_file_is_refused(version):
    with pytest.raises(CalibrationError, match="reads no calibration cache"):
        table_of({"a": 1.0}, version)


def test_unknown_calibrator_is_refused():
    with pytest.raises(CalibrationError, match="'Magic' is none of EntropyCalibration2, MinMax"):
        table_of({"a": 1.0}, "10.3.0", "Magic")  # type: ignore[arg-type]  # on purpose


def test_table_of_another_network_is_refused_with_the_nearest_name():
    table = table_of(
        {
            "image": 1.0,
            "layer1.conv1": 1.0,
            "other": 1.0,
            "(Unnamed Layer* 3) [Constant]_output": 1,
        },
        "10.3.0",
    )
    require_names(table, ["image", "layer1.conv1", "other", "unused"], PATH)
    with pytest.raises(CalibrationError) as caught:
        require_names(table, ["image", "layer1.conv2"], PATH)
    assert str(caught.value) == (
        "calib.table was made for another network: 2 of its 4 tensors are not in this one, the "
        "first is 'layer1.conv1' (near it is 'layer1.conv2'); calibrate this network, or give the "
        "ONNX file that the table was made for"
    )
    with pytest.raises(CalibrationError, match="the first is 'image'; calibrate"):
        require_names(table, ["?"], PATH)
