from dataclasses import replace

import pytest

from fcn_trt.advice.candidates import REACHES, advise
from fcn_trt.advice.data_sets import DATA_SETS
from fcn_trt.advice.devices import device, devices
from fcn_trt.advice.remarks import choices, doubts, measuring, range_facts, remarks
from fcn_trt.model.architecture import architecture
from fcn_trt.model.profile import profile
from fcn_trt.model.weights import published_for
from fcn_trt.spec import LADDER


@pytest.fixture(scope="module")
def orin():
    return advise(device("orin-nano-super"), rate_fps=30)


def test_every_model_size_and_precision_is_judged(orin):
    seen = {(c.estimate.model, c.estimate.size, c.estimate.precision) for c in orin.candidates}
    assert len(seen) == len(orin.candidates) == 8 * 3 * 4
    assert {size for _, size, _ in seen} == set(LADDER)
    assert not any("769" in name for name, *_ in seen)


def test_verdicts_are_those_of_the_range(orin):
    assert {c.verdict for c in orin.candidates} == {"fits", "may fit", "too slow"}
    for candidate in orin.candidates:
        low, high = candidate.estimate.low_fps, candidate.estimate.high_fps
        wanted = "fits" if low >= 30 else "may fit" if high >= 30 else "too slow"
        assert candidate.verdict == wanted


def test_order_is_the_one_that_is_stated(orin):
    def key(candidate):
        found = candidate.estimate
        height, width = found.size
        reach = REACHES.index(candidate.reach)
        is_quantised = found.precision in ("int8", "fp8")
        gmac = profile(architecture(found.model), size=found.size).gmac
        miou = candidate.miou or 0
        return reach, -height * width, -miou, -round(gmac, 3), is_quantised, -found.rate_fps

    assert list(orin.candidates) == sorted(orin.candidates, key=key)
    assert orin.suiting == tuple(c for c in orin.candidates if "fit" in c.verdict)


@pytest.mark.parametrize("entry", DATA_SETS, ids=lambda entry: entry.name)
def test_miou_is_the_best_published_one_on_the_data_set(entry):
    found = advise(device("thor"), rate_fps=30, dataset=entry.name)
    assert found.candidates
    for candidate in found.candidates:
        name = candidate.estimate.model
        assert candidate.published is not None
        on_it = [w for w in published_for(name) if w.measured_on == entry.measured_on]
        assert candidate.published.weights == on_it[0]
        assert candidate.published.weights.miou == max(w.miou for w in on_it)
        assert name not in found.left_out


def test_models_without_weights_on_the_data_set_are_left_out_and_told(orin):
    found = {entry.weights.model: entry.weights.miou for entry in orin.published}
    assert found["fcn_d6_r50-d16"] == 77.27
    assert found["fcn_r50-d8"] == 73.61
    assert orin.left_out == (
        *("fcn_resnet50", "fcn_resnet101", "pad_fcn_resnet101"),
        *("fcn_d6_r50b-d16", "fcn_d6_r101b-d16"),
    )
    (said,) = (line for line in remarks(orin) if "--dataset takes" in line)
    assert "models are those with weights for Cityscapes val" in said
    assert "--dataset takes ade20k, coco_voc, voc, pascal_context_60;" in said
    assert all(name in said for name in orin.left_out)
    coco = advise(device("thor"), rate_fps=30, dataset="coco_voc")
    assert {entry.weights.model: entry.weights.miou for entry in coco.published} == {
        "fcn_resnet50": 60.5,
        "fcn_resnet101": 63.7,
    }


def test_miou_is_told_for_the_size_and_types_that_it_was_published_for_alone():
    found = advise(device("thor"), rate_fps=1)
    for candidate in found.candidates:
        size, precision = candidate.estimate.size, candidate.estimate.precision
        if size == (1024, 2048) and precision in ("fp32", "fp16", "bf16"):
            assert candidate.published is not None
            assert candidate.miou == candidate.published.weights.miou
            assert candidate.describe().endswith(
                f"; mIoU {candidate.miou:g} % on Cityscapes val, published"
            )
        else:
            assert candidate.miou is None
            assert "mIoU" not in candidate.describe()
        assert candidate.to_dict()["miou"] == candidate.miou
    # Where it is known, it counts.
    first = found.candidates[0]
    assert (first.estimate.size, first.miou) == ((1024, 2048), 78.46)


