import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fcn_trt.code import code_files
from fcn_trt.errors import DatasetError, EngineError, OutputError
from fcn_trt.evaluation import record as record_module
from fcn_trt.evaluation.family import altered, run_protocol
from fcn_trt.evaluation.inference import infer
from fcn_trt.evaluation.measure import evaluate, label_maps, measure, spread
from fcn_trt.evaluation.protocol import Protocol
from fcn_trt.evaluation.record import Record, about, check_record, key_of, require_writable
from fcn_trt.evaluation.resize import best_class
from fcn_trt.evaluation.sample import Sample
from fcn_trt.files import combined_sha256
from fcn_trt.labels import LabelSet
from fcn_trt.runtime.segmenter import Segmenter


class Images:
    """Images of two sizes with labels of noise."""

    name = "noise"

    def __init__(self, spec, make_frame, count=5):
        self.labels = LabelSet(name="custom", classes=spec.classes, palette=spec.palette)
        self.make_frame = make_frame
        self.count = count
        self.read = []

    def __len__(self):
        return self.count

    def __iter__(self):
        return map(self.__getitem__, range(self.count))

    def __getitem__(self, index):
        self.read.append(index)
        size = (64, 96) if index % 2 else (50, 70)
        truth = np.random.default_rng(index).integers(0, 3, size, dtype=np.uint8)
        truth[:5] = 255
        return Sample(name=str(index), frame=self.make_frame(size, seed=index), truth=truth)

    split = "val"

    def key_parts(self, indices):
        return (self.name, str(self.count), *map(str, indices))


@pytest.fixture
def segmenter(tiny_bundle):
    with Segmenter.load(tiny_bundle.path) as opened:
        yield opened


@pytest.fixture
def images(segmenter, make_frame):
    return Images(segmenter.spec, make_frame)


@pytest.fixture
def open_record(segmenter, images, tmp_path):
    def make(path=None, *, protocol=None, dataset=images, indices=(0, 1, 2, 3, 4), ran_on="here"):
        protocol = protocol or run_protocol(segmenter.spec)
        facts = about(segmenter.manifest, protocol, dataset, indices=indices, ran_on=ran_on)
        return Record(key_of(facts), facts, segmenter.spec.classes, path)

    return make


def test_result_of_run_s_protocol_is_that_of_the_stream(segmenter, images, open_record):
    record = open_record()
    measure(segmenter, images, run_protocol(segmenter.spec), record, indices=(0, 1, 2, 3, 4))
    assert record.scores.evaluation() == evaluate(segmenter.stream, images)


@pytest.mark.parametrize("scales", [None, (0.5, 1.0)])
def test_other_protocols_decide_each_pixel_by_inference(segmenter, images, scales):
    protocol = altered(run_protocol(segmenter.spec), scales=scales, flip=True)
    for index, (label_map, truth) in enumerate(label_maps(segmenter, iter(images), protocol)):
        sample = images[index]
        expected = best_class(infer(segmenter.network, sample.frame, protocol, segmenter.spec))
        assert np.array_equal(label_map, expected)
        assert np.array_equal(truth, sample.truth)


def test_truth_and_labels_meet_at_the_input_s_size_where_a_protocol_says_so(segmenter, images):
    protocol = Protocol(name="x", source="", resize="size", size=(32, 48), truth="input")
    for label_map, truth in label_maps(segmenter, iter(images), protocol):
        assert label_map.shape == truth.shape == (32, 48)


def test_images_that_an_engine_does_not_take_are_an_error(images, segmenter, open_record):
    class Fixed:
        """An engine of fixed shape, as on a GPU."""

        spec = segmenter.spec

        def network(self, values):
            raise EngineError(f"takes no {values.shape}")

        stream = segmenter.stream

    protocol = Protocol(name="x", source="", resize="none")
    with pytest.raises(EngineError, match=r"takes no \(1, 3, 50, 70\)"):
        measure(Fixed(), images, protocol, open_record(), indices=(0,))


