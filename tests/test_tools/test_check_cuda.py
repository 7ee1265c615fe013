# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
import sys

from tools.misc import check_cuda


def test_a_failed_or_slow_step_ends_nothing(tmp_path, monkeypatch, capsys):
    steps = [
        check_cuda.Step('bad', ['-c', 'raise SystemExit("no GPU")'], 60),
        check_cuda.Step('slow', ['-c', 'import time; time.sleep(60)'], 1),
        check_cuda.Step('good', ['-c', 'print("all well")'], 60),
    ]
    monkeypatch.setattr(check_cuda, 'list_steps', lambda args: steps)
    monkeypatch.setattr(sys, 'argv', ['check_cuda.py', str(tmp_path)])
    assert check_cuda.main() == 1
    lines = (tmp_path / 'summary.txt').read_text().splitlines()
    assert [line.split()[1] for line in lines] == ['FAILED', 'out', 'passed']
    assert lines[0].endswith('no GPU')
    assert lines[2].endswith('all well')
    assert capsys.readouterr().out.splitlines() == lines
    assert (tmp_path / 'bad.log').read_text().strip() == 'no GPU'