@pytest.mark.parametrize("name", [entry.name for entry in devices() if entry.supported])
def test_first_choice_never_rests_on_a_miou_of_another_size(name):
    for rate in (10, 30, 60):
        found = advise(device(name), rate_fps=rate)
        first = found.candidates[0]
        assert first.miou is None or first.estimate.size == (1024, 2048)
        for said in (choices(found), doubts(found)):
            assert first.miou is not None or not any("78.46" in line for line in said)


def test_network_of_the_most_arithmetic_comes_first_at_a_size_that_nobody_published(orin):
    at_size = [c for c in orin.candidates if c.estimate.size == (512, 1024)]
    fitting = [c for c in at_size if c.reach == "fits"]
    assert fitting[0].estimate.network.macs == max(c.estimate.network.macs for c in fitting)


def test_list_has_each_model_and_size_once_in_its_preferred_type(orin):
    keys = [(c.estimate.model, c.estimate.size) for c in orin.shown]
    assert len(set(keys)) == len(keys)
    assert set(keys) == {(c.estimate.model, c.estimate.size) for c in orin.suiting}
    (r18,) = (c for c in orin.shown if (c.estimate.model, c.pixels) == ("fcn_r18-d8", 512 * 1024))
    assert (r18.estimate.precision, r18.reach) == ("fp16", "fits")


def test_command_measures_the_first_choice_on_the_device(orin):
    first = orin.candidates[0].estimate
    assert measuring(orin) == (
        f"fcn-trt bench {first.model} --size 512x1024 --precision {first.precision} "
        "--target tensorrt"
    )
    assert measuring(advise(device("nano"), rate_fps=1)) is None


def test_doubts_are_those_of_the_first_choice(orin):
    said = "\n".join(doubts(orin))
    assert "3 of the 32 published TensorRT rows are int8" in said
    assert "rows are bf16" not in said
    assert "no mIoU is published for 512x1024 in int8, so `fcn-trt eval` has to tell" in said
    slow = advise(device("orin-nano-super"), rate_fps=1, precisions=["fp32"])
    assert "fp32 of orin-nano-super is derived, not from a data sheet" in doubts(slow)


def test_classes_of_the_data_set_are_counted():
    costs = {
        name: next(
            c.estimate.latency_ms
            for c in advise(device("thor"), rate_fps=1, dataset=name).candidates
            if (c.estimate.model, c.estimate.size, c.estimate.precision)
            == ("fcn_r50-d8", (512, 1024), "fp16")
        )
        for name in ("cityscapes", "ade20k")
    }
    assert costs["ade20k"] > costs["cityscapes"]


def test_device_that_nothing_is_built_for_is_told_before_the_first_choice():
    found = advise(device("nano"), rate_fps=3)
    assert {c.verdict for c in found.candidates} == {"not supported"}
    assert {"fits", "too slow"} <= {c.reach for c in found.candidates}
    why, first, *_ = choices(found)
    assert why.startswith("nano is not supported, estimates all the same: TensorRT 8 is the last")
    assert first.startswith("first choice: ")
    slow = choices(advise(device("nano"), rate_fps=1000))
    assert slow[0] == why
    assert slow[1] == "nothing is estimated to reach 1000 frames/s"


def test_range_is_explained_with_its_figures(orin):
    facts = range_facts(orin)
    assert facts["published_share"] == 0.8
    assert facts["factor_per_doubt"] == pytest.approx(1.2214, abs=1e-4)
    for candidate in orin.candidates:
        found = candidate.estimate
        factor = facts["factors"][found.precision]
        assert found.high_fps / found.rate_fps == pytest.approx(factor)
        assert found.rate_fps / found.low_fps == pytest.approx(factor)
        assert f"{found.precision} {factor:.2f}" in facts["meaning"]
    for part in ("80 % of the published TensorRT rows", "factor of 1.22", "fits: the low end"):
        assert part in facts["meaning"]
    assert facts["meaning"] in remarks(orin)


