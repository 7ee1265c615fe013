# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Cutting clips into windows, plain and shifted ones."""

import math
from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

Size3D = tuple[int, int, int]


def split_windows(x: Tensor, window: Size3D) -> Tensor:
    """Cut a clip into windows, shape (N, windows, t*h*w, C).

    Args:
        x (Tensor): Shape (N, T, h, w, C), sides divisible by the window's.
        window (tuple[int, int, int]): Window size (t, h, w).
    """
    n, t, h, w, c = x.shape
    a, b, d = window
    x = x.view(n, t // a, a, h // b, b, w // d, d, c)
    x = x.permute(0, 1, 3, 5, 2, 4, 6, 7)
    return x.reshape(n, -1, a * b * d, c)


def join_windows(
    windows: Tensor, window: Size3D, shape: Sequence[int]
) -> Tensor:
    """Undo :func:`split_windows`; ``shape`` is that of the clip."""
    n, t, h, w, c = shape
    a, b, d = window
    x = windows.view(n, t // a, h // b, w // d, a, b, d, c)
    return x.permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(n, t, h, w, c)


class WindowPlan(NamedTuple):
    """How the clips of a stage are cut into windows.

    A cyclic shift brings the first tokens of an axis into its last window,
    beside tokens that are not their neighbours. So there are at most eight
    kinds of windows: on each axis the last one, or another.

    Attributes:
        window (tuple[int, int, int]): Window size (t, h, w).
        shift (tuple[int, int, int]): Cyclic shift of each axis.
        padding (tuple[int]): Zeros around the clip, for ``F.pad``.
        counts (list[int]): Windows of each kind.
        masks (list[Tensor | None]): For each kind, True where two tokens of
            a window may attend to one another, shape (P, P); None where all
            may.
        order (Tensor, optional): The windows, those of a kind side by side,
            int64; None where there is one kind.
        inverse (Tensor, optional): Undoes it.
    """

    window: Size3D
    shift: Size3D
    padding: tuple[int, ...]
    counts: list[int]
    masks: list[Tensor | None]
    order: Tensor | None
    inverse: Tensor | None


def plan_windows(
    size: Size3D, window: Size3D, shifted: bool, device: torch.device
) -> WindowPlan:
    """Plan the windows of the clips of a stage.

    Args:
        size (tuple[int, int, int]): Unpadded (T, h, w).
        window (tuple[int, int, int]): Largest window. An axis shorter than
            it is one window, not shifted.
        shifted (bool): Whether windows are shifted by half their size.
        device (torch.device): Where to put masks and order.

    Returns:
        WindowPlan: The plan.
    """
    shift = tuple(
        side // 2 if shifted and length > side else 0
        for length, side in zip(size, window, strict=True)
    )
    window = tuple(map(min, size, window))
    pad_t, pad_h, pad_w = (
        -length % side for length, side in zip(size, window, strict=True)
    )
    grid = [-(-a // b) for a, b in zip(size, window, strict=True)]
    numbers = torch.arange(math.prod(grid), device=device).view(grid)
    last, others = slice(-1, None), slice(None, -1)
    masks, members = [], []
    for kind in product(
        *((others, last) if step else (slice(None),) for step in shift)
    ):
        # what was wrapped around, a binary digit for each axis
        wrapped = torch.zeros(1, 1, 1, device=device)
        for axis in range(3):
            view = [1, 1, 1]
            view[axis] = -1
            place = torch.arange(window[axis], device=device).view(view)
            first = window[axis] - (shift[axis] if kind[axis] is last else 0)
            wrapped = wrapped * 2 + (place >= first)
        wrapped = wrapped.flatten()
        masks.append(wrapped[:, None] == wrapped if last in kind else None)
        members.append(numbers[kind].flatten())
    order = torch.cat(members) if len(members) > 1 else None
    return WindowPlan(
        window,
        shift,
        (0, 0, 0, pad_w, 0, pad_h, 0, pad_t),
        [len(member) for member in members],
        masks,
        order,
        None if order is None else order.argsort(),
    )
