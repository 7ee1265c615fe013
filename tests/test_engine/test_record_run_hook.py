# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""How a run was started is recorded with it."""

import json
import subprocess
import sys
from pathlib import Path

from referformer.checkpoints.io import load_checkpoint_safely
from referformer.utils import provenance

from .test_resume import make_config, run


def test_the_record_is_beside_the_log_and_in_the_checkpoints(tmp_path):
    cfg = make_config(tmp_path / 'run', by_epoch=True, num_workers=0)
    # a process has one visualizer of each name, in the folder of its first run
    cfg.visualizer.name = str(tmp_path)
    run(cfg, kill_at=7)
    [path] = (tmp_path / 'run').glob('*/run.json')
    record = json.loads(path.read_text())
    assert record['command'].startswith(sys.orig_argv[0])
    assert record['versions']['python'] == sys.version.split()[0]
    assert {'torch', 'mmengine', 'referformer'} <= record['versions'].keys()
    assert (record['processes'], record['seed']) == (1, 0)
    assert (path.parent / 'vis_data/config.py').is_file()

    def runs(name):
        file = load_checkpoint_safely(tmp_path / 'run' / name)
        return file['meta']['runs']

    assert runs('epoch_1.pth') == [record]
    run(cfg, resume=True)
    first, second = runs('epoch_3.pth')
    assert first == record
    assert second['command'] == record['command']


def test_commit_and_changed_files(tmp_path, monkeypatch):
    def git(*arguments):
        done = subprocess.run(
            ['git', '-c', 'user.name=x', '-c', 'user.email=x', *arguments],
            cwd=tmp_path,
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()

    file = tmp_path / 'package/__init__.py'
    file.parent.mkdir()
    file.write_text('')
    monkeypatch.setattr(provenance, '__file__', str(file.parent / 'a/b.py'))
    git('init', '-q')
    # in a repository, but not a part of it: a virtual environment
    assert provenance.describe_process()['commit'] is None
    git('add', '.')
    git('commit', '-qm', 'x')
    record = provenance.describe_process()
    assert record['commit'] == git('rev-parse', 'HEAD')
    assert record['changed_files'] == []
    file.write_text('x = 1')
    record = provenance.describe_process()
    assert record['changed_files'] == ['package/__init__.py']
    assert record['folder'] == str(Path.cwd())


def test_no_git(monkeypatch):
    monkeypatch.setenv('PATH', '')
    assert provenance.describe_process()['commit'] is None
