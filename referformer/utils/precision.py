# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Mixed precision, and full precision within it."""

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Literal

import torch
from mmengine.logging import print_log
from torch import Tensor

from referformer.utils.processor import has_amx, processor

Precision = Literal['auto', 'fp32', 'bf16', 'fp16']
_DTYPES = {'bf16': torch.bfloat16, 'fp16': torch.float16}


def choose_precision(
    precision: Precision, device: str | torch.device
) -> Precision:
    """Replace ``'auto'`` by the type that suits a device.

    That is ``'bf16'`` where the hardware multiplies bfloat16 matrices, and
    ``'fp32'`` elsewhere. The first choice for a device is logged.

    Args:
        precision (Precision): What was asked for; all but ``'auto'`` is
            returned as it is.
        device (str | torch.device): Where the model runs.
    """
    if precision != 'auto':
        return precision
    return _fastest_precision(torch.device(device))


@cache
def _fastest_precision(device: torch.device) -> Precision:
    if device.type == 'cuda':
        name = torch.cuda.get_device_name(device)
        with torch.cuda.device(device):
            fits = torch.cuda.is_bf16_supported(including_emulation=False)
    elif device.type == 'cpu':
        name = processor().get('model name', 'this processor')
        fits = has_amx()
    else:
        name, fits = str(device), False
    chosen = 'bf16' if fits else 'fp32'
    print_log(
        f'precision auto: {chosen} ({name} has {"" if fits else "no "}'
        'instructions for bfloat16 matrices)',
        'current',
    )
    return chosen


def autocast(
    precision: Precision, device: torch.device
) -> AbstractContextManager:
    """Context in which a model on this device is run.

    ``'fp32'`` leaves an autocast of the caller as it is.
    """
    chosen = choose_precision(precision, device)
    if chosen == 'fp32':
        return nullcontext()
    return torch.autocast(device.type, _DTYPES[chosen])


def at_least_float32(tensor: Tensor) -> Tensor:
    """Convert half precision to float32; wider types stay as they are."""
    return tensor.float() if tensor.dtype.itemsize < 4 else tensor


def without_autocast(tensor: Tensor) -> torch.autocast:
    """Switch autocast off on the device of a tensor."""
    return torch.autocast(tensor.device.type, enabled=False)
