# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Hook that refuses weights of another model."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from referformer.checkpoints.initial import (
    skip_initial_weights,
    watch_initial_weights,
)
from referformer.checkpoints.io import state_dict_of
from referformer.checkpoints.matching import require_matching_weights
from referformer.engine.runner_state import checkpoint_to_load, is_training
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
            checkpoint's. Defaults to False. A test needs every weight.
    """

    priority = 'VERY_HIGH'

    def __init__(self, strict: bool = False) -> None:
        self.strict = strict

    def before_run(self, runner: Runner) -> None:
        """Prepare for the initialisation of the model, which comes next."""
        if not is_training(runner):  # nothing is initialised
            return
        if self.strict and checkpoint_to_load(runner) is not None:
            skip_initial_weights(runner.model)
        else:
            watch_initial_weights(runner.model)

    def after_load_checkpoint(
        self, runner: Runner, checkpoint: dict[str, Any]
    ) -> None:
        """Compare the loaded weights with the model's.

        Raises:
            CheckpointError: If the weights do not fit.
        """
        model = runner.model
        try:
            require_matching_weights(
                model.module if is_model_wrapper(model) else model,
                state_dict_of(checkpoint),
                source=str(checkpoint_to_load(runner)),
                strict=self.strict or not is_training(runner),
            )
        except CheckpointError as error:
            if is_training(runner) and not runner._resume:
                error.remedy += (
                    ' To begin with the weights that do fit: --cfg-options '
                    'default_hooks.check_weights.strict=False'
                )
            raise
