# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Single steps of the quickstart; all of it: tests/test_tools."""

import pytest

from referformer.errors import CheckpointError, ReferError
from referformer.testing.quickstart import last_checkpoint
from referformer.testing.steps import Steps, progress_of

TRAIN_LINE = (
    '11/21 05:36:02 - mmengine - INFO - Epoch(train) [1][ 50/210]  '
    'lr: 1.1989e-04  eta: {}  time: 0.5602  data_time: 0.0351  '
    'grad_norm: 25.6080  loss: 12.3456  d0.loss_cls: 1.0000'
)


def test_a_failed_step_names_its_log(tmp_path, capsys):
    command = ['-c', 'import sys; print("the reason"); sys.exit(3)']
    steps = Steps(tmp_path, tmp_path, total=2)
    with pytest.raises(ReferError) as stopped:
        steps.run('bad', 'Do something', *command, output=tmp_path)
    message = str(stopped.value)
    assert 'the reason' in message
    assert 'Do something failed with status 3' in message
    assert str(tmp_path / 'bad.log') in message
    # tried again next time, and its time is not forgotten
    steps = Steps(tmp_path, tmp_path, total=2)
    assert steps.seconds['bad'] >= 0
    with pytest.raises(ReferError, match='failed with status 3'):
        steps.run('bad', 'Do something', *command, output=tmp_path)
    assert (tmp_path / 'bad.log').read_text() == 'the reason\n' * 2
    assert '[1/2] Do something' in capsys.readouterr().out


@pytest.mark.parametrize(
    'eta', ['0:01:02', '1 day, 2:03:04', '3 days, 0:00:00']
)
def test_progress_of_training(eta):
    assert progress_of(TRAIN_LINE.format(eta)) == (
        f'epoch 1  step 50/210  loss 12.3456  time left {eta}'
    )


def test_progress_of_other_lines():
    line = (
        '11/21 05:36:02 - mmengine - INFO - Epoch(test) [ 50/150]    '
        'eta: 0:00:12  time: 0.0284  data_time: 0.0033  \n'
    )
    assert progress_of(line) == 'clip 50/150  time left 0:00:12'
    line = TRAIN_LINE.replace('12.3456', 'nan').format('0:00:00')
    assert 'loss nan' in progress_of(line)
    assert progress_of('Saving checkpoint at 1 epochs') is None


def test_a_training_without_checkpoint_is_told(tmp_path):
    with pytest.raises(CheckpointError, match='holds no checkpoint'):
        last_checkpoint(tmp_path)
