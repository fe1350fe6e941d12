"""The order and the search, against brute force over sets that can be counted."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from fcn_trt.sensitivity.search import beyond, rank, shortest_prefix, without_needless


def test_most_useful_is_first_and_the_cheapest_of_equals():
    gains = {"a": 0.1, "b": 0.5, "c": 0.1, "d": -0.2, "e": 0.1}
    costs = {"a": 3.0, "b": 9.0, "c": 1.0, "d": 0.1, "e": 3.0}
    assert rank(gains, costs) == ("b", "c", "a", "e", "d")


def weights_and_bounds():
    """Gains of eight names that add up, and how much is wanted in all."""
    for seed in range(40):
        rng = np.random.default_rng(seed)
        weights = sorted(rng.integers(0, 20, size=8).tolist(), reverse=True)
        yield weights, int(rng.integers(0, sum(weights) + 3))


@pytest.mark.parametrize(("weights", "wanted"), [*weights_and_bounds()])
def test_what_adds_up_ends_in_a_smallest_set_of_all(weights, wanted):
    names = [f"n{index}" for index in range(len(weights))]
    worth = dict(zip(names, weights, strict=True))
    asked = []

    def holds(kept):
        asked.append(kept)
        return sum(worth[name] for name in kept) >= wanted

    length = shortest_prefix(names, holds)
    sizes = [
        size
        for size in range(len(names) + 1)
        if any(sum(worth[n] for n in chosen) >= wanted for chosen in combinations(names, size))
    ]
    assert length == (min(sizes) if sizes else None)
    assert len(asked) <= 8  # of 9 prefixes, in a binary search
    if length is not None:
        kept = without_needless(names[:length], holds)
        assert len(kept) == length  # of a smallest set none can be dropped


def test_members_that_others_make_needless_are_dropped():
    order = ["a", "b", "c", "d"]

    def holds(kept):
        return {"b", "d"} <= kept

    assert shortest_prefix(order, holds) == 4
    assert without_needless(order, holds) == ("b", "d")


def test_prefix_that_is_found_is_measured_and_so_is_the_shorter_one():
    # More in float is worse at 3 here, as it can be with mean IoU; 5 to 7 hold as well.
    asked = {}

    def holds(kept):
        asked[len(kept)] = len(kept) in (2, 5, 6, 7)
        return asked[len(kept)]

    length = shortest_prefix([f"n{index}" for index in range(7)], holds)
    assert length == 2
    assert asked == {0: False, 1: False, 2: True}


def test_nothing_is_enough_when_not_even_all_are():
    asked = []

    def holds(kept):
        asked.append(len(kept))
        return False

    assert shortest_prefix(["a", "b", "c"], holds) is None
    assert asked == [0, 1, 2, 3]


def always(kept):
    return True


def never(kept):
    return False


def test_empty_set_that_holds_ends_the_search():
    assert shortest_prefix(["a", "b"], always) == 0
    assert shortest_prefix([], never) is None
    assert without_needless([], never) == ()


def test_few_longer_prefixes_lie_beyond():
    assert beyond(0, 10) == [1, 2, 4]
    assert beyond(7, 10) == [8, 9]
    assert beyond(10, 10) == []
