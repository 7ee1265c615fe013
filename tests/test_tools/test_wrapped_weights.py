# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Weights of a wrapped model (``module.``) load everywhere alike."""

import json

import pytest
import torch

from referformer.apis import init_model
from referformer.checkpoints.convert import convert_file

from ..fixtures.tools import script
from ..test_apis.conftest import checkpoint, config  # noqa: F401
from ..test_models.helpers import build_model
from .test_train import trained  # noqa: F401

LAYOUTS = [
    ('state_dict', 'module.'),
    ('model', ''),
    ('model', 'module.'),
    (None, 'module.module.'),
]


def save(weights, path, key, prefix):
    """Write weights as one of many programs does."""
    named = {prefix + name: value for name, value in weights.items()}
    torch.save({key: named} if key else named, path)
    return path


def state_of(path):
    return torch.load(path, weights_only=False)['state_dict']


@pytest.mark.parametrize(('key', 'prefix'), LAYOUTS)
def test_training_and_test_use_what_they_check(
    trained,  # noqa: F811
    tmp_path,
    key,
    prefix,
):
    before = state_of(trained / 'work' / 'epoch_3.pth')
    path = save(before, tmp_path / 'x.pth', key, prefix)
    config = str(trained / 'toy.py')  # noqa: F811
    name = f'experiment_name={tmp_path}'
    script('train').main(
        [
            *(config, '--work-dir', str(tmp_path / 'new'), '--cfg-options'),
            *(f"load_from='{path}'", 'optim_wrapper.optimizer.lr=0.0'),
            *('train_cfg.max_epochs=1', name),
        ]
    )
    after = state_of(tmp_path / 'new' / 'epoch_1.pth')
    # running means go on
    names = [name for name in before if name.endswith(('weight', 'bias'))]
    assert names
    assert all(torch.equal(before[name], after[name]) for name in names)
    scores = [
        _score(config, checkpoint, tmp_path / folder)
        for checkpoint, folder in (  # noqa: F811
            (trained / 'work' / 'epoch_3.pth', 'plain'),
            (path, 'wrapped'),
        )
    ]
    assert scores[0] == scores[1]


def _score(config, checkpoint, folder):  # noqa: F811
    script('test').main(
        [
            *(config, str(checkpoint), '--work-dir', str(folder)),
            *('--cfg-options', f'experiment_name={folder}'),
        ]
    )
    [file] = folder.glob('*/[0-9]*.json')
    scores = json.loads(file.read_text())
    return {key: value for key, value in scores.items() if 'time' not in key}


@pytest.mark.parametrize(('key', 'prefix'), LAYOUTS)
def test_inference_uses_what_it_checks(tmp_path, config, key, prefix):  # noqa: F811
    """Of ``tools/demo.py`` and the inferencer."""
    weights = build_model().state_dict()
    path = save(weights, tmp_path / 'x.pth', key, prefix)
    loaded = init_model(config, path, 'cpu').state_dict()
    assert all(torch.equal(loaded[name], weights[name]) for name in weights)


@pytest.mark.parametrize('prefix', ['module.', 'module.module.'])
def test_the_converter_reads_them(tmp_path, prefix):
    weights = build_model().state_dict()
    results = [
        _converted(save(weights, tmp_path / 'x.pth', 'state_dict', each))
        for each in ('', prefix)
    ]
    assert results[0].keys() == results[1].keys()
    assert all(torch.equal(results[0][n], results[1][n]) for n in results[0])


def _converted(path):
    out = path.with_name('out.pth')
    convert_file(path, out, reverse=True)
    return torch.load(out)['model']
