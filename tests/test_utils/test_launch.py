# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Configs get the command line's settings; JSON is written whole."""

import json

import numpy as np
import pytest
import torch
from mmengine.config import Config

from referformer.utils.launch import (
    load_config,
    prepare_processes,
    write_json,
)


def test_load_config(tmp_path):
    path = tmp_path / 'small_x.py'
    path.write_text('a = dict(b=1)\nc = [dict(d=2)]\n')
    cfg = load_config(str(path), {'a.b': 5, 'c.0.d': 6}, launcher='pytorch')
    assert (cfg.a.b, cfg.c[0].d, cfg.launcher) == (5, 6, 'pytorch')
    assert cfg.work_dir == 'work_dirs/small_x'
    assert load_config(str(path), work_dir='w').work_dir == 'w'
    path.write_text("work_dir = 'own'\n")
    assert load_config(str(path)).work_dir == 'own'


def test_a_missing_config_is_named():
    with pytest.raises(FileNotFoundError, match=r'nope\.py is not a file'):
        load_config('nope.py')


def test_one_process_changes_nothing():
    cfg = Config(dict(launcher='none', env_cfg={}))
    prepare_processes(cfg)
    assert 'model_wrapper_cfg' not in cfg


def test_slurm_without_cuda_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(ValueError, match='"slurm" needs CUDA'):
        prepare_processes(Config(dict(launcher='slurm')))


def test_write_json(tmp_path):
    path = tmp_path / 'new' / 'out.json'
    write_json(path, {'a': np.float32(0.5), 'b': torch.tensor(2)})
    assert json.loads(path.read_text()) == {'a': 0.5, 'b': 2}
    with pytest.raises(TypeError, match='cannot be written as JSON'):
        write_json(path, {'a': object()})
    # The old file is whole, and nothing lies beside it.
    assert json.loads(path.read_text())['b'] == 2
    assert [item.name for item in path.parent.iterdir()] == ['out.json']
