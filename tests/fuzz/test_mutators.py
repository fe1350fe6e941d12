"""What mutators make differs, is the same for the same seed, and gets past the first checks."""

from __future__ import annotations

from random import Random

import pytest

pytest.importorskip("torch", reason="needs the extra: pip install 'fcn-trt[export]'")

from tests.fuzz.corpus import committed
from tests.fuzz.judge import judge
from tests.fuzz.mutation import some_bytes
from tests.fuzz.targets import TARGETS

ROUNDS = 40


def made(target, data, seed):
    random = Random(seed)
    return TARGETS[target].mutate(data, random, lambda part: some_bytes(part, random))


def first(target, name="seed-"):
    return next(p for p in committed(target) if p.name.startswith(name)).read_bytes()


@pytest.mark.parametrize("target", TARGETS)
def test_a_mutator_makes_the_same_of_the_same_seed_and_hardly_ever_nothing(target):
    data = first(target, "small" if target == "checkpoint" else "seed-")
    several = [made(target, data, seed) for seed in range(ROUNDS)]
    assert several == [made(target, data, seed) for seed in range(ROUNDS)]
    assert len(set(several)) > ROUNDS / 2


@pytest.mark.parametrize(
    ("target", "shallow"),
    [
        ("manifest", ("damaged", "altered")),
        ("calibration", ("damaged", "altered")),
        ("onnx", ("as ONNX",)),
        ("safetensors", ("deserializing header",)),
    ],
)
def test_much_of_what_a_mutator_makes_gets_past_the_first_check(target, shallow):
    data = first(target)
    verdicts = [judge(TARGETS[target], made(target, data, seed)) for seed in range(ROUNDS)]
    refused = [v.refusal for v in verdicts if v.refusal]
    deep = [text for text in refused if not any(word in text for word in shallow)]
    assert len(deep) + ROUNDS - len(refused) > ROUNDS / 3, refused
