# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Optimizer steps for which the host does not wait."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, get_args

import torch
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from referformer.errors import ConfigError
from referformer.registry import OPTIM_WRAPPERS

Precision = Literal['fp32', 'bf16']


@OPTIM_WRAPPERS.register_module()
class ReferOptimWrapper(OptimWrapper):
    """mmengine's wrapper without a wait for the device, and with bfloat16.

    The norm of the gradients before clipping stays on the device, in
    :attr:`last_grad_norm`, until :class:`DeferredRuntimeInfoHook` logs it.

    bfloat16 has the range of float32, so gradients do not vanish and the loss
    needs no scaling. That sets it apart from mmengine's ``AmpOptimWrapper``,
    which scales the loss in any case and works on GPUs only. The model keeps
    coordinates, matching and losses in float32.

    Args:
        *args: See :class:`mmengine.optim.OptimWrapper`.
        precision (Precision): Type of the arithmetic of the forward pass.
        **kwargs: See :class:`mmengine.optim.OptimWrapper`.

    Raises:
        ConfigError: If ``precision`` is none of these.
    """

    def __init__(
        self, *args: Any, precision: Precision = 'fp32', **kwargs: Any
    ) -> None:
        if precision not in get_args(Precision):
            raise ConfigError(
                f'precision is {precision!r}; ReferOptimWrapper takes one of '
                f'{get_args(Precision)}, for fp16 use AmpOptimWrapper.',
                value=precision,
            )
        super().__init__(*args, **kwargs)
        self.precision = precision
        #: Norm of all gradients before the last clipping, a scalar.
        self.last_grad_norm: Tensor | None = None

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Context of the forward pass."""
        device = next(model.parameters()).device.type
        with (
            super().optim_context(model),
            torch.autocast(
                device, torch.bfloat16, enabled=self.precision == 'bf16'
            ),
        ):
            yield

    def _clip_grad(self) -> None:
        """Clip the gradients, and keep their norm where it is."""
        params = [
            param
            for group in self.optimizer.param_groups
            for param in group['params']
            if param.grad is not None
        ]
        if params:
            self.last_grad_norm = self.clip_func(
                params, **self.clip_grad_kwargs
            )
