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
    Where it is not finite, the step is left out: one bad batch would turn
    every weight into NaN. Gradients are averaged over the processes before,
    so all of them decide alike. The fused optimizers of PyTorch decide on the
    device; for others the host waits for the norm.

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
        #: Whether the last step was made, a bool on the device; None since
        #: the hook that counts has read it.
        self.last_step_made: Tensor | None = None

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

    def step(self, **kwargs: Any) -> None:
        """Clip the gradients and make a step, if they are finite."""
        params = [
            param
            for group in self.optimizer.param_groups
            for param in group['params']
            if param.grad is not None
        ]
        if not params:
            return
        if self.clip_grad_kwargs:
            norm = self.clip_func(params, **self.clip_grad_kwargs)
        else:
            grads = [param.grad for param in params]
            norm = torch.nn.utils.get_total_norm(grads)
        self.last_grad_norm = norm.detach()
        self.last_step_made = torch.isfinite(self.last_grad_norm)
        if getattr(self.optimizer, '_step_supports_amp_scaling', False):
            self.optimizer.found_inf = (~self.last_step_made).float()
            self.optimizer.step(**kwargs)
        elif self.last_step_made:
            self.optimizer.step(**kwargs)
