# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""The authors' checkpoints, as files, through the converter and back."""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config

from referformer.checkpoints.matching import require_matching_weights
from referformer.errors import CheckpointError
from referformer.registry import MODELS
from tests.faults import DISK, SAFETY, fault

from ..fixtures.tools import script
from ..test_parity.golden_case import MODEL_DIR, ROOT, TEXT

SCRIPT = ROOT / 'tools/model_converters/referformer_to_mm.py'
ALIAS = 'transformer.decoder.bbox_embed.'
WINDOWS = {'r50': None, 'swin-t': (1, 7, 7), 'vswin-t': (8, 7, 7)}


@pytest.fixture(scope='module')
def converter():
    return script('model_converters/referformer_to_mm')


@pytest.fixture
def large_files(tmp_path):
    """A folder that is emptied at once: pytest keeps those of three runs."""
    yield tmp_path
    shutil.rmtree(tmp_path)


def window_index(window):
    """Row of the bias table for each pair of pixels of a window."""
    places = np.stack(np.unravel_index(range(np.prod(window)), window), 1)
    apart = places[:, None] - places[None] + np.array(window) - 1
    table = [2 * side - 1 for side in window]
    return torch.from_numpy(np.ravel_multi_index(tuple(apart.T), table).T)


def authors_weights(golden_dir, case):
    """Random weights under all names of an authors' checkpoint."""
    keys = json.loads((golden_dir / f'{case}_keys.json').read_text())
    rng = torch.Generator().manual_seed(0)
    weights = {}
    for name, shape in keys.items():
        if name.endswith('relative_position_index'):
            weights[name] = window_index(WINDOWS[case])
            assert list(weights[name].shape) == shape
        else:
            weights[name] = torch.randn(shape, generator=rng).half()
    for name in filter(lambda name: name.startswith(ALIAS), weights):
        # the authors' modules share the tensor
        weights[name] = weights[name.removeprefix('transformer.decoder.')]
    return weights


def save_like_the_authors(weights, path):
    torch.save(
        {
            'model': weights,
            'optimizer': {'state': {}, 'param_groups': [{'lr': 1e-4}]},
            'lr_scheduler': {'last_epoch': 5},
            'epoch': 5,
            'args': argparse.Namespace(backbone='resnet50', lr=1e-4),
        },
        path,
    )
    return path


def build(case):
    cfg = Config.fromfile(MODEL_DIR / f'referformer_{case}.py').model
    cfg.backbone.pop('init_cfg')
    cfg.text_encoder.update(pretrained=None, hf_config=TEXT)
    return MODELS.build(cfg)


def small(path, **changes):
    """A checkpoint just large enough to be recognised as the authors'."""
    weights = {
        'backbone.0.body.layer1.0.conv1.weight': torch.ones(2, 2, 1, 1),
        'query_embed.weight': torch.ones(5, 4),
        **changes,
    }
    return save_like_the_authors(weights, path)


@pytest.mark.parametrize('case', list(WINDOWS))
def test_there_and_back(converter, golden_dir, large_files, capsys, case):
    theirs = authors_weights(golden_dir, case)
    twins = [name for name in theirs if name.startswith(ALIAS)]
    assert len(twins) == 24
    src = save_like_the_authors(theirs, large_files / 'theirs.pth')
    ours, again = large_files / 'new' / 'ours.pth', large_files / 'again.pth'

    converter.main([str(src), str(ours)])
    printed = capsys.readouterr().out
    checkpoint = torch.load(ours, weights_only=True)
    assert set(checkpoint) == {'state_dict', 'meta'}
    assert checkpoint['meta'] == {'converted_from': 'theirs.pth'}
    assert printed == f'{ours}: {len(checkpoint["state_dict"])} tensors\n'
    model = build(case)
    # what tools/test.py demands
    weights = checkpoint['state_dict']
    require_matching_weights(model, weights, source='ours.pth')
    model.load_state_dict(weights)
    embedding = model.state_dict()['queries.query_embed.weight']
    assert torch.equal(embedding.half(), theirs['query_embed.weight'])

    converter.main(['--reverse', str(ours), str(again)])
    back = torch.load(again, weights_only=True)['model']
    assert back.keys() == theirs.keys()
    for name, value in theirs.items():
        assert back[name].dtype == value.dtype, name
        assert torch.equal(back[name], value), name


