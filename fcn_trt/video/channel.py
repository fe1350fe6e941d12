"""A bounded queue that can end: by the giver, or by anyone, at once."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

__all__ = ["Channel"]

T = TypeVar("T")


class Channel(Generic[T]):
    """Hands items from one thread to another, and never leaves either of them waiting for nothing.

    queue.Queue knows no end, so a thread in its `put` waits for ever once nobody takes.

    Args:
        size: Items that wait at most, at least 1.

    Attributes:
        dropped: Items that `put_latest` threw away.
    """

    def __init__(self, size: int) -> None:
        if size < 1:
            raise ValueError(f"queue size {size} is not at least 1")
        self.dropped = 0
        self._size = size
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._is_finished = False
        self._is_stopped = False

    def put(self, item: T) -> bool:
        """Wait for room and add an item.

        Returns:
            False if the channel was stopped, so that there is no use in going on.
        """
        with self._changed:
            while len(self._items) >= self._size and not self._is_stopped:
                self._changed.wait()
            return self._add(item)

    def put_latest(self, item: T) -> bool:
        """Add an item at once, in place of the oldest if there is no room.

        Returns:
            False if the channel was stopped.
        """
        with self._changed:
            if len(self._items) >= self._size:
                self._items.popleft()
                self.dropped += 1
            return self._add(item)

    def finish(self) -> None:
        """Say that nothing more will be added; what is there can still be taken."""
        with self._changed:
            self._is_finished = True
            self._changed.notify_all()

    def stop(self) -> None:
        """End both sides at once; what is there is thrown away."""
        with self._changed:
            self._is_stopped = True
            self._items.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[T]:
        """Take items until the channel is finished and empty, or stopped."""
        while True:
            with self._changed:
                while not (self._items or self._is_finished or self._is_stopped):
                    self._changed.wait()
                if not self._items:
                    return
                item = self._items.popleft()
                self._changed.notify_all()
            yield item

    def _add(self, item: T) -> bool:
        if not self._is_stopped:
            self._items.append(item)
            self._changed.notify_all()
        return not self._is_stopped
