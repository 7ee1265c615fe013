# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""A first trial of a config, in Python and by its command."""

from pathlib import Path

import pytest
from mmengine.config import Config

from referformer.errors import ConfigError
from referformer.testing import tiny_model_cfg, try_config

from ..fixtures.tools import script

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / 'configs/referformer_r50_ytvos.py'


def test_frozen_parts_are_not_trained():
    optim = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1))
    cfg = Config(dict(model=tiny_model_cfg(), optim_wrapper=optim))
    cfg.model.backbone.frozen_stages = 4
    trial = try_config(cfg, num_frames=3)
    assert 'backbone' not in trial.trained
    assert {'fusion', 'head', 'text_encoder'} <= trial.trained
    assert len(trial.clip.video_data_samples) == 3


def test_the_command(capsys):
    script('misc/check_config').main([str(CONFIG)])
    out = capsys.readouterr().out
    assert out.startswith('loss ')
    assert 'loss_dice' in out
    assert 'trained parts: backbone, fusion, head, neck' in out
    assert 'masks predicted for a frame: (1, 128, 192)' in out


def test_the_command_compares_channels(capsys):
    """Of the backbone as it is; the trial has a smaller one that fits."""
    main = script('misc/check_config').main
    options = ['--cfg-options', 'model.backbone.depth=18']
    with pytest.raises(ConfigError, match=r'model\.neck\.in_channels=\(128'):
        main([str(CONFIG), *options])
    options += [
        'model.neck.in_channels=[128,256,512]',
        'model.pixel_decoder.in_channels=[64,256,256,256]',
    ]
    main([str(CONFIG), *options])
    assert 'loss_dice' in capsys.readouterr().out


def test_the_command_names_what_is_wrong(tmp_path):
    options = ['--cfg-options', 'model.fusion.type=VisionLanguageFussion']
    with pytest.raises(ConfigError, match=r'model\.fusion.*Fussion'):
        script('misc/check_config').main([str(CONFIG), *options])
