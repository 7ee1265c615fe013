# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Going on with an interrupted training."""

import os

from mmengine.dist import (
    all_gather_object,
    broadcast_object_list,
    is_main_process,
)
from mmengine.runner import Runner

from referformer.checkpoints.latest import Resumable, find_resumable
from referformer.engine.hooks.check_weights_hook import CheckWeightsHook

#: Set by torchrun (``--max-restarts``) and by Slurm (``scontrol requeue``).
_COUNTERS = ('TORCHELASTIC_RESTART_COUNT', 'SLURM_RESTART_COUNT')


def is_started_again() -> bool:
    """Whether torchrun or Slurm has started this training before.

    All processes get the same answer: a torchrun that was itself started
    again does not know of the restarts that the other nodes have counted.
    """
    again = any(int(os.environ.get(name) or 0) for name in _COUNTERS)
    return any(all_gather_object(again))


def resume_latest(runner: Runner) -> bool:
    """Let a training begin with the newest good checkpoint of its folder.

    The first process looks and decides for all, since the others may see an
    older state of a network file system.

    Args:
        runner (Runner): Built, not yet running.

    Returns:
        bool: Whether there is such a checkpoint. Without one, ``load_from``
        of the config stays.

    Raises:
        CheckpointError: If there are checkpoints and all are damaged.
    """
    found = [Resumable(None, [])]
    if is_main_process():
        found = [find_resumable(runner.work_dir)]
    broadcast_object_list(found)
    [(path, damaged)] = found
    for _, reason in damaged:
        runner.logger.warning(f'A checkpoint is passed over: {reason}')
    if path is None:
        return False
    runner._load_from, runner._resume = str(path), True
    for hook in runner.hooks:
        # a resumed model must be the same one, weight by weight
        if isinstance(hook, CheckWeightsHook):
            hook.strict = True
    return True
