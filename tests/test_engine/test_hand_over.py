# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""From the authors' pre-trained file to the first step of fine-tuning."""

import argparse
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger

from referformer.checkpoints.convert import convert_file
from referformer.checkpoints.io import (
    load_checkpoint_safely,
)
from referformer.checkpoints.published import to_published
from referformer.errors import CheckpointError
from referformer.registry import HOOKS, MODELS
from referformer.testing import shrink_model_cfg

ROOT = Path(__file__).parents[2]


def build(stem):
    """A shrunken model of a config, and the hooks that look at weights."""
    cfg = Config.fromfile(ROOT / f'configs/{stem}.py')
    model = MODELS.build(shrink_model_cfg(cfg.model))
    hooks = [*cfg.get('custom_hooks', []), cfg.default_hooks.check_weights]
    return model, [HOOKS.build(hook) for hook in hooks]


def hand_over(stem, checkpoint):
    """Do what the runner does with ``load_from`` before training."""
    model, hooks = build(stem)
    runner = SimpleNamespace(
        model=model,
        logger=MMLogger.get_instance('hand-over'),
        _train_loop=object(),
        _load_from='pre.pth',
        _resume=False,
    )
    fresh = {n: p.clone() for n, p in model.state_dict().items()}
    for hook in hooks:
        hook.after_load_checkpoint(runner, checkpoint)
    model.load_state_dict(checkpoint['state_dict'], strict=True)
    return fresh, model.state_dict()


@pytest.mark.parametrize(
    ('backbone', 'recipe'),
    [
        ('r50', 'ytvos'),
        ('swin-t', 'mevis'),
        ('vswin-t', 'ytvos'),
        ('vswin-t', 'a2d'),
    ],
)
def test_from_the_authors_file(backbone, recipe, tmp_path):
    torch.manual_seed(1)
    trained, _ = build(f'referformer_{backbone}_refcoco-pretrain')
    for param in trained.parameters():
        torch.nn.init.normal_(param)
    published = {
        'model': to_published(trained.state_dict()),
        'args': argparse.Namespace(num_frames=1),
        'epoch': 11,
    }
    torch.save(published, tmp_path / 'pretrained.pth')
    convert_file(tmp_path / 'pretrained.pth', tmp_path / 'pre.pth')

    fresh, loaded = hand_over(
        f'referformer_{backbone}_{recipe}',
        load_checkpoint_safely(tmp_path / 'pre.pth'),
    )

    for name, value in trained.state_dict().items():
        # the class head starts anew, everything else goes on
        kept = fresh if name.startswith('head.cls_branches.') else None
        expected = value if kept is None else kept[name]
        assert torch.equal(loaded[name], expected), name
    assert any(name.startswith('head.cls_branches.') for name in loaded)


def test_another_backbone_is_refused():
    trained, _ = build('referformer_r101_refcoco-pretrain')
    with pytest.raises(CheckpointError, match=r'pre\.pth does not .*layer'):
        hand_over(
            'referformer_r50_ytvos', {'state_dict': trained.state_dict()}
        )
