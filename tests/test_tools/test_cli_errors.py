# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Errors of the user become a sentence; bugs keep their traceback."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from torch.utils.data import DataLoader

from referformer.checkpoints.io import load_checkpoint_safely
from referformer.registry import DATASETS, MODELS

ROOT = Path(__file__).parents[2]


@pytest.fixture
def cli_errors(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / 'tools'))
    import cli_errors

    return cli_errors


def caught(function):
    try:
        function()
    except Exception as error:
        return error
    raise RuntimeError('no error')


class BrokenFiles(torch.utils.data.Dataset):
    """A dataset whose file or code is broken, read in a worker process."""

    def __init__(self, bug):
        self.bug = bug

    def __len__(self):
        return 1

    def __getitem__(self, index):
        if self.bug:
            return [][index]
        return load_checkpoint_safely('gone.pth')


@pytest.mark.parametrize(
    ('function', 'message'),
    [
        # raised on purpose, by this project
        (lambda: load_checkpoint_safely('gone.pth'), 'gone.pth is not a file'),
        # the same within a registry
        (
            lambda: DATASETS.build(
                dict(type='RefYouTubeVOSDataset', ann_file='gone.json')
            ),
            'gone.json (expressions) does not exist',
        ),
        # a config that does not fit the code
        (lambda: MODELS.build(dict(type='Nil')), 'Nil is not in the'),
        (
            lambda: MODELS.build(dict(type='ConditionalQueries', queries=5)),
            "got an unexpected keyword argument 'queries'",
        ),
        (lambda: Config.fromfile('gone.py'), 'gone.py: No such file'),
        # a file the system refuses
        (lambda: Path('gone.txt').read_text(), 'gone.txt: No such file'),
        (
            lambda: next(iter(DataLoader(BrokenFiles(False), num_workers=1))),
            'gone.pth is not a file; give',
        ),
    ],
)
def test_a_sentence(cli_errors, function, message):
    told = cli_errors.expected_message(caught(function))
    assert message in told
    assert '\n' not in told
    assert 'Traceback' not in told


class Buggy:
    """Looks like a config error from outside."""

    def __init__(self):
        len(5)


@pytest.mark.parametrize(
    'function',
    [
        lambda: [][1],
        lambda: Config(dict(a=1)).b,
        lambda: Config(dict(a=1))['b'],
        lambda: torch.ones(2) @ torch.ones(3),
        lambda: MODELS.build(dict(type=Buggy)),
        lambda: next(iter(DataLoader(BrokenFiles(True), num_workers=1))),
        lambda: (_ for _ in ()).throw(ValueError('not raised by us')),
    ],
)
def test_a_bug_stays_a_bug(cli_errors, function):
    assert cli_errors.expected_message(caught(function)) is None


def test_a_bug_while_handling_an_expected_error(cli_errors):
    def function():
        try:
            load_checkpoint_safely('gone.pth')
        except FileNotFoundError:
            len(5)

    assert cli_errors.expected_message(caught(function)) is None


def test_run(cli_errors, monkeypatch):
    def main():
        load_checkpoint_safely('gone.pth')

    monkeypatch.setattr(sys, 'argv', ['tools/train.py'])
    with pytest.raises(SystemExit, match=r'^train\.py: gone\.pth is not'):
        cli_errors.run(main)
    monkeypatch.setenv('RANK', '3')
    with pytest.raises(SystemExit, match=r'^train\.py \(process 3\): gone'):
        cli_errors.run(main)
    monkeypatch.setattr(sys, 'argv', ['tools/train.py', '--traceback'])
    with pytest.raises(FileNotFoundError):
        cli_errors.run(main)
    monkeypatch.setattr(sys, 'argv', ['tools/train.py'])
    with pytest.raises(IndexError):
        cli_errors.run(lambda: [][1])


def test_torchrun_adds_no_traceback(tmp_path):
    (tmp_path / 'fail.py').write_text("raise SystemExit('told why')\n")
    done = subprocess.run(
        [
            sys.executable,
            ROOT / 'tools/run_processes.py',
            '--standalone',
            '--nproc-per-node=1',
            tmp_path / 'fail.py',
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert 'told why' in done.stderr
    assert 'Traceback' not in done.stderr
