# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Training in bfloat16."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.optim import OptimWrapper
from torch import nn

from referformer.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class AutocastOptimWrapper(OptimWrapper):
    """Run the forward pass in bfloat16 where that is safe.

    bfloat16 has the range of float32, so gradients do not vanish and the loss
    needs no scaling. That is what sets it apart from mmengine's
    ``AmpOptimWrapper``, which scales the loss in any case and works on GPUs
    only.

    Args: see :class:`mmengine.optim.OptimWrapper`.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Context of the forward pass.

        Args:
            model (nn.Module): The model, on the device to compute on.
        """
        device = next(model.parameters()).device.type
        with (
            super().optim_context(model),
            torch.autocast(device, dtype=torch.bfloat16),
        ):
            yield
