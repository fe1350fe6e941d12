from dataclasses import replace

import pytest

from fcn_trt.engine.proof import Convolution, convolution_gmac, prove
from fcn_trt.errors import EngineError
from fcn_trt.spec import read_spec


@pytest.fixture
def spec(tiny_network):
    return replace(read_spec(tiny_network), precision="fp16")


def convolutions(*kinds):
    return [
        Convolution(name=f"conv{i}", precision=kind, gmac=float(i + 1))
        for i, kind in enumerate(kinds)
    ]


def test_gmac_of_a_convolution_is_outputs_times_window():
    assert convolution_gmac((1, 64, 128, 256), (64, 3, 7, 7)) == 64 * 128 * 256 * 147 / 1e9


def test_convolutions_are_counted_and_weighed_by_type(spec):
    kept = replace(spec, exceptions={"conv2": "fp32"})
    proof = prove(
        convolutions("fp16", "fp16", "fp32"), kept, source="engine", builder="A builder 1.0"
    )
    assert proof.convolutions == {"fp16": 2, "fp32": 1}
    assert proof.gmac == {"fp16": 3.0, "fp32": 3.0}
    assert proof.describe() == "2 fp16 (50.0 % of GMAC), 1 fp32 (50.0 %)"


def test_engine_that_became_another_type_is_refused_and_its_layers_are_named(spec):
    with pytest.raises(EngineError) as refusal:
        prove(convolutions(*["fp32"] * 5, "fp16"), spec, source="engine", builder="A builder 1.0")
    assert str(refusal.value) == (
        "fp16 was asked for, but A builder 1.0 computes 5 of 6 convolutions in another type: conv0 "
        "(fp32), conv1 (fp32), conv2 (fp32) and 2 more; choose another precision"
    )


def test_exception_that_was_not_kept_is_refused(spec):
    kept = replace(spec, exceptions={"conv1": "fp32"})
    with pytest.raises(EngineError, match=r"1 of 2 .*: conv1 \(fp16\); choose"):
        prove(convolutions("fp16", "fp16"), kept, source="engine", builder="A builder")


def test_network_without_convolutions_is_no_engine(spec):
    with pytest.raises(EngineError, match="A builder found no convolution in fcn_r18-d8"):
        prove([], spec, source="engine", builder="A builder")
