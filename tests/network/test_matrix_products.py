"""The network of matrix products: its values against numpy, and every type through the builder."""

from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra: pip install 'fcn-trt[export]'")
pytest.importorskip("onnx", reason="needs the extra: pip install 'fcn-trt[export]'")

import onnx

from fcn_trt.bench.random_bundle import quick_type
from fcn_trt.engine.build import build_engine
from fcn_trt.engine.openvino.builder import compile_network
from fcn_trt.engine.options import BuildOptions
from fcn_trt.network.matrix_products import CLASSES, write_product_network
from fcn_trt.pipeline.plan import Plan
from fcn_trt.pipeline.run import run
from fcn_trt.spec import read_spec
from tests.plans import as_network

SIZE, WIDTH, LAYERS = (16, 24), 64, 3
GMAC = SIZE[0] * SIZE[1] * (3 * WIDTH + LAYERS * WIDTH * WIDTH + WIDTH * CLASSES) / 1e9
PRECISIONS = ("fp32", "fp16", "bf16", "int8", "fp8")
ADA = BuildOptions(compute_capabilities=("8.9",))
"""The first GPUs that have all of these types."""


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    path = tmp_path_factory.mktemp("product") / "product.onnx"
    write_product_network(path, width=WIDTH, layers=LAYERS, size=SIZE)
    return path


@pytest.fixture(scope="module")
def typed(network, tmp_path_factory):
    """Write it in a type; what stays in float is fp16, as on GPUs."""
    folder = tmp_path_factory.mktemp("typed")

    def write(precision):
        plan = Plan(source=as_network(network), type=quick_type(precision, SIZE))
        return run(plan, folder / f"{precision}.onnx").network

    return write


def test_logits_are_the_products_with_relu_between(network):
    weights = [
        onnx.numpy_helper.to_array(tensor)[:, :, 0, 0]
        for tensor in onnx.load(network).graph.initializer
    ]
    shapes = [(WIDTH, 3), *[(WIDTH, WIDTH)] * LAYERS, (CLASSES, WIDTH)]
    assert [found.shape for found in weights] == shapes
    image = np.random.default_rng(1).standard_normal((1, 3, *SIZE)).astype(np.float32)
    expected = image[0].reshape(3, -1).astype(np.float64)
    for weight in weights[:-1]:
        expected = np.maximum(weight @ expected, 0)
    expected = weights[-1] @ expected
    found = compile_network(as_network(network, read_spec(network))).model(image)[0]
    np.testing.assert_allclose(found[0].reshape(CLASSES, -1), expected, atol=1e-4)


def test_multiply_accumulates_are_those_that_the_proof_counts(network, tmp_path):
    path = tmp_path / "again.onnx"
    made = write_product_network(path, width=WIDTH, layers=LAYERS, size=SIZE)
    assert compile_network(made).proof.gmac == {"fp32": round(GMAC, 6)}
    assert path.read_bytes() == network.read_bytes()


def test_network_as_it_is_measured_has_products_for_nearly_all_of_its_work(tmp_path):
    made = write_product_network(tmp_path / "product.onnx")
    (gmac,) = compile_network(made).proof.gmac.values()
    assert 0.99 < 8 * 1024**2 * 128 * 256 / 1e9 / gmac < 1


def test_values_neither_vanish_nor_grow_from_layer_to_layer(tmp_path):
    path = tmp_path / "deep.onnx"
    write_product_network(path, width=256, layers=16, size=(8, 8))
    spec = read_spec(path)
    pixels = np.random.default_rng(2).uniform(0, 255, (1, 3, 8, 8))
    image = ((pixels - spec.mean[0]) / spec.std[0]).astype(np.float32)
    found = compile_network(as_network(path, spec)).model(image)[0]
    assert np.isfinite(found).all()
    assert 0.2 < math.sqrt(np.mean(np.square(found))) < 5


@pytest.mark.parametrize(
    "precision",
    [
        p if p in ("fp16", "int8") else pytest.param(p, marks=pytest.mark.exhaustive)
        for p in PRECISIONS
    ],
)
def test_real_builder_takes_it_in_every_type(rtx, typed, network, tmp_path, precision):
    made = typed(precision)
    assert made.spec.precision == precision
    bundle = build_engine(made, tmp_path / "bundle", target="tensorrt-rtx", options=ADA)
    manifest = bundle.manifest
    proven = manifest.precision_proven
    assert sum(proven.gmac.values()) == pytest.approx(GMAC, abs=1e-6)
    # FP8 has no kernels for the image's 3 channels.
    left = {"fp16": 1} if precision == "fp8" else {}
    assert proven.convolutions == {precision: LAYERS + 2 - sum(left.values()), **left}
