# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Losses read from the device when they are logged."""

from typing import Any

import torch
from mmengine.hooks import LoggerHook, RuntimeInfoHook
from mmengine.logging import HistoryBuffer
from mmengine.runner import Runner
from torch import Tensor

from referformer.registry import HOOKS


@HOOKS.register_module()
class DeferredRuntimeInfoHook(RuntimeInfoHook):
    """mmengine's hook without a wait for the device in each iteration.

    mmengine reads every loss with ``item()`` as soon as it is computed, some
    twenty times an iteration, and each time the host waits until the device
    has caught up. Here the losses stay on the device until the iteration in
    which :class:`mmengine.hooks.LoggerHook` prints, and are then read in one
    copy. What is logged is the same.

    The history that mmengine keeps of every value is bounded to what the log
    processor averages over. Unbounded, it is copied whole in every iteration
    and saved in every checkpoint: 46 ms and some 100 MB after 600 000.

    Args:
        max_pending (int): Iterations after which values are read although
            nothing is printed, which bounds the memory they take.
    """

    def __init__(self, max_pending: int = 1000) -> None:
        self.max_pending = max_pending
        self._names: list[tuple[str, ...]] = []
        self._values: list[Tensor] = []

    def before_train(self, runner: Runner) -> None:
        """Take the interval of the log."""
        super().before_train(runner)
        loggers = [h for h in runner.hooks if isinstance(h, LoggerHook)]
        self._interval = min((h.interval for h in loggers), default=1)

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict[str, Tensor] | None = None,
    ) -> None:
        """Store the losses; record them when they are logged."""
        outputs = dict(outputs or {})
        norm = getattr(runner.optim_wrapper, 'last_grad_norm', None)
        if norm is not None:
            outputs['grad_norm'] = norm
            runner.optim_wrapper.last_grad_norm = None
        if outputs:
            self._names.append(tuple(outputs))
            self._values.append(
                torch.stack(
                    [
                        torch.as_tensor(value).detach().float().reshape(())
                        for value in outputs.values()
                    ]
                )
            )
        if (
            self.every_n_inner_iters(batch_idx, self._interval)
            or self.end_of_epoch(runner.train_dataloader, batch_idx)
            or len(self._values) >= self.max_pending
        ):
            self.flush(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Record pending values before the history is saved."""
        self.flush(runner)
        checkpoint['message_hub'] = runner.message_hub.state_dict()

    def flush(self, runner: Runner) -> None:
        """Read the pending values in one copy and record them."""
        if not self._values:
            return
        names, self._names = self._names, []
        values, self._values = torch.cat(self._values).tolist(), []
        pending = iter(values)
        for step in names:
            for name in step:
                runner.message_hub.update_scalar(
                    f'train/{name}', next(pending)
                )
        self._bound_history(runner)

    @staticmethod
    def _bound_history(runner: Runner) -> None:
        """Keep only as much history as the log averages over."""
        processor = runner.log_processor
        windows = {
            entry['data_src']: entry.get('window_size')
            for entry in processor.custom_cfg
        }
        if 'epoch' in windows.values():
            longest = len(runner.train_dataloader)
        else:
            longest = 0
        numbers = [size for size in windows.values() if isinstance(size, int)]
        length = max(processor.window_size, longest, *numbers, 1)
        buffers = runner.message_hub.log_scalars
        for name, buffer in buffers.items():
            stage, _, key = name.partition('/')
            if stage == 'train' and windows.get(key) != 'global':
                buffers[name] = HistoryBuffer(
                    *(part[-length:] for part in buffer.data),
                    max_length=length,
                )
