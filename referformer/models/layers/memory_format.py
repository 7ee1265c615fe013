# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""The memory layout that is fastest for convolutions."""

import torch
from torch import Tensor


def suit_convolutions(images: Tensor) -> Tensor:
    """Lay out images so that convolutions need not rearrange them.

    That is channels last on CPUs (oneDNN), outside of training: a backward
    pass of PyTorch 2.13 writes beyond its memory in this layout.
    """
    if images.device.type != 'cpu' or torch.is_grad_enabled():
        return images
    return images.contiguous(memory_format=torch.channels_last)
