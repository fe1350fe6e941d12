import math
from dataclasses import replace

import pytest

from fcn_trt.advice.calibrated import compare_published, fitted
from fcn_trt.advice.devices import device
from fcn_trt.advice.estimate import EXTRA, doubt, estimate, rate_text
from fcn_trt.advice.fit import seconds
from fcn_trt.advice.network import ModelNetwork
from fcn_trt.advice.roofline import Run, work
from fcn_trt.model.architecture import ARCHITECTURES, architecture
from fcn_trt.model.layers import layers
from fcn_trt.model.profile import profile


def judged(name="orin-nano-super", model="fcn_d6_r50-d16", size=(512, 1024), precision="fp16"):
    return estimate(device(name), counted(model, size), precision=precision)


def counted(model, size, labels=None):
    return ModelNetwork(architecture(model), labels).at(size)


def test_estimate_is_the_fit_s():
    found = judged()
    known = layers(architecture("fcn_d6_r50-d16"), size=(512, 1024), num_classes=19)
    run = Run(
        device=device("orin-nano-super"),
        stack="tensorrt",
        precision="fp16",
        work=work(known, stack="tensorrt", precision="fp16"),
    )
    (wanted,) = seconds([run], fitted())
    assert found.latency_ms == pytest.approx(1e3 * wanted)
    assert found.rate_fps == pytest.approx(1 / wanted)
    gmac = sum(layer.work.operations for layer in found.layers) / 2e9
    assert gmac == pytest.approx(profile(architecture(found.model), size=(512, 1024)).gmac)


def test_range_is_about_the_estimate():
    found = judged()
    assert found.low_fps < found.rate_fps < found.high_fps
    assert found.low_fps * found.high_fps == pytest.approx(found.rate_fps**2)
    text = found.describe()
    assert text.startswith("fcn_d6_r50-d16 at 512x1024 in fp16: estimated ")
    assert found.to_dict()["low_fps"] == found.low_fps


@pytest.mark.parametrize("model", ARCHITECTURES)
def test_less_work_is_never_slower(model):
    small, large = (judged(model=model, size=size) for size in ((256, 512), (512, 1024)))
    assert small.rate_fps > large.rate_fps
    assert small.memory_bytes < large.memory_bytes
    assert judged(model=model, precision="int8").rate_fps > large.rate_fps
    assert judged("agx-orin", model=model).rate_fps > large.rate_fps


def test_no_estimate_beats_the_peak():
    for name in ("nano", "orin-nano", "thor", "h200"):
        found = judged(name)
        operations = sum(layer.work.operations for layer in found.layers)
        assert operations * found.rate_fps < 1.1 * found.device.tops["fp16"] * 1e12


def test_range_holds_four_fifths_of_what_is_published():
    """Each device weighs the same; devices left out, as for one that nobody measured."""
    rows = [row for row in compare_published().rows if row.measurement.stack == "tensorrt"]
    names = [row.measurement.device for row in rows]
    for name, ratio in (("orin-nano", "ratio_without_device"), ("agx-xavier", "ratio")):
        factor = _without_extras(doubt(device(name), "fp16"), name)
        inside, strictly = (
            sum(
                1 / names.count(row.measurement.device)
                for row in rows
                if abs(math.log(getattr(row, ratio))) <= math.log(factor) + slack
            )
            / len(set(names))
            for slack in (1e-9, -1e-9)
        )
        # No wider than it need be: without the row at its end it would hold less.
        assert strictly < 0.8 <= inside


def test_each_further_doubt_widens_a_range_by_a_fifth_of_a_logarithm():
    """The one figure of a range that is judged: 1.22, as the remarks say."""
    alone, joined = doubt(device("agx-xavier"), "fp16"), doubt(device("agx-xavier"), "int8")
    widened = math.log(joined.factor) ** 2 - math.log(alone.factor) ** 2
    assert math.exp(math.sqrt(widened)) == pytest.approx(1.2214, abs=1e-4)


def test_what_a_network_has_that_no_published_one_has_widens_the_range():
    plain, odd = (doubt(device("agx-xavier"), "fp16", others) for others in ((), ("it has X",)))
    assert odd.reasons == ("it has X",)
    assert math.log(odd.factor) ** 2 - math.log(plain.factor) ** 2 == pytest.approx(EXTRA**2)


def _without_extras(found, name):
    extras = 1 if name == "orin-nano" else 0
    return math.exp(math.sqrt(math.log(found.factor) ** 2 - extras * EXTRA**2))


def test_each_reason_widens_the_range():
    measured, orin = device("agx-xavier"), device("orin-nano-super")
    assert doubt(measured, "fp16").reasons == ()
    assert len(doubt(measured, "int8").reasons) == 1
    assert len(doubt(orin, "fp16").reasons) == 2
    assert len(doubt(orin, "int8").reasons) == 3
    factors = [doubt(measured, "fp16"), doubt(orin, "fp16"), doubt(orin, "int8")]
    assert 1 < factors[0].factor < factors[1].factor < factors[2].factor < 2
    assert doubt(measured, "int8").factor > doubt(measured, "fp16").factor
    # Independent reasons: their squares add up.
    squares = [math.log(found.factor) ** 2 for found in factors]
    assert squares[2] - squares[1] == pytest.approx(EXTRA**2)
    # A GPU of a measured capability is no stranger, though nobody measured it.
    assert len(doubt(device("rtx-2080-ti"), "fp16").reasons) == 1


def test_precision_that_a_device_lacks_is_refused():
    with pytest.raises(ValueError, match="nano does not compute in int8, only in fp32, fp16"):
        judged("nano", precision="int8")


def test_more_classes_cost_more():
    few, many = (
        estimate(
            device("agx-orin"), counted("fcn_r50-d8", (512, 1024), labels), precision="fp16"
        ).latency_ms
        for labels in (None, "ade20k")
    )
    assert few < many < 1.1 * few


def test_memory_is_that_of_the_precision():
    fp32, int8 = (judged(precision=precision).memory_bytes for precision in ("fp32", "int8"))
    assert fp32 == 4 * int8
    parameters = profile(architecture("fcn_d6_r50-d16"), size=(512, 1024)).parameters
    assert int8 > parameters


def test_memory_that_is_not_there_is_seen():
    small = replace(device("nano"), memory_gb=0.1)
    found = estimate(small, counted("fcn_r101-d8", (512, 1024)), precision="fp16")
    assert not found.fits_memory
    assert judged().fits_memory


def test_rates_are_no_finer_than_an_estimate_is_worth():
    assert [rate_text(rate) for rate in (0.0991, 4.56, 12.3, 480.4)] == [
        "0.099",
        "4.6",
        "12",
        "480",
    ]
