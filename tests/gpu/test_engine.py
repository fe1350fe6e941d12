"""An engine built, loaded and run on this GPU, against OpenVINO on this CPU."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fcn_trt.engine.bundle import PLAN_NAME, load_bundle
from fcn_trt.engine.options import BuildOptions
from fcn_trt.engine.preflight import obstacle
from fcn_trt.engine.tensorrt.builder import build_tensorrt
from fcn_trt.engine.tensorrt.plan import load_engine
from fcn_trt.runtime.segmenter import Segmenter
from fcn_trt.spec import INPUT_NAME, OUTPUT_NAME, ShapeRange, read_spec
from fcn_trt.stages.decode import decode
from fcn_trt.stages.preprocess import preprocess
from tests.gpu.oracle import assert_same_but_for_ties

pytest.importorskip("torch", reason="needs the extra: pip install 'fcn-trt[export]'")
pytest.importorskip("onnx", reason="needs the extra: pip install 'fcn-trt[export]'")
pytest.importorskip("openvino", reason="OpenVINO's logits are what an engine's are held against")

from fcn_trt.engine.openvino.builder import compile_network  # imports openvino
from fcn_trt.precision.type_network import type_network
from tests.plans import (
    as_network,
    export_model,  # imports torch
)

TOLERANCE = {"fp32": 1e-3, "fp16": 1e-2, "bf16": 6e-2}
"""Largest difference in shares of the logits' deviation; each type's rounding over 26 layers."""


def run(cuda, engine, image):
    """One inference, its input and output copied by hand."""
    context = engine.create_execution_context()
    assert context.set_input_shape(INPUT_NAME, image.shape)
    logits = np.empty(tuple(context.get_tensor_shape(OUTPUT_NAME)), np.float32)
    tensors = {INPUT_NAME: image, OUTPUT_NAME: logits}
    on_device = {name: cuda.mem_alloc(tensor.nbytes) for name, tensor in tensors.items()}
    stream = cuda.Stream()
    cuda.memcpy_htod_async(on_device[INPUT_NAME], image, stream)
    for name, memory in on_device.items():
        assert context.set_tensor_address(name, int(memory))
    assert context.execute_async_v3(stream.handle)
    cuda.memcpy_dtoh_async(logits, on_device[OUTPUT_NAME], stream)
    stream.synchronize()
    return logits


def options_for(target, machine):
    rtx = target == "tensorrt-rtx"
    return BuildOptions(
        compute_capabilities=(machine.gpu.compute_capability,) if rtx else (), timing_cache=not rtx
    )


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_engine_gives_the_logits_that_openvino_gives(
    cuda, machine, target, tiny_network, tmp_path, precision
):
    type_network(as_network(tiny_network), tmp_path / "typed.onnx", precision)
    bundle = build_tensorrt(
        as_network(tmp_path / "typed.onnx"),
        tmp_path / "bundle",
        target=target,
        options=options_for(target, machine),
    )
    assert obstacle(load_bundle(bundle.path)) is None
    image = np.random.default_rng(0).standard_normal((1, 3, 64, 96)).astype(np.float32)
    expected = compile_network(as_network(tiny_network, read_spec(tiny_network))).model(image)[0]
    found = run(cuda, load_engine(bundle), image)
    assert np.abs(found - expected).max() <= TOLERANCE[precision] * expected.std()


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_segmenter_runs_the_bundle_on_the_gpu(
    device, machine, target, tiny_network, make_frame, tmp_path, precision
):
    typed = tmp_path / "typed.onnx"
    type_network(as_network(tiny_network), typed, precision)
    bundle = build_tensorrt(
        as_network(typed), tmp_path / "bundle", target=target, options=options_for(target, machine)
    )
    spec = bundle.manifest.spec
    frames = [make_frame((97, 131), seed=seed) for seed in range(7)]
    with Segmenter.load(bundle.path) as segmenter:
        assert machine.gpu.name in segmenter.description
        label_maps = [label_map for _, label_map in segmenter.stream(frames)]
        for frame, label_map in zip(frames, label_maps, strict=True):
            image = preprocess(frame, spec.input_size, mean=spec.mean, std=spec.std)[None]
            expected = compile_network(as_network(tiny_network, read_spec(tiny_network))).model(
                image
            )[0]
            logits = segmenter.logits([frame])
            assert np.abs(logits - expected).max() <= TOLERANCE[precision] * expected.std()
            np.testing.assert_array_equal(segmenter.segment(frame), label_map)
            assert_same_but_for_ties(
                label_map,
                decode(logits[0], frame.shape[:2], align_corners=spec.align_corners),
                logits[0],
                align_corners=spec.align_corners,
            )


def test_runtime_cache_of_tensorrt_rtx_is_kept_for_the_next_start(
    device, machine, target, tiny_network, make_frame, tmp_path, user_cache
):
    if target != "tensorrt-rtx":
        pytest.skip("TensorRT compiles everything while it builds")
    bundle = build_tensorrt(
        as_network(tiny_network),
        tmp_path / "bundle",
        target=target,
        options=options_for(target, machine),
    )
    label_maps = []
    for _ in range(2):
        with Segmenter.load(bundle.path) as segmenter:
            label_maps.append(segmenter.segment(make_frame((97, 131))))
    kept = [path for path in user_cache.rglob("*") if path.is_file()]
    assert kept, "no runtime cache was written"
    np.testing.assert_array_equal(label_maps[0], label_maps[1])


def test_proof_comes_from_the_engine_where_the_library_reports_it(
    cuda, machine, target, tiny_network, tmp_path
):
    bundle = build_tensorrt(
        as_network(tiny_network),
        tmp_path / "bundle",
        target=target,
        options=options_for(target, machine),
    )
    proof = bundle.manifest.precision_proven
    assert proof.convolutions == {"fp32": 18}
    assert proof.source == ("engine" if target == "tensorrt" else "network")


def test_second_build_starts_from_the_timings_of_the_first(
    cuda, machine, target, tiny_network, tmp_path, user_cache
):
    if target != "tensorrt":
        pytest.skip("TensorRT-RTX times nothing while it builds")
    for name in ("first", "second"):
        build_tensorrt(
            as_network(tiny_network),
            tmp_path / name,
            target=target,
            options=options_for(target, machine),
        )
    (kept,) = (user_cache / "fcn_trt" / "timing").iterdir()
    assert kept.stat().st_size > 0


def test_stripped_plan_gets_its_weights_back(cuda, machine, target, tiny_network, tmp_path):
    image = np.random.default_rng(1).standard_normal((1, 3, 64, 96)).astype(np.float32)
    answers, sizes = [], []
    for strip in (False, True):
        options = replace(options_for(target, machine), strip=strip)
        bundle = build_tensorrt(
            as_network(tiny_network), tmp_path / f"strip-{strip}", target=target, options=options
        )
        sizes.append(len(bundle.read(PLAN_NAME)))
        answers.append(run(cuda, load_engine(bundle), image))
    assert sizes[1] < sizes[0]
    np.testing.assert_allclose(answers[1], answers[0], atol=1e-3)


def test_dynamic_engine_takes_every_shape_of_its_range(
    cuda, machine, target, tiny_model, write_network, tmp_path
):
    allowed = ShapeRange(min_size=(32, 64), max_size=(96, 128), min_batch=1, max_batch=2)
    export_model(tiny_model, tmp_path / "dynamic.onnx", size=(64, 96), dynamic=allowed)
    bundle = build_tensorrt(
        as_network(tmp_path / "dynamic.onnx"),
        tmp_path / "bundle",
        target=target,
        options=options_for(target, machine),
    )
    engine = load_engine(bundle)
    for size, batch in (((32, 64), 1), ((64, 96), 1), ((96, 128), 2)):
        network = write_network(tiny_model, tmp_path / "static.onnx", size=size, batch=batch)
        image = np.random.default_rng(2).standard_normal((batch, 3, *size)).astype(np.float32)
        expected = compile_network(as_network(network, read_spec(network))).model(image)[0]
        found = run(cuda, engine, image)
        assert np.abs(found - expected).max() <= TOLERANCE["fp32"] * expected.std()
