"""Every step is held against the source; one that labels otherwise is refused there and then."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

from fcn_trt.engine.bundle import load_bundle
from fcn_trt.engine.manifest import FileRecord
from fcn_trt.engine.options import BuildOptions
from fcn_trt.errors import AgreementError
from fcn_trt.network import to_onnx as exporter
from fcn_trt.network.contract import initializer
from fcn_trt.pipeline.plan import Checking, Compile, Export, Plan, Type
from fcn_trt.pipeline.run import rebuild, run
from fcn_trt.precision import type_network as typing_step
from fcn_trt.runtime.segmenter import Segmenter
from fcn_trt.scene.scene import StreetScene
from fcn_trt.spec import Check
from tests.plans import as_network

SIZE = (128, 256)
DEMO = "fcn_trt/demo/weights.safetensors"
CACHE = "calibration/demo.json"


@pytest.fixture(scope="module")
def street(tmp_path_factory):
    """A folder of frames such as the demo's network was trained for, as its user has them."""
    folder = tmp_path_factory.mktemp("checks") / "street"
    folder.mkdir()
    for seed in range(4):
        cv2.imwrite(str(folder / f"{seed}.png"), StreetScene(20_000 + seed).render(5, SIZE)[0])
    return folder


@pytest.fixture(scope="module")
def exported(street, tmp_path_factory):
    """The demo's network with a reference on the user's frames. Read only."""
    out = tmp_path_factory.mktemp("checks") / "demo.onnx"
    return run(Plan(export=Export(model=DEMO, size=SIZE, images=str(street))), out).network


@pytest.fixture(scope="module")
def quantised(exported, tmp_path_factory):
    """It as an INT8 bundle for the CPU. Read only."""
    out = tmp_path_factory.mktemp("checks") / "int8"
    return run(Plan(source=exported, type=int8(), compile=Compile()), out).bundle


def int8(**options):
    return Type(precision="int8", calibration=Path(CACHE), float_precision="fp32", **options)


def test_chain_says_what_was_held_against_what(quantised):
    steps = [(check.step, check.against, check.frames) for check in quantised.manifest.chain]
    assert steps == [("export", "PyTorch", 3), ("type", "PyTorch", 3), ("build", "PyTorch", 3)]
    export, typed, build = quantised.manifest.chain
    assert export.agreement == 1.0
    assert 0.95 <= typed.agreement < 1.0
    assert build.agreement == pytest.approx(typed.agreement, abs=0.01)
    assert {check.kind for check in (export, typed, build)} == {"frames of street"}
    assert [check.floor for check in (export, typed, build)] == [0.9995, 0.95, 0.95]


class TestBroken:
    """A step that is broken on purpose."""

    def test_export_with_another_mean(self, street, tmp_path, monkeypatch):
        true_spec = exporter.model_spec

        def wrong(*arguments, **options):
            return replace(true_spec(*arguments, **options), mean=(0.0,) * 3, std=(255.0,) * 3)

        monkeypatch.setattr(exporter, "model_spec", wrong)
        self.refused(street, tmp_path, r"export: \d+\.\d+ % as PyTorch on 3 frames \(frames of str")

    def test_export_with_swapped_channels(self, street, tmp_path, monkeypatch):
        true_constant = initializer

        def swapped(name, values):
            return true_constant(name, values[:, ::-1] if values.shape[1:2] == (3,) else values)

        monkeypatch.setattr(exporter, "initializer", swapped)
        self.refused(
            street,
            tmp_path,
            r"export: .* most likely the channels stand in the other order, "
            r"with which 100\.0 % would agree",
        )

    def refused(self, street, tmp_path, pattern):
        out = tmp_path / "m.onnx"
        with pytest.raises(AgreementError, match=pattern):
            run(Plan(export=Export(model=DEMO, size=SIZE, images=str(street))), out)
        assert not out.exists()

    def test_scale_that_is_halved(self, exported, tmp_path, monkeypatch):
        true_type = typing_step.type_model

        def halved(*arguments, **options):
            model, spec = true_type(*arguments, **options)
            constants = {tensor.name: tensor for tensor in model.graph.initializer}
            weights = (n.input for n in model.graph.node if n.op_type == "DequantizeLinear")
            scale = constants[next(names[1] for names in weights if names[0] in constants)]
            values = onnx.numpy_helper.to_array(scale)
            scale.CopyFrom(onnx.numpy_helper.from_array(values / 2, scale.name))
            return model, spec

        monkeypatch.setattr(typing_step, "type_model", halved)
        with pytest.raises(
            AgreementError, match=r"type: .* % as PyTorch .*; export it with --imag"
        ):
            run(Plan(source=exported, type=int8()), tmp_path / "q.onnx")
        assert not (tmp_path / "q.onnx").exists()

    def test_weight_of_a_bundle_with_its_hash_mended(self, quantised, tmp_path, cli):
        bundle = tmp_path / "int8"
        bundle.mkdir()
        model = onnx.load(quantised.network.path)
        weight = max(model.graph.initializer, key=lambda t: len(t.raw_data))
        weight.raw_data = weight.raw_data[::-1]
        onnx.save(model, bundle / "network.onnx")
        record = FileRecord.of(bundle / "network.onnx")
        manifest = replace(quantised.manifest, files={"network.onnx": record})
        (bundle / "manifest.json").write_text(manifest.to_json())
        load_bundle(bundle)  # nothing of its hashes tells
        found = cli("inspect", bundle, "--check")
        assert found.status == 1
        assert "does not label as its source: build: " in found.sentence
        with pytest.raises(AgreementError, match="build: "):
            rebuild(load_bundle(bundle))
        assert load_bundle(bundle).manifest == manifest


