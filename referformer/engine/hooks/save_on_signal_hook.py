# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Hook that saves when the cluster wants the machine back."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch
from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.distributed.distributed_c10d import _get_default_store

from referformer.engine.hooks.refer_checkpoint_hook import ReferCheckpointHook
from referformer.registry import HOOKS
from referformer.utils.processes import INTERRUPTED

__all__ = ['INTERRUPTED', 'SaveOnSignalHook', 'signals_given_back']

_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
_KEY = 'referformer/leaving_after'


@HOOKS.register_module()
class SaveOnSignalHook(Hook):
    """Save after the iteration in which SIGTERM or SIGUSR1 came; then leave.

    Slurm sends them before the time of a job is over (``--signal``), and a
    node that is taken back sends SIGTERM. The first process saves, for all.
    With several processes, it announces that first and makes one more step,
    so that all that were signalled leave after the same one. A process that
    was not signalled never looks, hence an iteration costs nothing.

    Needs ``ReferCheckpointHook``. The handlers stay after an error in the
    training, unless it runs within :func:`signals_given_back`.
    """

    # after the checkpoints of the schedule
    priority = 'LOWEST'

    def __init__(self) -> None:
        self._received: int | None = None
        self._announced: int | None = None

    def before_train(self, runner: Runner) -> None:
        """Take over the signals."""
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._received = number

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict | None = None,
    ) -> None:
        """Save and leave, if a signal came.

        Raises:
            SystemExit: With the status :data:`INTERRUPTED`.
        """
        if (
            self._received is None
            # gradients that are being accumulated are not saved
            or not runner.optim_wrapper.should_update()
            or not self._is_agreed(runner.iter)
        ):
            return
        if is_main_process():
            for hook in runner.hooks:
                if isinstance(hook, ReferCheckpointHook):
                    hook.save_now(runner)
            name = signal.Signals(self._received).name
            runner.logger.warning(
                f'{name} came: the training was saved after iteration '
                f'{runner.iter + 1} and ends; --resume goes on.'
            )
        raise SystemExit(INTERRUPTED)

    def _is_agreed(self, iteration: int) -> bool:
        """Whether all processes leave after this iteration."""
        if get_world_size() == 1:
            return True
        store = _get_default_store()
        if self._announced is None and is_main_process():
            # before its part of the next step, which the others wait for
            self._announced = iteration
            store.set(_KEY, str(iteration))
        elif self._announced is None:
            if torch.cuda.is_available():
                torch.cuda.synchronize()  # the step has been made by all
            if store.check([_KEY]):
                self._announced = int(store.get(_KEY))
        return self._announced is not None and iteration > self._announced

    def after_train(self, runner: Runner) -> None:
        """Give the signals back."""
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                signal.signal(number, signal.SIG_DFL)


@contextmanager
def signals_given_back() -> Iterator[None]:
    """Restore the handlers of the signals, however the training ends."""
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _forget_in_child() -> None:
    """Let a worker of a loader end by SIGTERM, as who starts one expects."""
    handler = signal.getsignal(signal.SIGTERM)
    if getattr(handler, '__func__', None) is SaveOnSignalHook._note:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        # Slurm may send it to every process of a job
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)


os.register_at_fork(after_in_child=_forget_in_child)
