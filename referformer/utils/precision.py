# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Full precision within mixed precision."""

import torch
from torch import Tensor


def at_least_float32(tensor: Tensor) -> Tensor:
    """Convert half precision to float32; wider types stay as they are."""
    return tensor.float() if tensor.dtype.itemsize < 4 else tensor


def without_autocast(tensor: Tensor) -> torch.autocast:
    """Switch autocast off on the device of a tensor."""
    return torch.autocast(tensor.device.type, enabled=False)