def test_record_goes_on_where_it_ended(segmenter, images, open_record, tmp_path, monkeypatch):
    monkeypatch.setattr("fcn_trt.evaluation.record.SAVE_S", 0.0)
    path, protocol = tmp_path / "r.json", run_protocol(segmenter.spec)

    def stop_after(count):
        def on_image():
            nonlocal count
            count -= 1
            if count == 0:
                raise KeyboardInterrupt

        return on_image

    first = open_record(path)
    with pytest.raises(KeyboardInterrupt):
        measure(segmenter, images, protocol, first, indices=tuple(range(5)), on_image=stop_after(2))
    part = json.loads(path.read_bytes())
    assert (part["finished"], part["images"], part["dataset"]["images"]) == (False, 2, 5)
    assert part["miou"] is not None

    images.read.clear()
    second = open_record(path)
    assert (second.resumed, second.was_finished) == (2, False)
    measure(segmenter, images, protocol, second, indices=tuple(range(5)))
    assert images.read == [2, 3, 4]
    whole = open_record(tmp_path / "whole.json")
    measure(segmenter, images, protocol, whole, indices=tuple(range(5)))
    assert without_times(path) == without_times(tmp_path / "whole.json")

    images.read.clear()
    third = open_record(path)
    before = path.read_bytes()
    assert (third.resumed, third.was_finished) == (5, True)
    measure(segmenter, images, protocol, third, indices=tuple(range(5)))
    assert (images.read, path.read_bytes()) == ([], before)
    assert third.content() == json.loads(before)


def without_times(path):
    lines = path.read_text().splitlines()
    kept = [line for line in lines if not line.startswith((' "measured"', ' "elapsed_s"'))]
    assert len(kept) == len(lines) - 2
    return kept


def test_result_says_what_it_is_of(segmenter, images, open_record, tmp_path, tiny_bundle):
    path = tmp_path / "r.json"
    protocol = altered(run_protocol(segmenter.spec), scales=(1.0, 0.5), flip=False)
    record = open_record(path, protocol=protocol, indices=(1, 3), ran_on="a CPU")
    measure(segmenter, images, protocol, record, indices=(1, 3))
    found = json.loads(path.read_bytes())
    manifest = tiny_bundle.manifest
    assert found["model"]["name"] == "fcn_r18-d8"
    assert found["model"]["weights"] == "random (seed 2)"
    assert found["model"]["weights_sha256"] == manifest.spec.source_sha256
    assert found["engine"]["sha256"] == manifest.files["network.onnx"].sha256
    assert (found["engine"]["target"], found["engine"]["ran_on"]) == ("openvino", "a CPU")
    assert found["protocol"]["scales"] == [1.0, 0.5]
    assert found["protocol"].keys() == set(Protocol.__slots__)
    files = combined_sha256(("noise", "5", "1", "3"))
    assert found["dataset"] == {
        "name": "noise",
        "split": "val",
        "images": 2,
        "of": 5,
        "files_sha256": files,
    }
    assert found["versions"].keys() >= {"fcn_trt", "numpy", "opencv"}
    assert (found["images"], len(found["confusion"]), len(found["confusion"][0])) == (2, 3, 4)
    assert found["per_class"].keys() == set(segmenter.spec.classes)


def test_what_could_not_be_measured_is_null(open_record):
    content = open_record().content()
    assert content["miou"] is None
    assert set(content["per_class"].values()) == {None}
    json.dumps(content, allow_nan=False)


def test_key_follows_from_everything(segmenter, images, open_record, make_frame, monkeypatch):
    class Changed(Images):
        def key_parts(self, indices):
            return (*super().key_parts(indices), "another file")

    protocol = run_protocol(segmenter.spec)
    keys = [
        open_record().key,
        open_record(protocol=replace(protocol, align_corners=True)).key,
        open_record(dataset=Images(segmenter.spec, make_frame, count=6)).key,
        open_record(dataset=Changed(segmenter.spec, make_frame)).key,
        open_record(indices=(0, 1, 2, 3)).key,
        open_record(indices=(0, 1, 2, 4)).key,
        open_record(ran_on="elsewhere").key,
    ]
    monkeypatch.setattr("fcn_trt.evaluation.record.code_sha256", lambda *_: "other code")
    keys.append(open_record().key)
    assert len({json.dumps(key) for key in keys}) == len(keys)
    assert open_record().key == keys[-1]


def test_result_of_something_else_is_kept_and_the_difference_said(
    segmenter, images, open_record, tmp_path, monkeypatch
):
    path, protocol = tmp_path / "r.json", run_protocol(segmenter.spec)
    measure(segmenter, images, protocol, open_record(path), indices=(0, 1, 2, 3, 4))
    before = path.read_bytes()
    mirrored = altered(protocol, flip=True)
    for changes, words in (
        ({"indices": (0, 1)}, "other images"),
        ({"protocol": mirrored}, "another protocol"),
        ({"indices": (0, 1), "protocol": mirrored}, "another protocol and other images"),
        ({"ran_on": "there"}, "another machine, or another version of what runs the engine"),
    ):
        message = rf"r\.json is there already and has a result of {words}; choose another name, or"
        with pytest.raises(OutputError, match=message):
            open_record(path, **changes)
    monkeypatch.setattr("fcn_trt.evaluation.record.code_sha256", lambda *_: "other code")
    with pytest.raises(OutputError, match="has a result of other code of this package; choose"):
        open_record(path)
    assert path.read_bytes() == before


