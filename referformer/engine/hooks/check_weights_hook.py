# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Hook that refuses a checkpoint of another model."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from referformer.registry import HOOKS
from referformer.utils.checkpoint import require_matching_weights


@HOOKS.register_module()
class CheckWeightsHook(Hook):
    """Stop before a checkpoint that does not fit is loaded into the model.

    Args:
        strict (bool): Whether every weight must match, as for testing and
            resuming. Otherwise one is enough, as for fine-tuning from
            ``load_from``, where a head may differ. Defaults to False.
    """

    priority = 'VERY_HIGH'

    def __init__(self, strict: bool = False) -> None:
        self.strict = strict

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
        require_matching_weights(
            runner.model,
            checkpoint,
            source=str(runner._load_from or 'the latest checkpoint'),
            strict=self.strict,
        )
