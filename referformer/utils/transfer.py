# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Copies to a device for which the host does not wait."""

import torch
from torch import Tensor

_WITHOUT_PINNED = ('cpu', 'mps', 'meta')


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor to a device, behind the work that is queued there.

    A plain copy makes the host wait until the GPU has done all it was given
    before. Only a copy out of pinned memory need not wait.

    Args:
        tensor (Tensor): Usually on the CPU.
        device (torch.device): Where to.

    Returns:
        Tensor: The tensor itself when it is there already.
    """
    pinned = torch.device(device).type not in _WITHOUT_PINNED
    if pinned and tensor.device.type == 'cpu':
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=pinned)
