# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
import json
import shutil

import pytest

from referformer.errors import ConfigError, ReferError
from referformer.testing.scenes import SyntheticParams, make_synthetic_rvos

from ..fixtures.tools import ROOT, script

CONFIG = str(ROOT / 'configs/referformer_tiny_synthetic.py')
SMALL = ['--size', '48', '64', '--frames', '3', '--repeats', '2']


@pytest.fixture
def main():
    return script('analysis_tools/benchmark').main


def test_prediction(main, tmp_path, capsys):
    out = tmp_path / 'report.json'
    main(
        [
            'infer',
            CONFIG,
            *SMALL,
            '--expressions',
            '6',
            '--out',
            str(out),
            '--vs',
            'expressions=1',
            'model.queries.num_queries=2',
        ]
    )
    report = json.loads(out.read_text())
    six, one = report['measured']
    assert six['setting']['expressions'] == 6
    assert one['setting']['options'] == {'model.queries.num_queries': 2}
    for found in (six, one):
        stages = found['stages']
        assert {'backbone', 'encoder', 'decoder', 'mask_head'} <= set(stages)
        assert 'criterion' not in stages
        spent = sum(stage['median'] for stage in stages.values())
        assert spent == pytest.approx(found['seconds']['median'], rel=0.3)
        assert found['frames_per_second'] == pytest.approx(
            3 * found['setting']['expressions'] / found['seconds']['median']
        )
    # the frames are looked at once, the sentences one by one
    ratio = {
        name: six['stages'][name]['min'] / one['stages'][name]['min']
        for name in ('backbone', 'encoder')
    }
    # with room for what else the machine does
    assert ratio['encoder'] > 1.5 * ratio['backbone']
    assert report['ratio']['least'] <= report['ratio']['greatest']
    printed = capsys.readouterr().out
    assert 'A / B: ' in printed
    assert 'pixel_decoder' in printed


def test_sweep(main, capsys):
    report = main(['infer', CONFIG, *SMALL, '--sweep', 'frames=2,4,6'])
    frames = [found['setting']['frames'] for found in report['measured']]
    assert frames == [2, 4, 6]
    assert 'C: frames 6' in capsys.readouterr().out


def test_another_checkout(main, tmp_path):
    """A copy of this one stands for it."""
    for name in ('referformer', 'configs'):
        shutil.copytree(ROOT / name, tmp_path / name)
    report = main(['infer', CONFIG, *SMALL, '--vs', str(tmp_path)])
    here, there = report['measured']
    assert there['setting'] == {**here['setting'], 'checkout': str(tmp_path)}
    assert set(there['stages']) == set(here['stages'])
    assert report['ratio']['least'] <= report['ratio']['greatest']


def test_another_checkout_that_cannot_run(main, tmp_path, capfd):
    (tmp_path / 'referformer').mkdir()
    with pytest.raises(ConfigError, match='cannot be measured; its error'):
        main(['infer', CONFIG, *SMALL, '--vs', str(tmp_path)])
    assert 'holds no package referformer' in capfd.readouterr().err


@pytest.mark.parametrize('precision', ['fp32', 'bf16'])
def test_training_step(main, precision):
    options = ['--precision', precision, '--batch', '2']
    report = main(['train', CONFIG, *SMALL, *options])
    (found,) = report['measured']
    assert {'criterion', 'backward', 'optimizer'} <= set(found['stages'])
    assert found['seconds']['min'] > 0


def test_loading(main, tmp_path, capsys):
    params = SyntheticParams(
        train_videos=3, valid_videos=1, frames=4, height=48, width=64, seed=1
    )
    root = make_synthetic_rvos(tmp_path / 'data', params, progress=False)
    report = main(
        [
            'data',
            CONFIG,
            '--clips',
            '6',
            '--workers',
            '1',
            '--repeats',
            '1',
            '--cfg-options',
            f'train_dataloader.dataset.data_root={root}/',
        ]
    )
    assert any('LoadReferFrame' in name for name in report['transforms'])
    assert report['clips_per_second']['median'] > 0
    assert 'clips/s of one process' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['infer', 'nowhere.py'], 'nowhere.py is not a file'),
        (['infer', CONFIG, '--vs', 'frames'], 'KEY=VALUE'),
        (['infer', CONFIG, '--vs', 'frames=many'], 'frames=many: not a int'),
        (
            ['infer', CONFIG, '--vs', 'precision=int8'],
            'precision=int8: not one of',
        ),
        (['infer', CONFIG, '--vs', 'amp=int8'], 'precision=int8: not one of'),
        (['data', CONFIG], 'does not exist'),
    ],
)
def test_errors(main, options, message, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((SystemExit, ReferError)) as stopped:
        main(options)
    text = f'{stopped.value} {capsys.readouterr().err}'
    assert message in text
