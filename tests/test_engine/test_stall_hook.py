# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Stacks of a training that hangs."""

import gc
import logging
import threading
import time
from types import SimpleNamespace

import pytest

from referformer.engine.hooks.stall_hook import StallHook
from referformer.errors import ConfigError
from tests.faults import PROCESSES, fault


def stall_threads():
    return {t for t in threading.enumerate() if t.name == 'stall'}


@pytest.fixture
def threads():
    """The threads of this test, not those of runs that tests cut off."""
    others = stall_threads()
    return lambda: stall_threads() - others


def until(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    assert condition()


@pytest.fixture
def runner(tmp_path):
    logger = logging.getLogger('test_stall_hook')
    return SimpleNamespace(
        work_dir=str(tmp_path), iter=4, logger=logger, _train_loop=object()
    )


def test_a_test_builds_no_training(tmp_path):
    """``runner.iter`` would: its data may not even be there."""
    hook = StallHook()
    testing = SimpleNamespace(
        work_dir=str(tmp_path), logger=None, _train_loop={'type': 'Loop'}
    )
    hook.before_run(testing)
    hook.after_test_iter(testing, 3)
    assert hook.last[1] == 3
    hook.after_run(testing)


@fault(
    PROCESSES,
    'no step ends for a long time',
    "every thread's stack is in a file of the work directory, which the "
    'log names',
)
def test_every_thread_is_written_once_a_stall(
    runner, threads, tmp_path, caplog
):
    hook = StallHook(minutes=0.005)
    path = tmp_path / 'stacks_rank_0.txt'
    hook.before_run(runner)
    until(path.exists)
    time.sleep(0.5)
    assert path.read_text().count('after iteration 4') == 1
    assert 'in until' in path.read_text()  # where this thread waits
    assert 'in _look' in path.read_text()
    assert f'every thread of this process does is in {path}' in caplog.text
    runner.iter = 5
    hook.after_train_iter(runner, 0)
    until(lambda: 'after iteration 5' in path.read_text())
    hook.after_run(runner)
    until(lambda: not threads())


def test_a_run_with_steps_is_not_reported(runner, tmp_path):
    hook = StallHook(minutes=0.05)
    hook.before_run(runner)
    for _ in range(80):
        time.sleep(0.05)
        hook.after_val_iter(runner, 0)
    hook.after_run(runner)
    assert not list(tmp_path.iterdir())


def test_a_run_that_failed_is_not_kept_alive(runner, threads):
    hook = StallHook(minutes=0.01)
    hook.before_run(runner)
    assert threads()
    del hook
    gc.collect()
    until(lambda: not threads())


@pytest.mark.parametrize('minutes', [0, -1, float('nan')])
def test_minutes_are_checked(minutes):
    with pytest.raises(ConfigError, match='must be above 0'):
        StallHook(minutes=minutes)
