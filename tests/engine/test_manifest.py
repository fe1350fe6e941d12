import hashlib
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from fcn_trt.engine.manifest import (
    FORMAT,
    MANIFEST_NAME,
    FileRecord,
    Manifest,
    Proof,
    check_files,
    read_manifest,
)
from fcn_trt.engine.options import BuildOptions
from fcn_trt.errors import BundleError
from fcn_trt.spec import ShapeRange, Spec

SPEC = Spec(
    model="fcn_r18-d8",
    family="mmsegmentation",
    weights="random (seed 0)",
    labels="custom",
    classes=("Straße", "sky"),
    palette=("#000000", "#ff8001"),
    mean=(123.675, 116.28, 103.53),
    std=(58.395, 57.12, 57.375),
    input_size=(64, 96),
    batch=1,
    stride=8,
    align_corners=False,
    precision="fp32",
    logits_type="float32",
    source_sha256="",
    licence="",
)
MANIFEST = Manifest(
    format=FORMAT,
    created="2026-01-31T12:00:00+00:00",
    built_by="fcn_trt 0.1.0",
    spec=SPEC,
    target="openvino",
    target_version="2026.4.1",
    device="A CPU",
    compute_capabilities=(),
    options=BuildOptions(),
    precision_asked="fp32",
    precision_proven=Proof(source="engine", convolutions={"fp32": 26}, gmac={"fp32": 0.5}),
    scratch_bytes=None,
    calibration_sha256=None,
    inputs_sha256="",
    kernels_sha256="",
    checks=(),
    files={
        "network.onnx": FileRecord(
            size_bytes=3,
            sha256="ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        )
    },
)
GOLDEN = """{
  "format": 4,
  "created": "2026-01-31T12:00:00+00:00",
  "built_by": "fcn_trt 0.1.0",
  "spec": {
    "model": "fcn_r18-d8",
    "family": "mmsegmentation",
    "weights": "random (seed 0)",
    "labels": "custom",
    "classes": [
      "Straße",
      "sky"
    ],
    "palette": [
      "#000000",
      "#ff8001"
    ],
    "mean": [
      123.675,
      116.28,
      103.53
    ],
    "std": [
      58.395,
      57.12,
      57.375
    ],
    "input_size": [
      64,
      96
    ],
    "batch": 1,
    "stride": 8,
    "align_corners": false,
    "precision": "fp32",
    "logits_type": "float32",
    "source_sha256": "",
    "licence": "",
    "dynamic": null,
    "exceptions": {},
    "float_precision": null,
    "calibration_sha256": "",
    "ignore": null,
    "checks": []
  },
  "target": "openvino",
  "target_version": "2026.4.1",
  "device": "A CPU",
  "compute_capabilities": [],
  "options": {
    "compute_capabilities": [],
    "workspace_bytes": null,
    "tactic_bytes": null,
    "optimization_level": 3,
    "version_compatible": false,
    "hardware_compatibility": "none",
    "strip": false,
    "timing_cache": true
  },
  "precision_asked": "fp32",
  "precision_proven": {
    "source": "engine",
    "convolutions": {
      "fp32": 26
    },
    "gmac": {
      "fp32": 0.5
    }
  },
  "scratch_bytes": null,
  "calibration_sha256": null,
  "inputs_sha256": "",
  "files": {
    "network.onnx": {
      "size_bytes": 3,
      "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    }
  },
  "kernels_sha256": "",
  "checks": [],
  "sha256": "adffa51a82a0132399aa84feb7d965397707f49e0a44f67ad2ccfacc8b7b1bcd"
}
"""


@pytest.fixture
def bundle(tmp_path):
    """The folder that `GOLDEN` describes."""
    (tmp_path / MANIFEST_NAME).write_bytes(GOLDEN.encode())
    (tmp_path / "network.onnx").write_bytes(b"abc")
    return tmp_path


def edited(bundle, edit):
    """Change the JSON object in place, and its hash with it."""
    content = json.loads(GOLDEN)
    del content["sha256"]
    edit(content)
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
    content["sha256"] = hashlib.sha256(canonical).hexdigest()
    (bundle / MANIFEST_NAME).write_text(json.dumps(content), encoding="utf-8")


def test_manifest_stands_on_disk_byte_for_byte_like_this():
    assert MANIFEST.to_json() == GOLDEN


def test_manifest_comes_back_as_it_was_written(bundle):
    assert read_manifest(bundle) == MANIFEST
    check_files(bundle, MANIFEST)


def test_every_optional_value_comes_back(bundle):
    full = replace(
        MANIFEST,
        target="tensorrt",
        compute_capabilities=("8.7", "8.9"),
        options=BuildOptions(
            compute_capabilities=("8.7",),
            workspace_bytes=1 << 30,
            tactic_bytes=1 << 29,
            hardware_compatibility="ampere_plus",
        ),
        calibration_sha256="00" * 32,
        inputs_sha256="11" * 32,
        scratch_bytes=4096,
        precision_proven=Proof(
            source="network",
            convolutions={"int8": 24, "fp16": 2},
            gmac={"int8": 7.25, "fp16": 0.125},
        ),
        spec=replace(
            SPEC,
            dynamic=ShapeRange(min_size=(32, 32), max_size=(128, 128), min_batch=1, max_batch=4),
            exceptions={"decode_head.conv_seg": "fp32"},
        ),
    )
    (bundle / MANIFEST_NAME).write_text(full.to_json(), encoding="utf-8")
    assert read_manifest(bundle) == full


def test_manifest_with_one_byte_changed_is_refused_wherever_it_matters(bundle):
    data = GOLDEN.encode()
    whole = json.loads(data)
    for at in range(len(data)):
        changed = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        (bundle / MANIFEST_NAME).write_bytes(changed)
        try:
            same = json.loads(changed) == whole
        except ValueError:
            same = False
        if not same:
            with pytest.raises(BundleError):
                read_manifest(bundle)


class TestManifestIsRefused:
    def test_when_there_is_none(self, tmp_path):
        message = r"no bundle: manifest\.json cannot be read \(No such file or directory\); build"
        with pytest.raises(BundleError, match=message):
            read_manifest(tmp_path)

    def test_when_the_bundle_is_a_file(self, bundle):
        with pytest.raises(BundleError, match=r"network\.onnx is no bundle: .*Not a directory"):
            read_manifest(bundle / "network.onnx")

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"\xff\xfe\x00",
            b"not json",
            b"[1]",
            b"null",
            GOLDEN.encode()[:-3],
            b"[" * 100_000,
            b'{"format": ' * 90_000,
            GOLDEN.replace('"batch": 1', '"batch": NaN').encode(),
            GOLDEN.replace('"batch": 1', '"batch": 1e999').encode(),
            GOLDEN.replace('"batch": 1', f'"batch": {2**63}').encode(),
            GOLDEN.replace('"batch": 1', f'"batch": {"1" * 5000}').encode(),
        ],
        ids=[
            *("empty", "binary", "text", "list", "null", "truncated", "nested", "tables", "nan"),
            *("infinite", "64 bits", "long number"),
        ],
    )
    def test_when_it_is_no_json_object(self, bundle, data):
        (bundle / MANIFEST_NAME).write_bytes(data)
        message = r"manifest\.json is damaged: it is no JSON object; build the bundle again"
        with pytest.raises(BundleError, match=message):
            read_manifest(bundle)

    def test_when_it_is_too_large(self, bundle):
        (bundle / MANIFEST_NAME).write_bytes(GOLDEN.encode() + b" " * (1 << 20))
        with pytest.raises(BundleError, match="at most 1048576 bytes are read, and it has 10"):
            read_manifest(bundle)

    def test_when_its_format_is_long(self, bundle):
        edited(bundle, lambda content: content.update(format=["x" * 100_000] * 5))
        with pytest.raises(BundleError) as refusal:
            read_manifest(bundle)
        assert len(str(refusal.value)) < 400

    @pytest.mark.parametrize(
        "created",
        ["2026-01-31", "2026-01-31T12:00:00", "yesterday", "", "9" * 90_000, "0000-01-01T00:00Z"],
    )
    def test_when_it_was_created_at_no_instant(self, bundle, created):
        edited(bundle, lambda content: content.update(created=created))
        with pytest.raises(BundleError, match=r"created '.* is no instant of ISO 8601") as refusal:
            read_manifest(bundle)
        assert len(str(refusal.value)) < 400

    @pytest.mark.parametrize("found", [1, 3, "4", None, [4]])
    def test_when_it_has_another_format(self, bundle, found):
        edited(bundle, lambda content: content.update(format=found))
        with pytest.raises(BundleError) as refusal:
            read_manifest(bundle)
        assert f"has format {found!r}, but this version reads format 4" in str(refusal.value)

    def test_when_another_format_has_other_keys(self, bundle):
        (bundle / MANIFEST_NAME).write_text('{"format": 5, "engine": {}}')
        with pytest.raises(BundleError, match="has format 5, but this version reads format 4"):
            read_manifest(bundle)

    @pytest.mark.parametrize(
        "key", [key for key in json.loads(GOLDEN) if key not in ("format", "sha256")]
    )
    def test_when_a_key_is_missing(self, bundle, key):
        edited(bundle, lambda content: content.pop(key))
        with pytest.raises(BundleError, match=rf"not valid at {key}: .*; build the bundle again"):
            read_manifest(bundle)

    @pytest.mark.parametrize(
        ("edit", "where"),
        [
            (lambda content: content.update(engine="x"), "engine"),
            (lambda content: content["spec"].update(engine="x"), r"spec\.engine"),
            (lambda content: content["spec"].pop("stride"), r"spec\.stride"),
            (
                lambda content: content["files"]["network.onnx"].update(mode=1),
                r"files\.network\.onnx\.mode",
            ),
        ],
        ids=["extra", "extra in spec", "missing in spec", "extra in a file's record"],
    )
    def test_when_its_parts_have_other_keys(self, bundle, edit, where):
        edited(bundle, edit)
        with pytest.raises(BundleError, match=rf"not valid at {where}: "):
            read_manifest(bundle)

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("scratch_bytes", True),
            ("created", 1),
            ("spec", []),
            ("target", "onnxruntime"),
            ("compute_capabilities", 8.7),
            ("precision_asked", "tf32"),
            ("precision_proven", {"fp32": 26}),
            ("files", {"network.onnx": "ba78"}),
        ],
    )
    def test_when_a_value_has_another_type(self, bundle, key, value):
        edited(bundle, lambda content: content.update({key: value}))
        with pytest.raises(BundleError, match=rf"not valid at {key}"):
            read_manifest(bundle)

    @pytest.mark.parametrize(
        ("key", "value", "reason"),
        [
            ("batch", 0, "at least 1"),
            ("batch", "1", "valid integer"),
            ("input_size", [64], "."),
            ("std", [58.395, 0.0, 57.375], "must be positive"),
            ("palette", ["#000000"], "2 classes but 1 colours"),
            ("align_corners", 0, "valid boolean"),
        ],
    )
    def test_when_its_spec_is_not_sound(self, bundle, key, value, reason):
        edited(bundle, lambda content: content["spec"].update({key: value}))
        with pytest.raises(BundleError, match=rf"not valid at spec.*: .*{reason}"):
            read_manifest(bundle)

    @pytest.mark.parametrize(
        "name", ["../network.onnx", "/etc/passwd", "a/b", "a\\b", "", ".", "..", MANIFEST_NAME]
    )
    def test_when_a_file_name_leads_elsewhere(self, bundle, name):
        record = json.loads(GOLDEN)["files"]["network.onnx"]
        edited(bundle, lambda content: content.update(files={name: record}))
        with pytest.raises(BundleError) as refusal:
            read_manifest(bundle)
        assert f"file name {name!r} is not a plain name" in str(refusal.value)


