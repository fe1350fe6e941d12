"""Every committed file is read within the bounds, and ends as its reader says."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="needs the extra: pip install 'fcn-trt[export]'")

from tests.fuzz.corpus import CORPUS, committed
from tests.fuzz.judge import judge
from tests.fuzz.targets import TARGETS

FILES = [
    pytest.param(target, path, id=f"{target}-{path.name}")
    for target in TARGETS
    for path in committed(target)
]


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(("target", "path"), FILES)
def test_a_file_is_accepted_or_refused_within_bounds(target, path):
    verdict = judge(TARGETS[target], path.read_bytes())
    assert verdict.fault is None, verdict.trace
    assert verdict.refusal is None or not path.name.startswith("seed-")


def test_each_folder_is_a_targets_and_begins_with_a_seed():
    assert {path.name for path in CORPUS.iterdir()} == set(TARGETS)
    for target in TARGETS:
        assert any(path.name.startswith("seed-") for path in committed(target)), target
