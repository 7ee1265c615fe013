# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Cutting clips into windows, plain and shifted ones."""

import math
from collections.abc import Callable, Sequence
from itertools import product
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from referformer.utils.precision import at_least_float32, without_autocast
from referformer.utils.sizes import (
    Size,
    larger,
    multiples,
    named,
    smaller,
    with_size,
)

Size3D = tuple[Size, Size, Size]

#: Channels of the first stage up to which a Swin Transformer attends in
#: float32 on GPUs under autocast: those of the tiny and the small one.
_NARROW = 96


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
        volume (int): Tokens P of a window.
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
    volume: Size
    padding: tuple[int, ...]
    counts: list[int]
    masks: list[Tensor | None]
    order: Tensor | None
    inverse: Tensor | None


def plan_windows(
    size: Size3D, window: Size3D, shifted: bool, device: torch.device
) -> WindowPlan:
    """Plan the windows of the clips of a stage of Video Swin.

    Args:
        size (tuple[int, int, int]): Unpadded (T, h, w).
        window (tuple[int, int, int]): Largest window. An axis shorter than
            it is one window, not shifted.
        shifted (bool): Whether windows are shifted by half their size.
        device (torch.device): Where to put masks and order.

    Returns:
        WindowPlan: The plan.
    """
    shift = (0, 0, 0)
    if shifted:  # 0 where there is one window, or half a window
        shift = tuple(
            named(smaller(larger(length - side, 0) * side, side // 2), 0)
            for length, side in zip(size, window, strict=True)
        )
    most = math.prod(window)
    window = tuple(map(named, map(smaller, size, window)))
    return lay_windows(size, window, shift, device, most)


def lay_windows(
    size: Size3D,
    window: Size3D,
    shift: Size3D,
    device: torch.device,
    most: int | None = None,
) -> WindowPlan:
    """Plan windows of a given size and shift.

    The sizes may be symbolic, as they are while the model is exported. What
    follows from them is then written so that it holds for all of them.

    Args:
        size (tuple[int, int, int]): Unpadded (T, h, w).
        window (tuple[int, int, int]): Window (t, h, w).
        shift (tuple[int, int, int]): Cyclic shift of each axis.
        device (torch.device): Where to put masks and order.
        most (int, optional): Tokens of the largest window.

    Returns:
        WindowPlan: The plan.
    """
    grid = list(map(multiples, size, window))
    pad_t, pad_h, pad_w = (
        count * side - length
        for count, side, length in zip(grid, window, size, strict=True)
    )
    numbers = torch.arange(math.prod(grid), device=device).view(grid)
    volume = named(math.prod(window), 1, most)
    last, others = slice(-1, None), slice(None, -1)
    masks, members = [], []
    for kind in product(
        *(
            (slice(None),) if _is_zero(step) else (others, last)
            for step in shift
        )
    ):
        # what was wrapped around, a binary digit for each axis
        wrapped = torch.zeros(1, 1, 1, device=device)
        for axis in range(3):
            view = [1, 1, 1]
            view[axis] = -1
            place = torch.arange(window[axis], device=device).view(view)
            first = window[axis] - (shift[axis] if kind[axis] is last else 0)
            wrapped = wrapped * 2 + (place >= first)
        wrapped = with_size(wrapped.flatten(), 0, volume)
        masks.append(wrapped[:, None] == wrapped if last in kind else None)
        member = numbers[kind].flatten()
        members.append(with_size(member, 0, named(member.shape[0], 0)))
    order = inverse = None
    if len(members) > 1:
        order = torch.cat(members)
        inverse = with_size(order.argsort(), 0, numbers.numel())
    return WindowPlan(
        window,
        shift,
        volume,
        (0, 0, 0, pad_w, 0, pad_h, 0, pad_t),
        [member.shape[0] for member in members],
        masks,
        order,
        inverse,
    )


def _is_zero(step: Size) -> bool:
    """Whether a shift is 0 in every case."""
    return isinstance(step, int) and step == 0


def _roll(x: Tensor, shift: Size3D) -> Tensor:
    """Shift (N, T, h, w, C) cyclically along the axes in the middle."""
    for axis, step in enumerate(shift, 1):
        if not isinstance(step, int):
            side = x.shape[axis]
            places = torch.arange(side, device=x.device) + (side - step)
            x = x.index_select(axis, places % side)
        elif step:
            x = x.roll(step, axis)
    return x


def attend_in_windows(
    x: Tensor,
    plan: WindowPlan,
    attend: Callable[[Tensor, Tensor | None], Tensor],
) -> Tensor:
    """Cut a clip into windows, attend inside them, and put it together.

    Args:
        x (Tensor): Shape (N, T, h, w, C).
        plan (WindowPlan): Of its size.
        attend (Callable): Takes tokens (W, P, C) of W windows and the mask
            of their kind, returns tokens of the same shape.

    Returns:
        Tensor: Shape (N, T, h, w, C).
    """
    size = x.shape[1:4]
    x = F.pad(x, plan.padding)
    x = _roll(x, tuple(-step for step in plan.shift))
    windows = split_windows(x, plan.window)
    windows = with_size(windows, 2, plan.volume)
    if plan.order is not None:
        windows = windows.index_select(1, plan.order)
    out = torch.cat(
        [
            attend(part.flatten(0, 1), mask).unflatten(0, (x.shape[0], -1))
            for part, mask in zip(
                windows.split(plan.counts, 1), plan.masks, strict=True
            )
        ],
        1,
    )
    if plan.order is not None:
        out = out.index_select(1, plan.inverse)
    out = with_size(out, 2, math.prod(plan.window))
    out = _roll(join_windows(out, plan.window, x.shape), plan.shift)
    return out[:, : size[0], : size[1], : size[2]]


def is_narrow(embed_dims: int) -> bool:
    """Whether a Swin Transformer with so many channels is precise on GPUs."""
    return embed_dims <= _NARROW


def attend_precisely(
    attend: Callable[[Tensor, Tensor | None], Tensor],
    tokens: Tensor,
    mask: Tensor | None,
    narrow: bool,
) -> Tensor:
    """Attend in float32 under an autocast, where that costs little.

    Of what bfloat16 rounds in a Swin Transformer, the attention moves mask
    pixels most. On GPUs, wide networks follow the autocast nevertheless:
    there products take the time (docs/performance.md has the figures).

    Args:
        attend (Callable): See :func:`attend_in_windows`.
        tokens (Tensor): Shape (W, P, C).
        mask (Tensor, optional): Handed over.
        narrow (bool): Of the network, see :func:`is_narrow`.

    Returns:
        Tensor: Shape (W, P, C).
    """
    if not narrow and tokens.device.type != 'cpu':
        return attend(tokens, mask)
    with without_autocast(tokens):
        return attend(at_least_float32(tokens), mask)
