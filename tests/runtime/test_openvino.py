"""What OpenVINO raises while it runs, as errors of this package."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from fcn_trt.engine.openvino.builder import openvino_errors, openvino_version
from fcn_trt.errors import EngineError
from fcn_trt.runtime.openvino import OpenVinoBackend
from tests.plans import as_network

SIZE = (64, 96)


@pytest.fixture(scope="module")
def failing(tiny_network, tiny_bundle, tmp_path_factory):
    """A bundle whose network compiles, and fails when it runs on a frame of another grey than 7.

    It adds a list of 7 values to one as long as the brightest pixel says.
    """
    onnx = pytest.importorskip("onnx")
    model = onnx.load(tiny_network)
    graph = model.graph
    (output,) = graph.output
    name = output.name
    for node in graph.node:
        node.output[:] = ["inner" if each == name else each for each in node.output]
    make = onnx.helper.make_node
    graph.initializer.extend(
        [
            onnx.numpy_helper.from_array(np.array(0, np.float32), "zero"),
            onnx.numpy_helper.from_array(np.array(1, np.float32), "one"),
            onnx.numpy_helper.from_array(np.zeros(7, np.float32), "seven"),
        ]
    )
    graph.node.extend(
        [
            make("ReduceMax", [graph.input[0].name], ["brightest"], keepdims=0),
            make("Range", ["zero", "brightest", "one"], ["list"]),
            make("Add", ["list", "seven"], ["both"]),
            make("ReduceMin", ["both"], ["nothing"], keepdims=0),
            make("Add", ["inner", "nothing"], [name]),
        ]
    )
    path = tmp_path_factory.mktemp("failing") / "failing.onnx"
    onnx.save(model, path)
    spec = replace(tiny_bundle.manifest.spec, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    manifest = replace(tiny_bundle.manifest, spec=spec)
    return SimpleNamespace(network=as_network(path, spec), manifest=manifest)


def grey(value=255):
    return np.full((*SIZE, 3), value, np.uint8)


def test_description_says_what_computes_where_and_in_which_type(tiny_bundle):
    manifest = tiny_bundle.manifest
    backend = OpenVinoBackend(tiny_bundle)
    assert manifest.device in backend.description
    assert manifest.target_version in backend.description
    assert "18 fp32" in backend.description
    assert "\n" not in backend.description
    backend.close()


def test_a_network_that_fails_is_an_engine_error_of_one_line(failing):
    backend = OpenVinoBackend(failing)
    backend.submit(0, [grey(7)])
    assert len(backend.collect(0)) == 1
    backend.submit(0, [grey()])
    with pytest.raises(EngineError) as caught:
        backend.collect(0)
    message = str(caught.value)
    assert message.startswith(f"OpenVINO {openvino_version()} cannot run the network: ")
    assert "\n" not in message
    backend.close()


def test_closing_after_a_network_that_failed_is_a_warning(failing, caplog):
    backend = OpenVinoBackend(failing)
    backend.submit(0, [grey()])
    backend.close()
    backend.close()
    assert "while closing: OpenVINO" in caplog.text


def test_a_stream_raises_the_first_of_two_networks_that_fail(failing, caplog):
    from fcn_trt.runtime.segmenter import Segmenter

    with Segmenter(failing.manifest, OpenVinoBackend(failing)) as segmenter:
        with pytest.raises(EngineError, match="cannot run the network"):
            list(segmenter.stream([grey(), grey()]))
        assert "while a stream ended: OpenVINO" in caplog.text


def test_a_request_that_is_busy_is_an_engine_error(tiny_bundle, make_frame):
    backend = OpenVinoBackend(tiny_bundle)

    def submit_without_waiting():
        for _ in range(300):  # one of them meets a network that still computes
            backend.submit(0, [make_frame()])

    with pytest.raises(EngineError, match=r"cannot start the network: .*busy"):
        submit_without_waiting()
    backend.close()


def test_an_error_without_a_reason_is_still_a_sentence():
    with pytest.raises(EngineError, match="cannot fly: no reason given"), openvino_errors("fly"):
        raise RuntimeError
