"""Which convolutions to keep in float: an order of them, and the smallest set that is enough.

Pure functions over a callback that measures; nothing here knows what a network is.

The order is by agreement with FP32 and not by mean IoU, also where there are labels: of a few
images mean IoU moves by chance as much as a convolution changes it, as one small object counts as
much as the road, and a pixel that changes from one wrong class to another does not count at all.
What has to hold is what was asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

__all__ = ["BEYOND", "beyond", "rank", "shortest_prefix", "without_needless"]

Holds = Callable[[frozenset[str]], bool]
"""Whether the network is good enough with these convolutions in float."""

BEYOND = 3
"""How many larger sets are measured to show what more would bring."""


def rank(gains: Mapping[str, float], costs: Mapping[str, float]) -> tuple[str, ...]:
    """Names by what keeping each in float gains; of equals, the cheapest first.

    Args:
        gains: By name, the larger the better.
        costs: By name, such as GMAC.
    """
    return tuple(sorted(gains, key=lambda name: (-gains[name], costs[name])))


def shortest_prefix(order: Sequence[str], holds: Holds) -> int | None:
    """How many of the first names are enough.

    The number is doubled until it holds and then halved into. Both ends are measured: the prefix
    that is found holds, and the one that is shorter by one does not. Where more in float is never
    worse, no shorter prefix holds.

    Args:
        order: The names, the most useful first.

    Returns:
        The length of the prefix, or None where not even all of them are enough.
    """
    if holds(frozenset()):
        return 0
    fails, length = 0, 1
    while not holds(frozenset(order[:length])):
        if length >= len(order):
            return None
        fails, length = length, min(2 * length, len(order))
    while length - fails > 1:
        middle = (fails + length) // 2
        if holds(frozenset(order[:middle])):
            length = middle
        else:
            fails = middle
    return length


def without_needless(order: Sequence[str], holds: Holds) -> tuple[str, ...]:
    """Drop every name that is not needed, each of which is tried once.

    Args:
        order: A set that holds, the most useful first; tried from the least useful on.

    Returns:
        The rest, in the same order. Where more in float is never worse, none of it can be dropped.
    """
    kept = tuple(order)
    for name in reversed(order):
        fewer = tuple(other for other in kept if other != name)
        if holds(frozenset(fewer)):
            kept = fewer
    return kept


def beyond(length: int, count: int) -> list[int]:
    """Lengths of a few longer prefixes, each step twice as large as the one before.

    Args:
        length: Of the prefix that holds.
        count: How many names there are.
    """
    steps = [length + 2**step for step in range(BEYOND)]
    return [longer for longer in steps if longer <= count]
