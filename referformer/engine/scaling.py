# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Learning rate for another total batch size."""

from mmengine.runner import Runner


def count_accumulation(runner: Runner) -> None:
    """Let ``auto_scale_lr`` count the batches whose gradients are summed.

    mmengine compares batch size × processes with ``base_batch_size``; a step
    is made of ``accumulative_counts`` times as many clips.

    Args:
        runner (Runner): Built, not yet running.
    """
    scale = runner.auto_scale_lr or {}
    wrapper = runner.cfg.get('optim_wrapper') or {}
    counts = wrapper.get('accumulative_counts', 1)
    if not scale.get('enable') or counts == 1:
        return
    base = scale['base_batch_size']
    # instead of the batch size, which mmengine reads from the loader
    runner.auto_scale_lr = {**scale, 'base_batch_size': base / counts}
    runner.logger.info(
        f'Gradients of {counts} batches are accumulated, so {counts} times '
        f'the batch size is compared with base_batch_size={base}.'
    )
