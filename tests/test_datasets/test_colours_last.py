# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Distorting colours after the resize, as docs/performance.md describes."""

import re
from pathlib import Path

import pytest
from mmengine.config import Config

ROOT = Path(__file__).parents[2]


def kinds(pipeline):
    """Types of the transforms; those inside a broadcaster by their own."""
    return [
        step['transforms'][0]['type'] if 'transforms' in step else step['type']
        for step in pipeline
    ]


@pytest.mark.parametrize('name', ['ytvos', 'mevis'])
def test_the_documented_config(tmp_path, name):
    page = (ROOT / 'docs/performance.md').read_text(encoding='utf-8')
    (code,) = re.findall(r'```python\n(_base_.*?)```', page, re.DOTALL)
    base = str(ROOT / f'configs/referformer_r50_{name}.py')
    path = tmp_path / 'config.py'
    path.write_text(code.replace('./referformer_r50_ytvos.py', base))
    cfg, published = Config.fromfile(path), Config.fromfile(base)
    pipeline = cfg.train_dataloader.dataset.pipeline
    usual = published.train_dataloader.dataset.pipeline
    assert kinds(usual)[-3:] == [
        'ReferPhotoMetricDistortion',
        'ReferMultiScaleCrop',
        'PackReferInputs',
    ]
    assert pipeline[:-3] == usual[:-3]
    assert [pipeline[i] for i in (-2, -3, -1)] == usual[-3:]
