# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Threads that prepare frames for the network, and write its results.

Queues are bounded, so the slowest of the threads sets the pace. An error in
one of them ends all and is raised in the caller.
"""

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any, Generic, TypeVar

Item = TypeVar('Item')

#: Bytes of frames that a queue may hold.
QUEUE_BYTES = 256 * 2**20

_END = object()


class _Slots:
    """A bounded queue that Ctrl-C cannot leave locked.

    The locks of :class:`queue.Queue` are acquired in Python: an interrupt
    right after that leaves them locked, and every thread waiting.
    """

    def __init__(self, depth: int) -> None:
        self._items: queue.SimpleQueue = queue.SimpleQueue()
        self._free: queue.SimpleQueue = queue.SimpleQueue()
        for _ in range(depth):
            self._free.put(None)

    def put(self, item: Any, timeout: float | None = None) -> None:
        """Add an item; waits while full, raises queue.Empty after timeout."""
        self._free.get(timeout=timeout)
        self._items.put(item)

    def put_at_once(self, item: Any) -> None:
        """Add an item without waiting, even to a full queue."""
        self._items.put(item)

    def get(self) -> Any:
        """Take the oldest item; waits for one."""
        item = self._items.get()
        self._free.put(None)
        return item


def prefetch(items: Iterable[Item], depth: int) -> Iterator[Item]:
    """Iterate in a thread, at most ``depth`` items ahead of the consumer.

    Yields:
        The items. An error of the thread is raised here, after the items
        before it. When the consumer stops early, so does the thread.
    """
    slots = _Slots(depth)
    stopped = threading.Event()

    def put(item: Any, error: BaseException | None = None) -> None:
        while not stopped.is_set():
            with suppress(queue.Empty):
                slots.put((item, error), timeout=0.1)
                break

    def work() -> None:
        try:
            for item in items:
                put(item)
                if stopped.is_set():
                    return
                del item
            put(_END)
        except BaseException as error:
            put(_END, error)

    thread = threading.Thread(target=work, name='prefetch', daemon=True)
    thread.start()
    try:
        while True:
            item, error = slots.get()
            if error is not None:
                raise error
            if item is _END:
                return
            yield item
            del item
    finally:
        stopped.set()
        thread.join()


class BackgroundWriter(Generic[Item]):
    """Hand items to a function that runs in a thread, in order.

    It is a context manager. Leaving it waits until all items are written; if
    it is left by an error, those still queued are dropped. An error of the
    function is raised by the next :meth:`put` or on leaving.

    Args:
        write (Callable): Takes an item.
        depth (int): Items that may wait.
    """

    def __init__(self, write: Callable[[Item], object], depth: int) -> None:
        self._write = write
        self._slots = _Slots(depth)
        self._error: BaseException | None = None
        self._dropping = False
        # Thread.join() cannot be repeated after an interrupt in Python 3.11
        self._done: queue.SimpleQueue = queue.SimpleQueue()
        self._thread = threading.Thread(
            target=self._work, name='write', daemon=True
        )

    def _work(self) -> None:
        while (item := self._slots.get()) is not _END:
            if not self._dropping:
                try:
                    self._write(item)
                except BaseException as error:
                    # go on emptying the queue, or put() would wait for ever
                    self._error = error
                    self._dropping = True
            del item
        self._done.put(None)

    def _finish(self) -> None:
        """Wait until the thread writes no more."""
        self._slots.put_at_once(_END)
        self._done.get()

    def put(self, item: Item) -> None:
        """Queue an item; waits while the queue is full."""
        if self._error is not None:
            raise self._error
        self._slots.put(item)

    def __enter__(self) -> 'BackgroundWriter[Item]':
        self._thread.start()
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        self._dropping = self._dropping or error is not None
        try:
            self._finish()
        except BaseException:
            # Ctrl-C; the thread must end before its files are closed
            self._dropping = True
            self._finish()
            raise
        self._thread.join()
        if self._error is not None and error is None:
            raise self._error


def queue_depth(window: int, frame_bytes: int) -> int:
    """Return how many frames a queue may hold, at least 2.

    Enough to fill a window while the network works on another; fewer of large
    frames.
    """
    return max(2, min(window, QUEUE_BYTES // max(1, frame_bytes)))
