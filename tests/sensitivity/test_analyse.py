"""The whole analysis on the tiny network: undisturbed, stopped, and refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fcn_trt.errors import CalibrationError, DatasetError, OnnxError
from fcn_trt.sensitivity.analyse import analyse
from fcn_trt.sensitivity.result import Bound, Question
from fcn_trt.sensitivity.summary import effect_rows, point_rows, verdict
from fcn_trt.spec import ShapeRange

pytest.importorskip("onnx", reason="needs the extra: pip install 'fcn-trt[export]'")

from fcn_trt.network.to_onnx import to_onnx
from fcn_trt.precision.type_network import type_network
from tests.plans import as_network, save

BOUND = 97.6
QUESTION = Question(precision="int8", bound=Bound(min_agreement=BOUND))


@pytest.fixture
def ask(tiny_network, calibration, choice, bars):
    def call(question=QUESTION, *, out=None, **changes: Any):
        inputs = {"network": tiny_network, "calibration": calibration, "choice": choice} | changes
        bar = inputs.pop("bar", None) or bars()
        said: list[str] = []
        found = analyse(question=question, out=out, bar=bar, say=said.append, **inputs)
        return found, bar, said

    return call


def test_every_convolution_is_ranked_by_what_it_gains(analysed):
    found, _ = analysed
    everything = found.points[0]
    assert everything.kept == ()
    assert everything.quantised_share == 100
    assert 90 < everything.score.agreement < BOUND
    gains = [effect.gain for effect in found.effects]
    assert gains == sorted(gains, reverse=True)
    for effect in found.effects:
        gained = effect.score.agreement - everything.score.agreement
        assert effect.gain == pytest.approx(gained)
    assert sum(effect.share for effect in found.effects) == pytest.approx(100)
    assert len({effect.name for effect in found.effects}) == len(found.effects) == 18


def test_smallest_set_holds_and_none_of_it_can_be_dropped(analysed):
    found, out = analysed
    chosen = found.chosen
    assert chosen.score.agreement >= BOUND
    assert len(chosen.kept) > 0
    shares = {effect.name: effect.share for effect in found.effects}
    quantised = 100 - sum(shares[name] for name in chosen.kept)
    assert chosen.quantised_share == pytest.approx(quantised)
    measured = json.loads(out.read_text())["measurements"]
    scores = {  # a set is written by its members, or by those that are missing
        frozenset(m["kept"] if "kept" in m else shares.keys() - m["quantised"]): m["agreement"]
        for m in measured
    }
    for name in chosen.kept:  # it was tried, perhaps while another was kept that went later
        rest = frozenset(chosen.kept) - {name}
        tried = [scores[kept] for kept in scores if kept >= rest and name not in kept]
        assert min(tried) < BOUND
    order = [effect.name for effect in found.effects]
    for point in found.points:
        assert set(point.kept) == set(order[: len(point.kept)])
    lengths = [len(point.kept) for point in found.points]
    assert lengths == sorted(set(lengths))
    assert lengths[-1] > len(chosen.kept)


def test_stopped_analysis_goes_on_and_ends_with_the_same_bytes(ask, analysed, bars, tmp_path):
    found, out = analysed
    copy = tmp_path / "r.json"
    with pytest.raises(KeyboardInterrupt):
        ask(out=copy, bar=bars(stop_after=3 * 4 + 2))  # FP32, three networks and two images
    left = json.loads(copy.read_text())
    assert left["result"] is None
    assert len(left["measurements"]) == 3
    # What the stopped run would have measured last is put in, as if it had been stopped later.
    left["measurements"] = json.loads(out.read_text())["measurements"][:-2]
    copy.write_text(json.dumps(left))
    again, bar, said = ask(out=copy)
    assert said[0] == f"going on from {len(left['measurements'])} networks that {copy} has"
    total = 3 * (len(found.effects) + 1)
    assert bar.shown[:2] == [("FP32", 3, 0), ("convolutions x images", total, total)]
    assert len(bar.shown) == 2 + 2
    assert again == found
    assert copy.read_bytes() == out.read_bytes()


@pytest.mark.parametrize("change", ["precision", "method", "label", "image"])
def test_other_inputs_are_measured_anew(ask, analysed, choice, bars, labelled, tmp_path, change):
    copy = tmp_path / "r.json"
    copy.write_bytes(analysed[1].read_bytes())
    question = QUESTION
    if change == "precision":
        question = replace(QUESTION, precision="fp8")
    elif change == "method":
        question = replace(QUESTION, method="entropy")
    else:
        kind = "images" if change == "image" else "labels"
        folder = tmp_path / "other"
        shutil.copytree(labelled, folder)
        file = folder / kind / "0.png"
        pixels = np.array(Image.open(file))
        pixels[0, 0] = (pixels[0, 0] + 1) % 3
        Image.fromarray(pixels).save(file)
        choice = replace(choice, folder=folder / "images", labels=folder / "labels")
    bar = bars(stop_after=3 + 1)
    with pytest.raises(KeyboardInterrupt):
        ask(question, out=copy, choice=choice, bar=bar)
    assert bar.shown[1][2] == 0


def test_same_files_elsewhere_are_the_same_inputs(ask, analysed, choice, labelled, tmp_path):
    folder = tmp_path / "other"
    shutil.copytree(labelled, folder)
    moved = replace(choice, folder=folder / "images", labels=folder / "labels")
    copy = tmp_path / "r.json"
    copy.write_bytes(analysed[1].read_bytes())
    found, bar, _ = ask(out=copy, choice=moved)
    assert found == analysed[0]
    assert len(bar.shown) == 2


def test_convolution_alone_loses_what_is_missing_to_fp32(ask, analysed, bars, tmp_path):
    # One network alone: the others of this mode are known from a file in which they agree wholly.
    found, out = analysed
    names = [effect.name for effect in found.effects]
    content = json.loads(out.read_text())
    known = [m for m in content["measurements"] if m.get("kept") == []]
    known += [{"quantised": [name], "agreement": 100.0, "miou": 30.0} for name in names[1:]]
    copy = tmp_path / "r.json"
    copy.write_text(json.dumps(content | {"measurements": known}))
    question = replace(QUESTION, alone=True, bound=Bound(min_agreement=50))
    alone, bar, _ = ask(question, out=copy)
    assert bar.shown[1][1:] == (3 * (len(names) + 1), 3 * len(names))
    first = alone.effects[0]
    assert first.name == names[0]
    assert first.gain == pytest.approx(100 - first.score.agreement)
    assert 0 < first.gain < 100 - alone.points[0].score.agreement
    assert {effect.gain for effect in alone.effects[1:]} == {0}
    costs = [effect.gmac for effect in alone.effects[1:]]
    assert costs == sorted(costs)
    assert alone.chosen is not None
    assert alone.chosen.kept == ()
    assert [len(point.kept) for point in alone.points] == [0, 1, 2, 4]
    assert effect_rows(alone)[0][-1] == "loss alone"
    says = "nothing has to stay in float: all quantised keeps the bound, at least 50 % of"
    assert verdict(alone).startswith(says)


def test_bound_that_only_fp32_keeps_has_no_set(ask, analysed, tmp_path):
    found, out = analysed
    content = json.loads(out.read_text())
    order = [effect.name for effect in found.effects]
    # Every beginning of the order is known, and none agrees wholly but the last.
    content["measurements"] = [
        m for m in content["measurements"] if len(m.get("kept", "ab")) < 2
    ] + [{"kept": order[:count], "agreement": 99.9, "miou": 30.0} for count in range(2, len(order))]
    copy = tmp_path / "r.json"
    copy.write_text(json.dumps(content))
    # Without any one of them it is not enough either.
    content["measurements"] += [
        {"quantised": [name], "agreement": 99.9, "miou": 30.0} for name in order[:-1]
    ]
    copy.write_text(json.dumps(content))
    none, _, said = ask(replace(QUESTION, bound=Bound(min_agreement=100)), out=copy)
    assert none.chosen is None
    assert none.points[-1].score == none.reference
    assert none.points[-1].quantised_share == pytest.approx(0)
    assert said[-1].startswith(f"{len(order)} in float: 100.000 % as in FP32, mean IoU ")
    assert "with no set of convolutions in float but all of them" in verdict(none)


def test_rows_show_what_was_found(analysed):
    found, _ = analysed
    head, *rows = effect_rows(found)
    assert head[3:] == ["as in FP32 %", "mean IoU %", "gain in float"]
    starred = {row[0].removeprefix("* ") for row in rows if row[0].startswith("*")}
    assert starred == set(found.chosen.kept)
    assert rows[0][-1] == f"{found.effects[0].gain:+.3f}"
    head, reference, first, *_, last = point_rows(found)
    assert reference[:3] == ["FP32", "0.0", "100.000"]
    assert first[:2] == ["0", "100.0"]
    assert last[0] == f"* {len(found.chosen.kept)}"
    assert verdict(found).startswith(f"keep in float: {found.chosen.kept[0]}, ")
    silent = replace(found, reference=replace(found.reference, miou=None))
    assert "mean IoU %" not in effect_rows(silent)[0]


def test_what_cannot_be_analysed_is_refused(
    ask, tiny_model, make_model, write_network, calibration, choice, tmp_path, bars
):
    other = write_network(make_model(seed=1), tmp_path / "other.onnx")
    with pytest.raises(CalibrationError, match="was made for another network"):
        ask(network=other)
    half = tmp_path / "half.onnx"
    type_network(as_network(write_network(tiny_model, tmp_path / "m.onnx")), half, "fp16")
    with pytest.raises(OnnxError, match=r"half\.onnx is fp16 already; start from the FP32 ONNX"):
        ask(network=half)
    with pytest.raises(ValueError, match="needs labels"):
        ask(
            replace(QUESTION, bound=Bound(max_drop=0.3)),
            choice=replace(choice, labels=None),
        )
    assert choice.labels is not None
    blank = tmp_path / "blank"
    blank.mkdir()
    for path in choice.labels.iterdir():
        Image.fromarray(np.full_like(np.array(Image.open(path)), 255)).save(blank / path.name)
    with pytest.raises(DatasetError, match="name no class"):
        ask(choice=replace(choice, labels=blank))


def test_dynamic_shape_is_refused(ask, tiny_model, tmp_path):
    sizes = ShapeRange(min_size=(64, 96), max_size=(128, 96), min_batch=1, max_batch=1)
    model, _ = to_onnx(tiny_model, size=(64, 96), dynamic=sizes)
    save(model, tmp_path / "dynamic.onnx")
    with pytest.raises(OnnxError, match=r"dynamic\.onnx has a dynamic shape"):
        ask(network=tmp_path / "dynamic.onnx")
