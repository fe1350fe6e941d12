import datetime as dt
import json
import resource
import shutil
from dataclasses import replace

import pytest

from fcn_trt import __version__
from fcn_trt.engine.bundle import (
    LAYERS_NAME,
    NETWORK_NAME,
    PLAN_NAME,
    Compiled,
    load_bundle,
    write_bundle,
)
from fcn_trt.engine.manifest import MANIFEST_NAME, FileRecord, Proof
from fcn_trt.engine.options import BuildOptions
from fcn_trt.errors import BundleError, OutputError
from fcn_trt.spec import read_spec
from tests.plans import as_network

PROOF = Proof(source="engine", convolutions={"fp32": 26}, gmac={"fp32": 0.01})
COMPILED = Compiled(
    target="openvino",
    target_version="2026.4.1",
    device="A CPU",
    compute_capabilities=(),
    precision_proven=PROOF,
    scratch_bytes=None,
    plan=None,
)


@pytest.fixture
def write(tiny_network):
    """Write the tiny network as a bundle of that name."""
    return lambda path, compiled=COMPILED: write_bundle(
        path,
        network=as_network(tiny_network),
        data=tiny_network.read_bytes(),
        compiled=compiled,
        options=BuildOptions(),
    )


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_bundle_is_the_network_and_its_manifest(write, tmp_path, tiny_network):
    bundle = write(tmp_path / "deep" / "tiny")
    assert names(bundle.path) == [MANIFEST_NAME, NETWORK_NAME]
    assert names(bundle.path.parent) == ["tiny"]
    assert bundle.network.read_bytes() == tiny_network.read_bytes()


def test_plan_and_layer_report_travel_with_it_and_are_checked(write, tmp_path):
    bundle = write(tmp_path / "tiny", replace(COMPILED, plan=b"plan", layers='{"Layers": []}'))
    assert names(bundle.path) == [PLAN_NAME, LAYERS_NAME, MANIFEST_NAME, NETWORK_NAME]
    assert bundle.read(PLAN_NAME) == b"plan"
    (bundle.path / LAYERS_NAME).write_text("{}")
    with pytest.raises(BundleError, match=r"layers\.json was altered"):
        load_bundle(bundle.path)
    write(tmp_path / "tiny")  # may be replaced, and nothing of it stays
    assert names(bundle.path) == [MANIFEST_NAME, NETWORK_NAME]


def test_bundle_without_a_plan_says_so(write, tmp_path):
    with pytest.raises(BundleError, match=r"tiny carries no engine\.plan; build the bundle again"):
        write(tmp_path / "tiny").read(PLAN_NAME)


@pytest.mark.parametrize("swapped", [b"nalp", b"plan and more", b""])
def test_what_is_swapped_after_the_check_is_not_what_runs(write, tmp_path, swapped):
    kernels = {"8.7": {"decode.cubin": b"plan"}}
    write(tmp_path / "tiny", replace(COMPILED, plan=b"plan", kernels=kernels))
    bundle = load_bundle(tmp_path / "tiny")
    for name, read in (
        (PLAN_NAME, lambda: bundle.read(PLAN_NAME)),
        ("decode-8.7.cubin", lambda: bundle.kernels("8.7")),
    ):
        read()
        (bundle.path / name).unlink()
        (bundle.path / name).write_bytes(swapped)
        with pytest.raises(BundleError, match=rf"{name} was altered: it has SHA-256 .*; copy or b"):
            read()


def test_manifest_says_what_was_built_from_what_and_when(write, tmp_path, tiny_network):
    manifest = write(tmp_path / "tiny").manifest
    assert manifest.spec == read_spec(tiny_network)
    assert manifest.built_by == f"fcn_trt {__version__}"
    assert (manifest.precision_asked, manifest.precision_proven) == ("fp32", PROOF)
    assert manifest.files == {NETWORK_NAME: FileRecord.of(tiny_network)}
    age = dt.datetime.now(dt.timezone.utc) - dt.datetime.fromisoformat(manifest.created)
    assert dt.timedelta(seconds=-1) < age < dt.timedelta(seconds=60)


