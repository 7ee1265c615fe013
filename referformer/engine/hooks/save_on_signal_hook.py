# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Hook that saves when the cluster wants the machine back."""

import signal
import threading
from types import FrameType
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from referformer.engine.hooks.refer_checkpoint_hook import ReferCheckpointHook
from referformer.registry import HOOKS

#: Status of a training that saved and left; the same command with
#: ``--resume`` goes on. It is EX_TEMPFAIL of sysexits.h.
INTERRUPTED = 75
_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


@HOOKS.register_module()
class SaveOnSignalHook(Hook):
    """Save after the iteration in which SIGTERM or SIGUSR1 came; then leave.

    Slurm sends them before the time of a job is over (``--signal``), and a
    node that is taken back sends SIGTERM. The first process saves, for all;
    the others end with it. Needs ``ReferCheckpointHook``.
    """

    # after the checkpoints of the schedule
    priority = 'LOWEST'

    def __init__(self) -> None:
        self._received: int | None = None

    def before_train(self, runner: Runner) -> None:
        """Take over the signals, also in a job in the background."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in _SIGNALS:
            signal.signal(number, self._note)
        # a shell starts jobs in the background with SIGINT ignored
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.default_int_handler)

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
            or not is_main_process()
            # gradients that are being accumulated are not saved
            or not runner.optim_wrapper.should_update()
        ):
            return
        for hook in runner.hooks:
            if isinstance(hook, ReferCheckpointHook):
                hook.save_now(runner)
        name = signal.Signals(self._received).name
        runner.logger.warning(
            f'{name} came: the training was saved after iteration '
            f'{runner.iter + 1} and ends; --resume goes on.'
        )
        raise SystemExit(INTERRUPTED)

    def after_train(self, runner: Runner) -> None:
        """Give the signals back."""
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                signal.signal(number, signal.SIG_DFL)
