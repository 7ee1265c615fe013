# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Hook that counts the steps that were left out, and stops after many."""

from collections import deque
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from referformer.checkpoints.io import save_checkpoint
from referformer.errors import ConfigError, ReferError
from referformer.registry import HOOKS


class _Step(NamedTuple):
    """A step whose result is on its way to the host."""

    iteration: int
    made: Tensor
    ready: torch.cuda.Event | None
    batch: Any
    loss: Tensor | None


@HOOKS.register_module()
class BadStepHook(Hook):
    """Count steps without finite gradients; stop after many in a row.

    ``ReferOptimWrapper`` leaves out such a step. Whether it did is copied to
    the host while the next iterations run, so nothing waits; on a GPU the
    answer comes an iteration or two later. The first bad steps of a run are
    dumped with their batch and the weights, and
    ``tools/analysis_tools/replay_step.py`` computes them again.

    Args:
        max_in_row (int): Stop after so many bad steps in a row. Defaults to
            10.
        max_dumps (int): How many bad steps are dumped. Defaults to 3.

    Raises:
        ConfigError: If ``max_in_row`` is below 1.
    """

    # before the checkpoint of the iteration is written
    priority = 'NORMAL'

    def __init__(self, max_in_row: int = 10, max_dumps: int = 3) -> None:
        if max_in_row < 1:
            raise ConfigError(
                f'max_in_row is {max_in_row}; it must be at least 1.'
            )
        self.max_in_row = max_in_row
        self.max_dumps = max_dumps
        #: Steps left out so far, and those since the last good one.
        self.total = self.in_row = 0
        self._pending: deque[_Step] = deque()
        self._statistics: list[tuple[Tensor, Tensor]] = []

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None
    ) -> None:
        """Keep the running statistics, which a bad batch spoils too."""
        if runner.optim_wrapper.should_update():  # no gradients are waiting
            self._statistics = [
                (value, value.clone())
                for module in runner.model.modules()
                if isinstance(module, _BatchNorm) and module.training
                for value in module.buffers(recurse=False)
            ]

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict[str, Tensor] | None = None,
    ) -> None:
        """Ask about this step; look at the earlier ones that are known."""
        made = getattr(runner.optim_wrapper, 'last_step_made', None)
        if made is None:  # another wrapper, or gradients are accumulated
            return
        runner.optim_wrapper.last_step_made = None
        for value, before in self._statistics:
            value.copy_(torch.where(made, value, before))
        ready = None
        if made.is_cuda:
            made = made.to('cpu', non_blocking=True)
            ready = torch.cuda.Event()
            ready.record()
        loss = (outputs or {}).get('loss')
        self._pending.append(_Step(runner.iter, made, ready, data_batch, loss))
        self._look(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        """Look at all steps of the epoch."""
        self._look(runner, wait=True)

    def _look(self, runner: Runner, wait: bool = False) -> None:
        """Look at the steps whose result has arrived.

        Raises:
            ReferError: After too many bad steps in a row.
        """
        while self._pending:
            step = self._pending[0]
            if step.ready is not None and not step.ready.query():
                # a bound on the batches that are kept
                if not wait and len(self._pending) < 8:
                    return
                step.ready.synchronize()
            self._pending.popleft()
            if step.made:
                self.in_row = 0
            else:
                self._count(runner, step)

    def _count(self, runner: Runner, step: _Step) -> None:
        """Report a bad step."""
        self.total += 1
        self.in_row += 1
        ids = ', '.join(sample_ids(step.batch))
        where = f'iteration {step.iteration + 1} ({ids})'
        dump = ''
        if self.total <= self.max_dumps:
            path = self._dump(runner, step)
            dump = (
                '; python tools/analysis_tools/replay_step.py '
                f'{path} computes it again'
            )
        runner.logger.warning(
            f'The gradients of {where} are not finite, so the step was left '
            f'out ({self.total} in all, {self.in_row} in a row){dump}'
        )
        if self.in_row >= self.max_in_row:
            raise ReferError(
                f'{self.in_row} steps in a row had gradients that are not '
                f'finite, the last in {where}; the weights are those before '
                f'them{dump}',
                value=step.iteration,
                remedy='lower the learning rate, or look at these samples.',
            )

    @staticmethod
    def _dump(runner: Runner, step: _Step) -> Path:
        """Write what the step was computed from."""
        model = runner.model
        model = model.module if is_model_wrapper(model) else model
        name = f'step_{step.iteration + 1}_rank_{get_rank()}.pth'
        path = Path(runner.work_dir, 'bad_steps', name)
        content = {
            'meta': {
                'iteration': step.iteration,
                'seed': runner.seed,
                'rank': get_rank(),
                'precision': getattr(
                    runner.optim_wrapper, 'precision', 'fp32'
                ),
                'loss': None if step.loss is None else step.loss.item(),
                'model': runner.cfg.get('model').to_dict(),
            },
            'batch': step.batch,
            'state_dict': model.state_dict(),
        }
        save_checkpoint(content, path)
        return path


def sample_ids(batch: Any) -> list[str]:
    """Name the samples of a batch, as far as they say who they are."""
    samples = batch.get('data_samples') if isinstance(batch, dict) else None
    if not isinstance(samples, list | tuple):
        return ['unknown samples']
    names = []
    for sample in samples:
        facts = dict(getattr(sample, 'metainfo', {}))
        for frame in getattr(sample, 'video_data_samples', ())[:1]:
            facts['frame_name'] = frame.metainfo.get('frame_name')
        keys = ('video_id', 'exp_id', 'frame_name')
        found = [str(facts[key]) for key in keys if key in facts]
        names.append('/'.join(found) or str(sample)[:40])
    return names
