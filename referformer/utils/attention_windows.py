# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Positions inside the windows of Swin transformers."""

from itertools import product

import torch
from torch import Tensor


def relative_position_index(window: tuple[int, int, int]) -> Tensor:
    """Return the row of the bias table for each pair of tokens of a window.

    The window has P = t*h*w tokens; the index is int64 of shape (P, P).
    """
    coords = torch.tensor(list(product(*map(range, window))))
    offset = coords[:, None] - coords[None]  # [P, P, 3]
    offset = offset + torch.tensor([side - 1 for side in window])
    stride_w = 2 * window[2] - 1
    stride_h = stride_w * (2 * window[1] - 1)
    return offset @ torch.tensor([stride_h, stride_w, 1])
