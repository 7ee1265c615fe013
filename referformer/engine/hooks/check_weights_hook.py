# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Hook that refuses weights of another model."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner, find_latest_checkpoint

from referformer.checkpoints.initial import (
    skip_initial_weights,
    watch_initial_weights,
)
from referformer.checkpoints.io import (
    require_matching_weights,
)
from referformer.errors import CheckpointError
from referformer.registry import HOOKS


@HOOKS.register_module()
class CheckWeightsHook(Hook):
    """Stop before weights that do not fit are loaded into the model.

    Looks at checkpoints of the whole model (``load_from``, ``resume``), and
    at the files that parts begin with (``init_cfg`` of type ``Pretrained``).
    The latter are not asked for when a whole checkpoint follows.

    Args:
        strict (bool): Whether every weight of a checkpoint must match.
            Otherwise one is enough, for a model with other parts than the
            checkpoint's. Defaults to False.
    """

    priority = 'VERY_HIGH'

    def __init__(self, strict: bool = False) -> None:
        self.strict = strict

    def before_run(self, runner: Runner) -> None:
        """Prepare for the initialisation of the model, which comes next.

        Args:
            runner (Runner): The runner.
        """
        # tests, whose train loop is still a config, initialise nothing
        if isinstance(runner._train_loop, dict | None):
            return
        if self.strict and _checkpoint_of(runner) is not None:
            skip_initial_weights(runner.model)
        else:
            watch_initial_weights(runner.model)

    def after_load_checkpoint(
        self, runner: Runner, checkpoint: dict[str, Any]
    ) -> None:
        """Compare the loaded weights with the model's.

        Args:
            runner (Runner): The runner about to receive the weights.
            checkpoint (dict): Content of the file.

        Raises:
            CheckpointError: If the weights do not fit.
        """
        try:
            require_matching_weights(
                runner.model,
                checkpoint,
                source=str(_checkpoint_of(runner)),
                strict=self.strict,
            )
        except CheckpointError as error:
            if runner._resume or isinstance(runner._train_loop, dict | None):
                raise
            raise CheckpointError(
                f'{error} To begin with the weights that do fit: '
                '--cfg-options default_hooks.check_weights.strict=False'
            ) from None


def _checkpoint_of(runner: Runner) -> str | None:
    """The checkpoint that a runner is going to load."""
    if runner._load_from is None and runner._resume:
        return find_latest_checkpoint(runner.work_dir)
    return runner._load_from
