# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""The example of a component of one's own, and what projects must have."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from referformer.registry import MODELS
from referformer.structures import TextFeatures
from referformer.testing import try_config

ROOT = Path(__file__).parents[2]
PROJECT = ROOT / 'projects/example_project'


@pytest.fixture
def cfg(monkeypatch):
    # projects are imported from the top of the repository
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(str(ROOT))
    return Config.fromfile(PROJECT / 'configs/referformer_dummy-r50_ytvos.py')


def test_a_training_step_and_a_prediction(cfg):
    trial = try_config(cfg)
    assert type(trial.model.fusion).__name__ == 'DummyFusion'
    assert 'fusion' in trial.trained


def test_the_sentence_of_a_clip_gates_its_frames(cfg):
    fusion = MODELS.build(cfg.model.fusion)
    feats = torch.randn(4, 256, 3, 5)  # two clips of two frames
    words = torch.zeros(2, 1, 256)
    mask = torch.zeros(2, 1, dtype=torch.bool)
    texts = [
        TextFeatures(words, words, mask, sentence)
        for sentence in torch.randn(2, 2, 256)
    ]
    first, second = (fusion(feats, text) for text in texts)
    assert first.shape == feats.shape
    assert not torch.allclose(first, second)
    mixed = texts[0]._replace(
        sentence=torch.stack([texts[0].sentence[0], texts[1].sentence[1]])
    )
    torch.testing.assert_close(
        fusion(feats, mixed), torch.cat([first[:2], second[2:]])
    )


def test_every_project_has_what_projects_need():
    projects = [p.parent for p in ROOT.glob('projects/*/README.md')]
    assert PROJECT in projects
    for project in projects:
        # components come with configs, an application is a script
        assert [*project.glob('configs/*.py'), *project.glob('*.py')]
        test = ROOT / f'tests/test_projects/test_{project.name}.py'
        assert test.is_file()
