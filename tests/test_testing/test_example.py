# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""The example model is made by commands that fit its configs."""

import json
from pathlib import Path

import pytest
from mmengine.config import Config

from referformer.apis import ReferInferencer
from referformer.testing import example
from referformer.testing.example import DRAWS, SETS, STAGES
from tests.fixtures.tools import ROOT, call


class RecordedSteps:
    """Notes the commands; a training leaves its last checkpoint."""

    def __init__(self, work_dir):
        self.work_dir = work_dir
        self.commands = {}

    def run(self, name, title, *command, output):
        self.commands[name] = [str(part) for part in command]
        if output.name == 'last_checkpoint':
            output.parent.mkdir()
            weights = output.parent / 'epoch_1.pth'
            weights.touch()
            output.write_text(str(weights))


def test_each_training_goes_on_from_the_one_before(tmp_path):
    steps = RecordedSteps(tmp_path)
    last = example._train(steps, tmp_path / 'data', 7, ['a.b=1'])
    assert last == tmp_path / STAGES[-1].name / 'epoch_1.pth'
    previous = None
    for stage in STAGES:
        command = steps.commands[stage.name]
        assert command[1] == stage.config
        options = command[command.index('--cfg-options') + 1 :]
        given = dict(option.split('=', 1) for option in options)
        assert given.pop('a.b') == '1'
        assert given.pop('randomness.seed') == '7'
        if previous is not None:
            weights = tmp_path / previous / 'epoch_1.pth'
            assert given.pop('load_from') == str(weights)
        previous = stage.name
        cfg = Config.fromfile(ROOT / stage.config)
        roots = set()
        for key, value in given.items():
            *path, last_key = key.split('.')
            node = cfg
            for part in path:
                node = node[int(part)] if part.isdigit() else node[part]
            assert last_key in node
            roots.add(Path(value).name)
        # no set of the config is left where the config has it
        assert roots == set(stage.datasets.values())
        assert str(cfg.train_dataloader).count("'data_root'") == len(given)


def test_no_training_set_is_scored():
    seeds = [drawn.seed for drawn in SETS.values()]
    assert not set(seeds) & set(DRAWS)


@pytest.mark.parametrize(('videos', 'said'), [(8, 8), (None, 200)])
def test_the_card_has_the_number_of_videos(tmp_path, videos, said):
    steps = RecordedSteps(tmp_path)
    steps.seconds = {stage.name: 60.0 for stage in STAGES}
    names = ('right J&F', 'right J', 'right F', 'wrong J&F')
    scores = dict.fromkeys((*names, 'shuffled cue=motion/J'), 50.0)
    entry = example._describe(scores, steps, videos)
    assert entry['Results'][0]['Dataset'].startswith(f'{said} unseen')
    data = entry['Metadata']['Training Data']
    assert ('8000' in data) == ('2400' in data) == (videos is None)


@pytest.mark.slow
def test_a_trial_of_the_whole_recipe(tmp_path):
    """Takes some five minutes: 22 commands."""
    out = tmp_path / 'model'
    run = call(
        *('env', f'DATA={tmp_path / "data"}', f'WORK={tmp_path / "work"}'),
        *('bash', 'tools/train_example.sh', out, '--videos', 8),
        *('--cfg-options', 'train_dataloader.batch_size=2'),
        'train_cfg.max_epochs=1',
        timeout=1800,
    )
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    scores = json.loads((tmp_path / 'work/scores.json').read_text())
    assert {'right J&F', 'wrong J&F', 'shuffled J&F'} <= scores.keys()
    card = (out / 'README.md').read_text()
    assert 'J, cue relation' in card
    assert '8 unseen videos' in card
    assert ReferInferencer.from_pretrained(str(out))
