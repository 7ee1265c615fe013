# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""The table of propagators, from a model that has learned nothing."""

import torch
from mmengine.config import Config

from referformer.registry import MODELS
from referformer.testing import tiny_model_cfg
from referformer.testing.scenes import SyntheticParams, make_synthetic_rvos

from ..fixtures.tools import ROOT, script

PARAMS = SyntheticParams(
    train_videos=0, valid_videos=2, frames=4, height=48, width=64, seed=5
)


def test_a_line_for_each_propagator(tmp_path, capsys):
    data = make_synthetic_rvos(tmp_path / 'data', PARAMS, progress=False)
    cfg = Config.fromfile(ROOT / 'configs/referformer_tiny_synthetic.py')
    cfg.model = tiny_model_cfg()
    cfg.dump(tmp_path / 'config.py')
    model = MODELS.build(cfg.model)
    torch.save({'state_dict': model.state_dict()}, tmp_path / 'model.pth')
    script('analysis_tools/compare_propagators').main(
        [
            *(str(tmp_path / 'config.py'), str(tmp_path / 'model.pth')),
            *('--data', str(data / 'valid'), '--device', 'cpu'),
        ]
    )
    head, none, flow, counts = capsys.readouterr().out.splitlines()
    assert head.split()[-1] == 'all'
    assert none.split()[0] == 'none'
    assert flow.split()[0] == 'flow'
    assert 0 <= float(flow.split()[-1]) <= 100
    *groups, total = map(int, counts.replace('expressions', '').split())
    assert sum(groups) == total > 0


def test_groups():
    group_of = script('analysis_tools/compare_propagators').group_of
    assert group_of([90, 100, 85]) == 'whole'
    assert group_of([90, 100, 70]) == 'hidden in part'
    assert group_of([90, 0, 100]) == 'out of sight'