class TestFilesAreRefused:
    def test_when_one_byte_changed(self, bundle):
        (bundle / "network.onnx").write_bytes(b"abd")
        message = (
            r"network\.onnx was altered: it has SHA-256 a52d159f262b\.\.\., but the manifest says "
            r"ba7816bf8f01\.\.\.; copy or build the bundle again"
        )
        with pytest.raises(BundleError, match=message):
            check_files(bundle, MANIFEST)

    def test_when_one_is_truncated(self, bundle):
        (bundle / "network.onnx").write_bytes(b"ab")
        with pytest.raises(BundleError, match=r"it has 2 bytes, but the manifest says 3 bytes"):
            check_files(bundle, MANIFEST)

    def test_when_one_is_missing(self, bundle):
        (bundle / "network.onnx").unlink()
        message = r"network\.onnx cannot be read \(No such file or directory\); build"
        with pytest.raises(BundleError, match=message):
            check_files(bundle, MANIFEST)

    def test_when_one_is_a_folder(self, bundle):
        (bundle / "network.onnx").unlink()
        (bundle / "network.onnx").mkdir()
        with pytest.raises(BundleError, match=r"network\.onnx cannot be read \(it is a folder "):
            check_files(bundle, MANIFEST)

    @pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")
    def test_when_one_is_a_pipe_or_a_device(self, bundle):
        for make in (os.mkfifo, lambda path: path.symlink_to("/dev/zero")):
            for name, read in (
                ("network.onnx", lambda: check_files(bundle, MANIFEST)),
                (MANIFEST_NAME, lambda: read_manifest(bundle)),
            ):
                (bundle / name).unlink()
                make(bundle / name)
                with pytest.raises(BundleError, match=rf"{name} cannot be read \("):
                    read()

    def test_when_one_is_large_and_sparse(self, bundle):
        for name in ("network.onnx", "other"):
            with (bundle / name).open("wb") as file:
                file.truncate(60_000_000_000)
        record = FileRecord(size_bytes=60_000_000_000, sha256="0" * 64)
        lying = replace(MANIFEST, files={**MANIFEST.files, "other": record})
        with pytest.raises(BundleError, match=r"it has 60000000000 bytes, but the manifest says 3"):
            check_files(bundle, lying)
        with pytest.raises(BundleError, match=r"at most \d+ bytes are read.*--max-bytes raises"):
            check_files(bundle, replace(MANIFEST, files={"other": record}))

    @pytest.mark.parametrize("name", ["network.onnx", MANIFEST_NAME])
    def test_when_one_is_a_link_that_leads_out(self, bundle, name, tmp_path_factory):
        outside = tmp_path_factory.mktemp("outside") / name
        (bundle / name).rename(outside)
        (bundle / name).symlink_to(outside)
        for to in (outside, Path(name), Path("..") / bundle.name / ".." / outside.parent.name):
            (bundle / name).unlink()
            (bundle / name).symlink_to(to)
            with pytest.raises(BundleError, match=rf"{name} cannot be read"):
                check_files(bundle, read_manifest(bundle))


def test_a_link_inside_a_bundle_and_one_to_a_bundle_are_followed(bundle, tmp_path_factory):
    (bundle / "network.onnx").rename(bundle / "network-2.onnx")
    (bundle / "network.onnx").symlink_to("network-2.onnx")
    link = tmp_path_factory.mktemp("links") / "latest"
    link.symlink_to(bundle)
    check_files(link, read_manifest(link))


def test_messages_are_one_line(bundle):
    edited(bundle, lambda content: content["spec"].update(batch=0))
    with pytest.raises(BundleError) as refusal:
        read_manifest(bundle)
    assert "\n" not in str(refusal.value)
    assert str(bundle / MANIFEST_NAME) in str(refusal.value)
