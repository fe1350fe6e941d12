from dataclasses import replace

import pytest

from fcn_trt.advice.devices import device
from fcn_trt.advice.roofline import Efficiencies, Run, layer_times, work
from fcn_trt.model.architecture import architecture
from fcn_trt.model.layers import Layer, layers

CONVOLUTION = Layer(
    name="c",
    stage="head",
    kind="convolution",
    inputs=16,
    outputs=32,
    kernel=3,
    input_size=(10, 20),
    output_size=(10, 20),
    is_normalised=True,
    is_activated=True,
)
ADDITION = replace(CONVOLUTION, name="a", kind="addition", inputs=32, is_normalised=False)
JOINED = replace(
    CONVOLUTION, name="j", kind="concatenation", inputs=32, is_normalised=False, is_activated=False
)
DEVICE = replace(
    device("t4"), tops={"fp32": 0.002, "fp16": 0.004, "int8": 0.008}, bandwidth_gb_s=0.2
)
EFFICIENCIES = Efficiencies(
    compute={
        ("pytorch", "lanes"): 0.5,
        ("pytorch", "tensor cores"): 0.25,
        ("tensorrt", "lanes"): 0.8,
        ("tensorrt", "tensor cores"): 0.4,
    },
    bandwidth={"pytorch": 0.5, "tensorrt": 0.2},
    launch_us={"pytorch": 30.0, "tensorrt": 10.0},
)
WEIGHTS = 16 * 32 * 9
READ, WRITTEN = 16 * 200, 32 * 200


def test_fused_layers_move_what_they_read_and_write():
    done = work([CONVOLUTION, ADDITION, JOINED], stack="tensorrt", precision="fp16")
    assert [entry.layer.name for entry in done] == ["c", "a"]
    assert done[0].operations == 2 * WEIGHTS * 200
    assert done[0].traffic_bytes == 2 * (WEIGHTS + READ + WRITTEN)
    # The sum is written by the convolution before; only the other tensor is read.
    assert (done[1].operations, done[1].traffic_bytes) == (0, 2 * WRITTEN)


def test_layers_as_written_move_every_tensor_again():
    done = work([CONVOLUTION, ADDITION, JOINED], stack="pytorch", precision="fp32")
    assert [entry.traffic_bytes for entry in done] == [
        4 * (WEIGHTS + READ + WRITTEN + 2 * WRITTEN + 2 * WRITTEN),
        4 * (2 * WRITTEN + WRITTEN + 2 * WRITTEN),
        4 * (WRITTEN + WRITTEN),
    ]


def test_time_is_the_longer_of_arithmetic_and_traffic_and_a_launch():
    run = Run(
        device=DEVICE,
        stack="tensorrt",
        precision="fp16",
        work=work([CONVOLUTION, ADDITION], stack="tensorrt", precision="fp16"),
        windows=3,
    )
    first, second = layer_times(run, EFFICIENCIES)
    assert first.compute_ms == pytest.approx(3 * 1e3 * 2 * WEIGHTS * 200 / (0.4 * 0.004e12))
    assert first.memory_ms == pytest.approx(3 * 1e3 * 2 * (WEIGHTS + READ + WRITTEN) / 0.04e9)
    assert first.launch_ms == pytest.approx(3 * 0.01)
    assert first.compute_ms > first.memory_ms
    assert (first.bound_by, first.total_ms) == ("compute", first.compute_ms + first.launch_ms)
    assert (second.bound_by, second.total_ms) == ("memory", second.memory_ms + second.launch_ms)
    quick = replace(EFFICIENCIES, launch_us={"pytorch": 0, "tensorrt": 1e6})
    assert layer_times(run, quick)[0].bound_by == "launch"


def test_lanes_and_tensor_cores_have_their_own_shares():
    def compute_ms(precision):
        run = Run(
            device=DEVICE,
            stack="pytorch",
            precision=precision,
            work=work([CONVOLUTION], stack="pytorch", precision=precision),
        )
        return layer_times(run, EFFICIENCIES)[0].compute_ms

    # Twice the peak at half the share: the same time.
    assert compute_ms("fp16") == pytest.approx(compute_ms("fp32"))


def test_json_and_sentences_name_every_share():
    assert EFFICIENCIES.to_dict()["compute"]["tensorrt/tensor cores"] == 0.4
    sentences = EFFICIENCIES.sentences()
    assert sentences[0].startswith("pytorch reaches 50 % of the peak of the lanes and 25 % of the ")
    assert "20 % of the bandwidth, and needs 10 us more per layer" in sentences[1]


def test_operations_are_those_of_the_network():
    counted = layers(architecture("fcn_d6_r50-d16"), size=(512, 1024), num_classes=19)
    for stack in ("pytorch", "tensorrt"):
        done = work(counted, stack=stack, precision="int8")
        assert sum(entry.operations for entry in done) / 2e9 == pytest.approx(115.7, abs=0.05)
