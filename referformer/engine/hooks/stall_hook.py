# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Hook that says where a training hangs."""

import faulthandler
import logging
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner

from referformer.engine.runner_state import is_training
from referformer.errors import ConfigError
from referformer.registry import HOOKS


@HOOKS.register_module()
class StallHook(Hook):
    """Write every thread's stack when no step ends for a long time.

    They go to ``<work dir>/stacks_rank_<rank>.txt``, once a stall, and the
    run goes on waiting: ``env_cfg.dist_cfg.timeout`` and ``data_timeout`` end
    it. A thread looks at the clock now and then, so that a step costs one
    assignment. Steps of validation and test count too.

    Args:
        minutes (float): Longest time without a step. Defaults to 30.

    Raises:
        ConfigError: If ``minutes`` is not above 0.
    """

    priority = 'LOWEST'

    def __init__(self, minutes: float = 30.0) -> None:
        if not minutes > 0:
            raise ConfigError(f'minutes is {minutes}; it must be above 0.')
        self.minutes = minutes
        #: Time and iteration of the last step; None while nothing runs.
        self.last: tuple[float, int] | None = None

    def before_run(self, runner: Runner) -> None:
        """Start looking."""
        self._note(runner, 0)
        path = Path(runner.work_dir, f'stacks_rank_{get_rank()}.txt')
        threading.Thread(
            target=_look,
            # the thread does not keep alive a run that failed
            args=(weakref.ref(self), self.minutes * 60, path, runner.logger),
            name='stall',
            daemon=True,
        ).start()

    def _after_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Any = None,
        mode: str = 'train',
    ) -> None:
        self._note(runner, batch_idx)

    def _note(self, runner: Runner, batch_idx: int) -> None:
        # in a test, runner.iter would build the loop and data of the training
        done = runner.iter if is_training(runner) else batch_idx
        self.last = (time.monotonic(), done)

    def after_run(self, runner: Runner) -> None:
        """Stop looking."""
        self.last = None


def _look(
    find: Callable[[], StallHook | None],
    seconds: float,
    path: Path,
    logger: logging.Logger,
) -> None:
    """Compare the time of the last step with the clock, again and again."""
    reported = None
    while (hook := find()) is not None and (last := hook.last) is not None:
        del hook
        if last != reported and time.monotonic() - last[0] > seconds:
            reported = last
            with path.open('a', encoding='utf-8') as file:
                file.write(f'{time.ctime()}, after iteration {last[1]}\n')
                file.flush()
                faulthandler.dump_traceback(file, all_threads=True)
            logger.warning(
                f'No step has ended for {seconds / 60:g} minutes; what every '
                f'thread of this process does is in {path}'
            )
        time.sleep(min(seconds / 20, 5.0))