def test_code_that_draws_images_counts_where_they_are_drawn(open_record, images, monkeypatch):
    asked = []

    def note(*modules):
        asked.append(modules)
        return ""

    monkeypatch.setattr("fcn_trt.evaluation.record.code_sha256", note)
    open_record()
    monkeypatch.setattr(images, "name", "scene", raising=False)
    open_record()
    assert ["fcn_trt.evaluation.scenes" in modules for modules in asked] == [False, True]


def test_all_code_that_a_measurement_runs_is_in_its_key(tiny_bundle):
    script = f"""
import sys
import numpy as np
from fcn_trt.evaluation.measure import label_maps
from fcn_trt.evaluation.family import altered, run_protocol
from fcn_trt.evaluation.sample import Sample
from fcn_trt.runtime.segmenter import Segmenter
frame = np.zeros((20, 30, 3), np.uint8)
sample = Sample(name="", frame=frame, truth=frame[..., 0])
with Segmenter.load({str(tiny_bundle.path)!r}) as segmenter:
    plain = run_protocol(segmenter.spec)
    for protocol in (plain, altered(plain, scales=(0.5, 1.0), flip=True)):
        list(label_maps(segmenter, iter([sample]), protocol))
for name, module in sys.modules.items():
    if name.partition(".")[0] == "fcn_trt":
        print(name, module.__file__)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    ran = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    covered = set(map(str, code_files(*record_module._CODE)))
    assert {"fcn_trt.stages.decode", "fcn_trt.evaluation.measure"} <= ran.keys()
    # How a protocol is chosen is no part of how it is measured: what it asks for is in the key.
    assert [name for name, file in ran.items() if file not in covered] == [
        "fcn_trt.evaluation.family"
    ]


def test_images_without_one_labelled_pixel_are_an_error(segmenter, images, open_record, tmp_path):
    class Unlabelled(Images):
        def __getitem__(self, index):
            sample = super().__getitem__(index)
            return replace(sample, truth=np.full_like(sample.truth, 255))

    nothing = Unlabelled(segmenter.spec, images.make_frame)
    record = open_record(tmp_path / "r.json", dataset=nothing, indices=(0, 1))
    with pytest.raises(DatasetError, match="no pixel of the 2 images of noise has a class, since"):
        measure(segmenter, nothing, run_protocol(segmenter.spec), record, indices=(0, 1))
    assert not record.content()["finished"]


@pytest.mark.parametrize("text", ["", "[]", '{"format": 1}', "no json", '{"key": "", "scores": 1}'])
def test_file_that_is_no_record_is_not_overwritten(open_record, tmp_path, text):
    path = tmp_path / "r.json"
    path.write_text(text)
    for call in (lambda: check_record(path), lambda: open_record(path)):
        with pytest.raises(OutputError, match=r"r\.json is there already and is no result of `fcn"):
            call()
    assert path.read_text() == text


@pytest.mark.parametrize(
    ("name", "value"),
    [("scores", {"images": 1}), ("scores", None), ("elapsed_s", "long"), ("measured", None)],
)
def test_record_with_damaged_content_is_not_overwritten(
    segmenter, images, open_record, tmp_path, name, value
):
    path = tmp_path / "r.json"
    measure(
        segmenter, images, run_protocol(segmenter.spec), open_record(path), indices=(0, 1, 2, 3, 4)
    )
    content = json.loads(path.read_bytes())
    del content[name]
    path.write_text(json.dumps(content | ({name: value} if value is not None else {})))
    with pytest.raises(OutputError, match="is there already and is no result"):
        open_record(path)


def test_record_in_a_missing_folder_is_refused_before_work(tmp_path):
    with pytest.raises(OutputError, match="No such file"):
        check_record(tmp_path / "gone" / "r.json")
    check_record(tmp_path / "r.json")


def test_what_would_be_no_file_is_refused_before_work(tmp_path):
    for path, message in (
        (tmp_path, "is a folder; give the name of a file"),
        (Path(), "is a folder; give the name of a file"),
        (Path("/dev/full"), "is no regular file, and would be replaced; choose another name"),
        (Path("/proc/self/r.json"), "r.json cannot be written: .*; choose another place"),
    ):
        with pytest.raises(OutputError, match=message):
            require_writable(path)
    require_writable(tmp_path / "r.json")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("limit", "expected"),
    [(None, range(7)), (7, range(7)), (99, range(7)), (3, (0, 2, 4)), (1, (0,))],
)
def test_limited_images_are_spread(limit, expected):
    assert spread(7, limit) == tuple(expected)