def test_unknown_names_are_all_told(converter, tmp_path):
    src = small(
        tmp_path / 'src.pth',
        **{'matcher.weight': torch.ones(1), 'head_two.bias': torch.ones(1)},
    )
    with pytest.raises(CheckpointError) as stopped:
        converter.main([str(src), str(tmp_path / 'dst.pth')])
    message = str(stopped.value)
    assert message.startswith(str(src))
    assert message.count(str(src)) == 1
    assert '2 parameters have no place in this model' in message
    assert 'head_two.bias, matcher.weight' in message
    assert [path.name for path in tmp_path.iterdir()] == ['src.pth']


@pytest.mark.parametrize('options', [[], ['--reverse']])
def test_the_wrong_direction_is_told(converter, tmp_path, options):
    ours = tmp_path / 'ours.pth'
    theirs = small(tmp_path / 'theirs.pth')
    converter.main([str(theirs), str(ours)])
    src = theirs if options else ours
    with pytest.raises(CheckpointError) as stopped:
        converter.main([*options, str(src), str(tmp_path / 'dst.pth')])
    message = str(stopped.value)
    assert message.count(str(src)) == 1
    hint = 'leave out --reverse' if options else 'add --reverse'
    assert hint in message
    assert not (tmp_path / 'dst.pth').exists()


def test_no_checkpoint_at_all(converter, tmp_path):
    (tmp_path / 'text.pth').write_text('oops')
    torch.save([1, 2], tmp_path / 'list.pth')
    torch.save({'model': {'fc.weight': torch.ones(1)}}, tmp_path / 'fc.pth')
    for name, reason in {
        'gone.pth': 'is not a file',
        'text.pth': 'is not a readable checkpoint',
        'list.pth': 'holds a list',
        'fc.pth': 'is this a ReferFormer checkpoint',
    }.items():
        src = tmp_path / name
        with pytest.raises(CheckpointError, match=reason) as stopped:
            converter.main([str(src), str(tmp_path / 'dst.pth')])
        assert str(stopped.value).count(str(src)) == 1


class Harmful:
    """Runs a command when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@fault(
    SAFETY,
    'weights to convert run code when they are unpickled',
    'the code does not run, nothing is written, and the object is named',
)
def test_no_code_is_run(tmp_path):
    """As a user calls it, in a process of its own."""
    src, trace = tmp_path / 'src.pth', tmp_path / 'trace'
    torch.save({'model': {}, 'args': Harmful(trace)}, src)
    done = subprocess.run(
        [sys.executable, SCRIPT, src, tmp_path / 'dst.pth'],
        env=dict(os.environ, PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert 'holds an object of "posix.mkdir"' in done.stderr
    assert 'Traceback' not in done.stderr
    assert not trace.exists()
    assert not (tmp_path / 'dst.pth').exists()


@fault(
    DISK,
    'the disk is full while weights are converted',
    'nothing is left of them',
)
def test_a_failed_write_leaves_nothing(converter, tmp_path, monkeypatch):
    src, dst = small(tmp_path / 'src.pth'), tmp_path / 'dst.pth'
    dst.write_text('what was there before')

    def full_disk(content, path):
        Path(path).write_bytes(b'half of it')
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(torch, 'save', full_disk)
    with pytest.raises(OSError, match='No space left on device'):
        converter.main([str(src), str(dst)])
    assert dst.read_text() == 'what was there before'
    assert sorted(p.name for p in tmp_path.iterdir()) == ['dst.pth', 'src.pth']
