# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""A config of MMDetection trains and scores our model."""

import json

import pytest
from mmengine.config import Config

from referformer.errors import ConfigError
from referformer.testing.scenes import SyntheticParams, make_synthetic_rvos
from tests.fixtures.tools import ROOT, script

CONFIG = ROOT / 'projects/in_mmdet/configs/referformer_tiny_mmdet.py'
PARAMS = SyntheticParams(
    train_videos=2, valid_videos=1, frames=4, height=48, width=64
)


@pytest.fixture(scope='module')
def arguments(tmp_path_factory):
    folder = tmp_path_factory.mktemp('in_mmdet')
    root = make_synthetic_rvos(folder / 'data', PARAMS, progress=False)
    options = [f'--work-dir={folder}/work', '--cfg-options']
    options += ['train_cfg.max_epochs=1', f'visualizer.name={folder}']
    for name in ('train', 'test'):
        loader = f'{name}_dataloader'
        options.append(f"{loader}.dataset.data_root='{root}/'")
        options.append(f'{loader}.persistent_workers=False')
        options.append(f'{loader}.num_workers=0')
    return folder, [str(CONFIG), *options]


def test_training_and_scores(arguments):
    folder, (config, *options) = arguments
    assert Config.fromfile(config).default_scope == 'mmdet'
    name = 'experiment_name='
    half = ['--precision', 'bf16']
    script('train').main([config, *half, *options, f'{name}{folder}/train'])
    script('test').main(
        [
            config,
            f'{folder}/work/epoch_1.pth',
            *(f'--out={folder}/scores.json', f'--show-dir={folder}/show'),
            *options,
            f'{name}{folder}/test',
        ]
    )
    scores = json.loads((folder / 'scores.json').read_text())
    assert 0 <= scores['refer/J&F'] <= 100
    assert list((folder / 'show').rglob('*.png'))


def test_a_name_without_its_prefix(arguments):
    folder, (config, *options) = arguments
    with pytest.raises(
        ConfigError,
        match=r'_mmdet\.py \(visualizer\): there is no visualizer of type '
        r'"ReferLocalVisualizer"; write referformer\.ReferLocalVisualizer\.',
    ):
        script('train').main(
            [
                *(config, *options, 'visualizer.type=ReferLocalVisualizer'),
                f'experiment_name={folder}/bare',
            ]
        )