def test_d6_of_stride_16_is_faster_than_the_dilated_of_stride_8(orin):
    found = {
        c.estimate.model: c.estimate.rate_fps
        for c in orin.candidates
        if (c.estimate.size, c.estimate.precision) == ((512, 1024), "int8")
    }
    assert found["fcn_d6_r50-d16"] > 2 * found["fcn_r50-d8"]


def test_what_needs_no_calibration_is_told_beside_what_does(orin):
    first, plain = choices(orin)
    assert first.startswith("first choice: fcn_d6_r50-d16 at 512x1024 in int8")
    assert plain.startswith("without a calibration: fcn_r18-d8 at 512x1024 in fp16")
    assert orin.largest is orin.candidates[0]


def test_least_miou_leaves_what_publishes_it_at_that_size():
    found = advise(device("agx-orin"), rate_fps=30, min_miou=77)
    assert {c.estimate.model for c in found.candidates} == {
        *("fcn_d6_r50-d16", "fcn_d6_r101-d16", "fcn_r101b-d8")
    }
    assert {c.estimate.size for c in found.candidates} == {(1024, 2048)}
    assert {c.estimate.precision for c in found.candidates} == {"fp32", "fp16", "bf16"}
    with pytest.raises(
        ValueError,
        match=r"IoU of 80 % on Cityscapes val; the best is fcn_d6_r101-d16 with 78\.46 %$",
    ):
        advise(device("agx-orin"), rate_fps=30, min_miou=80)
    for asked in ({"sizes": [(512, 1024)]}, {"precisions": ["int8"]}):
        with pytest.raises(ValueError, match="are published at 1024x2048 and for types that are"):
            advise(device("agx-orin"), rate_fps=30, min_miou=70, **asked)
    on_voc = advise(device("agx-orin"), rate_fps=30, min_miou=70, dataset="voc")
    assert {c.estimate.model for c in on_voc.candidates} == {"fcn_r101-d8"}
    assert {min(c.estimate.size) for c in on_voc.candidates} == {512}


def test_asked_sizes_and_precisions_are_the_only_ones():
    found = advise(device("t4"), rate_fps=5, sizes=[(360, 640)], precisions=["int8"])
    assert {(c.estimate.size, c.estimate.precision) for c in found.candidates} == {
        ((360, 640), "int8")
    }


def test_where_nothing_fits_the_nearest_and_what_helps_are_told():
    found = advise(device("orin-nano"), rate_fps=500, sizes=[(512, 1024)], precisions=["fp16"])
    assert found.suiting == ()
    assert found.nearest is max(found.candidates, key=lambda c: c.estimate.rate_fps)
    said = choices(found)
    assert said[0] == "nothing is estimated to reach 500 frames/s"
    assert said[1].startswith("nearest is fcn_")
    assert said[2].startswith("in int8 it is estimated at ")
    assert said[3].startswith("at 256x512 it is estimated at ")
    strict = advise(device("orin-nano"), rate_fps=500, min_miou=70)
    assert choices(strict)[2].startswith("without --min-miou there are smaller sizes and models")


def test_what_memory_does_not_hold_is_last_and_never_nearest():
    tiny = replace(device("orin-nano-super"), memory_gb=0.06)
    found = advise(tiny, rate_fps=5)
    verdicts = [c.verdict for c in found.candidates]
    assert verdicts == sorted(verdicts, key=REACHES.index)
    assert verdicts[-1] == "too large"
    none = advise(replace(tiny, memory_gb=0.001), rate_fps=5)
    assert none.nearest is None
    assert choices(none) == [
        "nothing is estimated to reach 5 frames/s",
        "nothing that was looked at fits into the memory of orin-nano-super",
    ]


def test_remarks_say_what_an_estimate_is_worth(orin):
    said = "\n".join(remarks(orin))
    assert "estimates, not measurements" in said
    assert "7.2 % on the 32 of TensorRT alone" in said
    assert "mIoU on Cityscapes val as published for 1024x2048 in FP32, and for no other" in said
    assert "fcn_d6_r101-d16 78.46 %, fcn_r101b-d8 77.37 %" in said
    assert "TensorRT 8 is the last" not in said
    assert len(choices(orin)) + len(remarks(orin)) <= 8