class TestNotChecked:
    """What was not checked says so, and why."""

    @pytest.mark.parametrize(
        ("options", "reason"),
        [
            ({"checking": Checking(is_on=False)}, "as --no-check asked"),
            ({"model": "fcn_r18-d8", "weights": "random"}, "random weights label nothing"),
        ],
    )
    def test_reason_goes_along(self, tmp_path, options, reason):
        step = Export(**{"model": DEMO, "size": (32, 64), **options})
        plan = Plan(export=step, type=Type(precision="fp32"), compile=Compile())
        chain = run(plan, tmp_path / "b").bundle.manifest.chain
        assert [check.agreement for check in chain] == [None] * 3
        assert all(reason in check.describe() for check in chain)

    def test_network_without_a_reference(self, tiny_network, tmp_path):
        bundle = run(
            Plan(source=as_network(tiny_network), compile=Compile()), tmp_path / "b"
        ).bundle
        (found,) = bundle.manifest.chain
        assert found.describe() == "build: not checked, its ONNX carries no reference"


def test_less_is_taken_where_it_is_accepted(exported, tmp_path, monkeypatch):
    monkeypatch.setattr("fcn_trt.runtime.check.FLOORS", {"int8": 1.0})
    with pytest.raises(AgreementError):
        run(Plan(source=exported, type=int8()), tmp_path / "q.onnx")
    run(Plan(source=exported, type=int8(checking=Checking(accept=0.5))), tmp_path / "q.onnx")


class TestFirstLoad:
    """An engine that could not run where it was built is checked once where it can."""

    @pytest.fixture
    def elsewhere(self, quantised, tmp_path):
        """A bundle as a machine makes it that cannot run it."""
        bundle = tmp_path / "elsewhere"
        bundle.mkdir()
        (bundle / "network.onnx").write_bytes(quantised.network.read_bytes())
        pending = (Check(step="build", state="pending", floor=0.9),)
        manifest = replace(quantised.manifest, checks=pending)
        (bundle / "manifest.json").write_text(manifest.to_json())
        return bundle

    def test_result_is_kept(self, elsewhere, quantised):
        with Segmenter.load(elsewhere) as segmenter:
            found = segmenter.manifest.checks[-1]
        assert (found.step, found.frames) == ("load", 3)
        assert found.agreement == quantised.manifest.checks[-1].agreement
        assert load_bundle(elsewhere).manifest.checks[-1] == found
        before = (elsewhere / "manifest.json").read_bytes()
        with Segmenter.load(elsewhere):
            pass
        assert (elsewhere / "manifest.json").read_bytes() == before

    def test_one_that_labels_otherwise_is_refused(self, elsewhere, monkeypatch):
        monkeypatch.setattr(Segmenter, "segment", lambda _, frame: frame[:, :, 0] % 11)
        with pytest.raises(AgreementError, match=r"load: .*inspect BUNDLE --rebuild"):
            Segmenter.load(elsewhere)


def test_rtx_engine_is_left_to_its_first_load(rtx, exported, tmp_path):
    plan = Plan(
        source=exported,
        type=Type(precision="fp16"),
        compile=Compile(target="tensorrt-rtx", options=BuildOptions(compute_capabilities=("8.6",))),
    )
    chain = run(plan, tmp_path / "rtx").bundle.manifest.chain
    assert [check.step for check in chain] == ["export", "type", "build"]
    assert "its first load checks it" in chain[-1].describe()


def test_inspect_shows_the_chain_and_checks_again(quantised, cli):
    said = cli("inspect", quantised.path, "--check").out
    assert "export: 100.00 % as PyTorch on 3 frames" in said
    assert "now: build: " in said
    found = cli("inspect", quantised.path, "--check", "--json").json
    assert found["check"]["agreement"] == quantised.manifest.checks[-1].agreement
    assert json.dumps(found["manifest"]["checks"])


def test_drawn_frames_are_said_to_be_drawn(tmp_path):
    network = run(Plan(export=Export(model=DEMO, size=SIZE)), tmp_path / "m.onnx").network
    assert network.spec.checks[0].kind == "drawn streets and blurred noise, none of the user's"
    reference = network.reference()
    assert reference is not None
    assert np.mean([len(np.unique(m)) for m in reference.label_maps]) > 3
