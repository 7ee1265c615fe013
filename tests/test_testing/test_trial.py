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


def test_the_command_names_what_is_wrong(tmp_path):
    options = ['--cfg-options', 'model.fusion.type=VisionLanguageFussion']
    with pytest.raises(ConfigError, match=r'model\.fusion.*Fussion'):
        script('misc/check_config').main([str(CONFIG), *options])
