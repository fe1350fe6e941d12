from dataclasses import replace

import pytest

from fcn_trt.advise.advice import LADDER, VERDICTS, advise
from fcn_trt.advise.devices import device
from fcn_trt.advise.remarks import choices, remarks
from fcn_trt.export.weights import published_for


@pytest.fixture(scope="module")
def orin():
    return advise(device("orin-nano-super"), rate_fps=30)


def test_every_model_size_and_precision_is_judged(orin):
    seen = {(c.estimate.arch.name, c.estimate.size, c.estimate.precision) for c in orin.candidates}
    assert len(seen) == len(orin.candidates) == 13 * 3 * 4
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
        miou = candidate.weights.miou if candidate.weights else -1
        height, width = candidate.estimate.size
        verdict = VERDICTS.index(candidate.verdict)
        return verdict, -miou, -height * width, -candidate.estimate.rate_fps

    assert list(orin.candidates) == sorted(orin.candidates, key=key)
    assert orin.suiting == tuple(c for c in orin.candidates if "fit" in c.verdict)


def test_miou_is_the_best_published_one(orin):
    for candidate in orin.candidates:
        weights = published_for(candidate.estimate.arch.name)
        assert candidate.weights == (weights[0] if weights else None)
    found = {c.estimate.arch.name: c.weights for c in orin.candidates}
    assert found["fcn_d6_r50-d16"].miou == 77.27
    assert found["fcn_r50-d8"].miou == 73.61
    assert found["pad_fcn_resnet101"] is None


def test_d6_of_stride_16_comes_before_the_dilated_of_stride_8(orin):
    names = [c.estimate.arch.name for c in orin.suiting]
    assert names.index("fcn_d6_r50-d16") < names.index("fcn_r50-d8")
    found = {
        c.estimate.arch.name: c.estimate.rate_fps
        for c in orin.candidates
        if (c.estimate.size, c.estimate.precision) == ((512, 1024), "int8")
    }
    assert found["fcn_d6_r50-d16"] > 2 * found["fcn_r50-d8"]


def test_largest_size_that_fits_is_told(orin):
    first, largest = choices(orin)
    assert first.startswith("first choice: fcn_d6_r101-d16 at 256x512")
    assert largest.startswith("largest size that fits: fcn_d6_r50-d16 at 512x1024 in int8")
    assert orin.largest.verdict == "fits"
    assert "mIoU 77.27 % on Cityscapes val" in largest


def test_least_miou_leaves_out_what_publishes_less_or_nothing():
    found = advise(device("agx-orin"), rate_fps=30, min_miou=77)
    assert {c.estimate.arch.name for c in found.candidates} == {
        *("fcn_d6_r50-d16", "fcn_d6_r101-d16", "fcn_r101b-d8")
    }
    with pytest.raises(
        ValueError, match=r"mean IoU of 80 %; the best is fcn_d6_r101-d16 with 78\.46 % on Citys"
    ):
        advise(device("agx-orin"), rate_fps=30, min_miou=80)


def test_asked_sizes_and_precisions_are_the_only_ones():
    found = advise(device("t4"), rate_fps=5, sizes=[(360, 640)], precisions=["int8"])
    assert {(c.estimate.size, c.estimate.precision) for c in found.candidates} == {
        ((360, 640), "int8")
    }


def test_where_nothing_fits_the_nearest_and_what_helps_are_told():
    found = advise(
        device("orin-nano"), rate_fps=500, sizes=[(512, 1024)], precisions=["fp16"], min_miou=70
    )
    assert found.suiting == ()
    assert found.nearest is max(found.candidates, key=lambda c: c.estimate.rate_fps)
    said = choices(found)
    assert said[0] == "nothing is estimated to reach 500 frames/s"
    assert said[1].startswith("nearest is fcn_")
    assert said[2].startswith("in int8 it is estimated at ")
    assert said[3].startswith("at 256x512 it is estimated at ")
    assert said[4] == "without --min-miou there are models that cost less"


def test_what_memory_does_not_hold_is_last_and_never_nearest():
    tiny = replace(device("orin-nano-super"), memory_gb=0.06)
    found = advise(tiny, rate_fps=5)
    verdicts = [c.verdict for c in found.candidates]
    assert verdicts == sorted(verdicts, key=VERDICTS.index)
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
    assert "no TensorRT measurement of an FCN on orin-nano-super is published" in said
    assert "published TensorRT rows are int8" in said
    assert "derived or unsure for this device: fp32, bf16" in said
    assert "TensorRT 8 is the last" not in said
    nano = "\n".join(remarks(advise(device("nano"), rate_fps=30)))
    assert "nano: TensorRT 8 is the last for it" in nano
