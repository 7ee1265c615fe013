# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Hook that drops a part of a pre-trained checkpoint."""

from collections.abc import Sequence
from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from referformer.checkpoints.io import state_dict_of
from referformer.engine.runner_state import is_training
from referformer.errors import ConfigError
from referformer.registry import HOOKS


@HOOKS.register_module()
class DropWeightsHook(Hook):
    """Start a training from ``load_from`` without some of its weights.

    The parts named keep their fresh initialisation, as the class head does
    when image pre-training is handed over to videos (paper Sec. 4.1).
    Resuming and testing load everything.

    Args:
        prefixes (Sequence[str]): Beginnings of parameter names.

    Raises:
        ConfigError: If there is none.
    """

    # before the weights are compared with the model
    priority = 'HIGHEST'

    def __init__(self, prefixes: Sequence[str]) -> None:
        if isinstance(prefixes, str) or not prefixes:
            raise ConfigError(
                'prefixes must be a list of beginnings of parameter names, '
                f'got {prefixes!r}'
            )
        self.prefixes = tuple(prefixes)

    def after_load_checkpoint(
        self, runner: Runner, checkpoint: dict[str, Any]
    ) -> None:
        """Replace the weights by the model's own values.

        Raises:
            ConfigError: If the model has no weight of such a name.
        """
        if runner._resume or not is_training(runner):
            return
        model = runner.model
        model = model.module if is_model_wrapper(model) else model
        weights = state_dict_of(checkpoint)
        for name in [n for n in weights if n.startswith(self.prefixes)]:
            del weights[name]
        fresh = {
            name: value.clone()
            for name, value in model.state_dict().items()
            if name.startswith(self.prefixes)
        }
        if not fresh:
            raise ConfigError(
                'DropWeightsHook: no weight of the model begins with '
                f'{" or ".join(self.prefixes)}.'
            )
        weights.update(fresh)
        runner.logger.info(
            f'{len(fresh)} tensors of {", ".join(self.prefixes)} keep '
            'their initial values.'
        )
