# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""State of mmengine's ``Runner`` that has no public interface."""

from mmengine.runner import Runner, find_latest_checkpoint


def is_training(runner: Runner) -> bool:
    """Tell whether ``runner.train()`` was called.

    A test or validation leaves the train loop what it was in the config. The
    public ``runner.train_loop`` would build it.
    """
    return not isinstance(runner._train_loop, dict | None)


def checkpoint_to_load(runner: Runner) -> str | None:
    """Return the checkpoint of the whole model that a runner begins with."""
    if runner._load_from is None and runner._resume:
        return find_latest_checkpoint(runner.work_dir)
    return runner._load_from


def is_resuming(runner: Runner) -> bool:
    """Tell whether the checkpoint that is being loaded is gone on from.

    Else, only its weights are taken.
    """
    return runner._resume
