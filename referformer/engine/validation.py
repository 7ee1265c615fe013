# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Validation of a training whose config has none."""

import copy

from mmengine.config import Config
from mmengine.runner import Runner

from referformer.errors import ConfigError, DataError


def validate_on_test_data(cfg: Config, path: str) -> None:
    """Let a training score the test data of its config after each epoch.

    Args:
        cfg (Config): Changed in place; a validation of its own is kept. The
            best weights are kept too, by the first score of the metric.
        path (str): The config, for the message.

    Raises:
        ConfigError: If it has no test data.
    """
    if cfg.get('val_dataloader') is None:
        if cfg.get('test_dataloader') is None:
            raise ConfigError(
                f'{path} has no test data that --validate could score.',
                file=path,
            )
        cfg.val_dataloader = copy.deepcopy(cfg.test_dataloader)
        cfg.val_evaluator = copy.deepcopy(cfg.test_evaluator)
        cfg.val_cfg = dict(type='ValLoop')
    checkpoint = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
    if not checkpoint.get('save_best'):
        best = dict(save_best='auto', rule='greater')
        if not checkpoint:
            best['type'] = 'referformer.ReferCheckpointHook'
        cfg.merge_from_dict({'default_hooks.checkpoint': best})


def require_truth(runner: Runner) -> None:
    """Refuse to validate without ground truth, before the first epoch.

    Args:
        runner (Runner): Built, not yet running.

    Raises:
        DataError: If the validation data name no objects.
    """
    dataset = runner.val_loop.dataloader.dataset
    has_truth = getattr(dataset, 'has_truth', None)
    if has_truth is not None and not has_truth():
        raise DataError(
            f'--validate needs ground truth, and {dataset.ann_file} names no '
            'objects',
            file=dataset.ann_file,
            remedy='give the file that names them (obj_id_file of the '
            'dataset), or train without --validate.',
        )