def test_bundle_loads_as_it_was_written(write, tmp_path):
    written = write(tmp_path / "tiny")
    assert load_bundle(tmp_path / "tiny") == written


def test_bundle_may_be_moved(write, tmp_path):
    written = write(tmp_path / "here")
    shutil.move(tmp_path / "here", tmp_path / "there")
    assert load_bundle(tmp_path / "there").manifest == written.manifest


@pytest.mark.parametrize("at", [0, 1000, -1])
def test_bundle_with_one_byte_changed_is_refused(write, tmp_path, at):
    network = write(tmp_path / "tiny").network.path
    data = bytearray(network.read_bytes())
    data[at] ^= 1
    network.write_bytes(data)
    with pytest.raises(BundleError, match=r"network\.onnx was altered"):
        load_bundle(tmp_path / "tiny")


def test_existing_bundle_is_replaced_whole(write, tmp_path):
    write(tmp_path / "tiny")
    (tmp_path / "tiny" / NETWORK_NAME).write_text("of an older version")
    write(tmp_path / "tiny")
    assert names(tmp_path / "tiny") == [MANIFEST_NAME, NETWORK_NAME]
    assert names(tmp_path) == ["tiny"]


@pytest.mark.parametrize("manifest", ['{"format": 99}', "damaged"])
def test_bundle_of_another_format_or_damaged_can_be_built_again(write, tmp_path, manifest):
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / MANIFEST_NAME).write_text(manifest)
    write(tmp_path / "tiny")
    load_bundle(tmp_path / "tiny")


def test_empty_folder_becomes_a_bundle(write, tmp_path):
    (tmp_path / "tiny").mkdir()
    write(tmp_path / "tiny")
    load_bundle(tmp_path / "tiny")


@pytest.mark.parametrize("also", ["two.jpg", MANIFEST_NAME])
def test_folder_that_is_no_bundle_is_refused_and_left_alone(write, tmp_path, also):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / also).write_text("{}")
    (tmp_path / "photos" / "one.jpg").write_text("mine")
    with pytest.raises(BundleError, match=r"photos holds files that are no bundle's, such as"):
        write(tmp_path / "photos")
    (tmp_path / "photos" / also).unlink()
    assert (tmp_path / "photos" / "one.jpg").read_text() == "mine"
    assert names(tmp_path) == ["photos"]


def test_file_of_that_name_is_refused_and_left_alone(write, tmp_path):
    (tmp_path / "tiny").write_text("mine")
    with pytest.raises(OutputError, match="tiny is a file; give the name of a folder"):
        write(tmp_path / "tiny")
    assert (tmp_path / "tiny").read_text() == "mine"


@pytest.mark.parametrize("existing", [False, True])
def test_failing_write_leaves_what_was_there(write, tmp_path, tiny_network, existing):
    before = write(tmp_path / "tiny") if existing else None
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))  # as if the disk were full
    try:
        with pytest.raises(OutputError, match="tiny cannot be written: File too large"):
            write(tmp_path / "tiny")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert names(tmp_path) == (["tiny"] if existing else [])
    if existing:
        assert load_bundle(tmp_path / "tiny") == before


def test_bundle_can_be_rebuilt_from_its_own_network(write, tmp_path):
    first = write(tmp_path / "tiny")
    again = write_bundle(
        first.path,
        network=first.network,
        data=first.network.read_bytes(),
        compiled=COMPILED,
        options=BuildOptions(),
    )
    assert load_bundle(first.path) == again


def test_manifest_on_disk_is_plain_json(write, tmp_path):
    write(tmp_path / "tiny")
    content = json.loads((tmp_path / "tiny" / MANIFEST_NAME).read_text(encoding="utf-8"))
    assert content["spec"]["input_size"] == [64, 96]


def test_network_that_the_manifest_does_not_record_is_not_used(write, tmp_path):
    bundle = write(tmp_path / "tiny")
    manifest = replace(bundle.manifest, files={})
    (bundle.path / MANIFEST_NAME).write_text(manifest.to_json(), encoding="utf-8")
    loaded = load_bundle(bundle.path)
    with pytest.raises(BundleError, match=r"tiny carries no network\.onnx; build the bundle"):
        _ = loaded.network
