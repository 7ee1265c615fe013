# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Errors of the user become a sentence; bugs keep their traceback."""

import argparse
import errno
import subprocess
import sys
from pathlib import Path

import pytest

from referformer.checkpoints.io import load_checkpoint_safely
from referformer.errors import ConfigError, DataError
from referformer.utils import cli
from tests.faults import SAFETY, fault

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def tool(monkeypatch, tmp_path):
    """A tool called ``train.py``, whose results lie in ``work``."""
    monkeypatch.setattr(sys, 'argv', ['tools/train.py', 'x y.py'])
    monkeypatch.setattr(cli, '_log_folder', None)
    monkeypatch.setattr(sys, 'excepthook', sys.excepthook)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    monkeypatch.delenv('RANK', raising=False)
    return tmp_path / 'work'


def missing_checkpoint():
    load_checkpoint_safely('gone.pth')


def bug():
    return [][1]


def full_disk():
    raise OSError(errno.ENOSPC, 'No space left on device')


def in_worker():
    from torch.utils.data import DataLoader

    next(iter(DataLoader(Unreadable(), num_workers=1)))


class Unreadable:
    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise DataError('mask 7 is empty', remedy='draw it')


@pytest.mark.parametrize(
    ('main', 'sentence'),
    [
        (missing_checkpoint, 'gone.pth is not a file; give the path of'),
        (in_worker, 'mask 7 is empty; draw it'),
        (lambda: Path('gone.txt').read_text(), 'gone.txt: No such file'),
        (full_disk, 'the disk is full'),
    ],
)
def test_one_sentence_and_a_log(main, sentence, tool, capsys):
    def run_in_work_dir():
        cli.keep_errors_in(tool)
        main()

    with pytest.raises(SystemExit) as stopped:
        cli.run(run_in_work_dir)
    message = stopped.value.code
    assert message.startswith(f'train.py: {sentence}')
    assert message.endswith(f' (traceback: {tool}/errors.log)')
    assert '\n' not in message
    assert capsys.readouterr().err == ''
    log = (tool / 'errors.log').read_text()
    assert 'tools/train.py x y.py' in log
    assert 'Traceback (most recent call last)' in log
    assert 'in run_in_work_dir' in log
    if main is in_worker:
        assert 'in __getitem__' in log


def test_the_log_is_appended_to(tool):
    cli.keep_errors_in(tool)
    for _ in range(2):
        with pytest.raises(SystemExit):
            cli.run(missing_checkpoint)
    assert (tool / 'errors.log').read_text().count('--- 2') == 2


def test_without_results_the_log_is_in_the_cache(tmp_path):
    with pytest.raises(SystemExit, match=r'cache/referformer/errors\.log'):
        cli.run(missing_checkpoint)
    assert (tmp_path / 'cache/referformer/errors.log').is_file()


def test_a_log_that_cannot_be_written(tmp_path):
    (tmp_path / 'file').touch()
    cli.keep_errors_in(tmp_path / 'file')
    with pytest.raises(SystemExit, match=r'cache/referformer/errors\.log'):
        cli.run(missing_checkpoint)
    (tmp_path / 'cache/referformer/errors.log').unlink()
    (tmp_path / 'cache/referformer/errors.log').mkdir()
    with pytest.raises(SystemExit, match=r'log cannot be written\)$'):
        cli.run(missing_checkpoint)


def test_traceback(monkeypatch, capsys):
    """Also for a tool whose parser does not know the option."""
    monkeypatch.setattr(sys, 'argv', ['tools/train.py', '--traceback'])

    def main():
        argparse.ArgumentParser().parse_args()
        missing_checkpoint()

    with pytest.raises(SystemExit, match=r'^train\.py: gone'):
        cli.run(main)
    assert 'in missing_checkpoint' in capsys.readouterr().err


@fault(
    SAFETY,
    'an error quotes a name with control characters of a terminal',
    'they are printed as Python writes them',
)
def test_a_message_does_not_steer_the_terminal(tool):
    def main():
        raise DataError('\x1b[2J\u202etxt\r.mp4 is a folder\nof 犬')

    with pytest.raises(SystemExit) as caught:
        cli.run(main)
    said = r'\x1b[2J\u202etxt\r.mp4 is a folder'
    assert f'train.py: {said}\nof 犬' in caught.value.code


@pytest.mark.parametrize(
    'main',
    [
        bug,
        lambda: {}['a'],
        lambda: (_ for _ in ()).throw(ValueError('no type of ours')),
    ],
)
def test_a_bug_keeps_its_traceback(main, tool, capsys):
    cli.keep_errors_in(tool)
    with pytest.raises((LookupError, ValueError)) as caught:
        cli.run(main)
    log = tool / 'errors.log'
    assert 'Traceback' in log.read_text()
    sys.excepthook(caught.type, caught.value, caught.tb)
    printed = capsys.readouterr().err
    assert printed.startswith('Traceback')
    assert printed.endswith(
        f'train.py: this looks like a bug (traceback: {log})\n'
    )


def test_places_that_cannot_be_written(tmp_path):
    cli.prepare_output(tmp_path / 'new/scores.json', '--out')
    assert list((tmp_path / 'new').iterdir()) == []
    (tmp_path / 'file').touch()
    for place in (tmp_path / 'file/x.json', tmp_path / 'new'):
        with pytest.raises(
            ConfigError,
            match=rf'^cannot write to {place} \(.+\); choose '
            r'another --out\.$',
        ):
            cli.prepare_output(place, '--out')


def test_a_bug_while_an_error_is_handled():
    def main():
        try:
            missing_checkpoint()
        except FileNotFoundError:
            len(5)

    with pytest.raises(TypeError):
        cli.run(main)


def test_an_interruption(capsys):
    def main():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as stopped:
        cli.run(main)
    assert stopped.value.code == 130
    assert capsys.readouterr().err == '\ntrain.py: interrupted\n'


def test_the_process_is_named(monkeypatch):
    monkeypatch.setenv('RANK', '3')
    with pytest.raises(SystemExit, match=r'^train\.py \(process 3\): gone'):
        cli.run(missing_checkpoint)


@pytest.mark.parametrize('result', [None, 0, {'a': 1}, 'text'])
def test_success(result):
    cli.run(lambda: result)


def test_the_status_of_a_tool():
    with pytest.raises(SystemExit) as stopped:
        cli.run(lambda: 3)
    assert stopped.value.code == 3


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
