# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Cutting a stream into windows."""

from collections.abc import Iterable, Iterator
from typing import Generic, NamedTuple, TypeVar

Item = TypeVar('Item')


class Window(NamedTuple, Generic[Item]):
    """Consecutive frames.

    Attributes:
        number (int): Its number in the video, from 0.
        frames (list): Its frames.
        start (int): First frame whose result is taken from this window.
        stop (int): End of these frames; the results of those before
            ``start`` and from ``stop`` on are taken from its neighbours.
    """

    number: int
    frames: list[Item]
    start: int
    stop: int


def cut_windows(
    frames: Iterable[Item], length: int, overlap: int = 0, first: int = 0
) -> Iterator[Window[Item]]:
    """Cut a stream into windows; the last may be shorter.

    The result of a frame that two windows share is taken from the window
    whose middle is nearer.

    Args:
        frames (Iterable): The stream.
        length (int): Frames of a window.
        overlap (int): Frames that neighbours share, less than ``length``.
        first (int): Number of the first window, with whose first frame the
            stream begins.

    Yields:
        Window: The windows in order.
    """
    number = first
    window: list[Item] = []
    before = overlap // 2 if first else 0
    after = 0
    for frame in frames:
        if len(window) == length:
            # there is a next one, so the end is left to it
            after = length - (overlap - overlap // 2)
            yield Window(number, window, before, after)
            window = window[length - overlap :]
            before = overlap // 2
            number += 1
        window.append(frame)
        del frame
    if window:
        yield Window(number, window, before, len(window))
