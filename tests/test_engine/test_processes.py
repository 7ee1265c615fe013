# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""A training whose processes, workers or signals do what they should not."""

import os
import re
import signal
from pathlib import Path

import pytest
import torch

from referformer.engine.hooks.save_on_signal_hook import (
    INTERRUPTED,
    SaveOnSignalHook,
    signals_given_back,
)
from tests.faults import PROCESSES, fault
from tests.fixtures.trainings import Training

from .test_resume import make_config

SECONDS = 60.0  # within which a broken training ends


def config(folder, epochs=1000, **changes):
    """Write a training that takes long unless it is ended."""
    cfg = make_config(folder / 'run', True, num_workers=1, persistent=True)
    cfg.train_cfg = dict(type='ResumableTrainLoop', max_epochs=epochs)
    cfg.train_dataloader.batch_size = 2
    cfg.custom_hooks[0].path = str(folder / 'run.losses')
    cfg.merge_from_dict(changes)
    path = folder / 'run.py'
    cfg.dump(path)
    return path


def log_of(training):
    return training.log.read_text()


def is_running(training, steps=6):
    running = training.wait(
        2 * SECONDS,
        lambda: training.steps() >= training.begun + steps or training.poll(),
    )
    assert running, log_of(training)
    assert not training.poll(), log_of(training)


@fault(
    PROCESSES,
    'a worker of a data loader is killed',
    'the error names it, the signal and the likely reason (memory), and '
    'all processes end within a minute',
)
def test_a_killed_worker_is_named_and_ends_all_processes(tmp_path):
    with Training(config(tmp_path), 2) as training:
        is_running(training)
        victim = training.workers()[-1]
        os.kill(victim, signal.SIGKILL)
        assert training.finish(SECONDS) == [1, 1]
    assert (
        f'a worker of a data loader (pid {victim}) was killed by SIGKILL, '
        'most likely for want of memory'
    ) in log_of(training)
    assert 'the connection to the other processes of this run is lost' in (
        log_of(training)
    )


@fault(
    PROCESSES,
    'a worker of a data loader gives nothing (a network disk that hangs)',
    'after `data_timeout` seconds the error names the worker, and the run '
    'ends',
)
def test_a_silent_worker_is_named(tmp_path):
    path = config(
        tmp_path,
        data_timeout=2,
        **{'train_dataloader.dataset.silent_at': 7},
    )
    with Training(path, 1) as training:
        assert training.finish(SECONDS) == [1]
    assert re.search(
        r'train\.py: worker 0 of a data loader \(pid \d+\) has given no '
        r'batch for 2 seconds; look at the disk',
        log_of(training),
    )


@fault(
    PROCESSES,
    'one of two processes hangs',
    'the other ends after `dist_cfg.timeout` seconds and says so',
)
def test_a_silent_process_is_not_waited_for(tmp_path):
    path = config(tmp_path, **{'env_cfg.dist_cfg.timeout': 3})
    with Training(path, 2) as training:
        is_running(training)
        os.kill(training.ranks[1], signal.SIGSTOP)
        ended = training.wait(
            SECONDS, lambda: training.ranks[0] in training.poll()
        )
        assert ended, log_of(training)
    assert training.status[training.ranks[0]] == 1
    assert re.search(r'is lost \(.*Timed out.*3000 ?ms', log_of(training))


@fault(
    PROCESSES,
    'SIGTERM or SIGUSR1 to all processes',
    'they leave after the same step with status 75, the first has saved, '
    'and a new start by torchrun goes on there; SIGINT ends a job in the '
    'background too',
)
@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGUSR1])
def test_all_processes_leave_after_the_same_step(tmp_path, number):
    """And one that is started again by torchrun goes on there."""
    path = config(tmp_path)
    with Training(path, 2) as training:
        is_running(training)
        for pid in training.ranks:
            os.kill(pid, number)
        assert training.finish(SECONDS) == [INTERRUPTED, INTERRUPTED]
    [saved] = Path(tmp_path, 'run').glob('iter_*.pth')
    count = int(saved.stem.removeprefix('iter_'))
    assert training.steps() == 2 * count
    assert f'{number.name} came: the training was saved' in log_of(training)
    if number == signal.SIGUSR1:
        return

    def be_started_again():
        # a torchrun that was replaced does not know of it
        os.environ['TORCHELASTIC_RESTART_COUNT'] = os.environ['RANK']
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # as `&` of a shell

    with Training(path, 2, first=be_started_again) as training:
        is_running(training)
        # a job in the background hears it too
        for pid in training.ranks:
            os.kill(pid, signal.SIGINT)
        assert training.finish(SECONDS) == [130, 130]
    assert re.search(rf'resumed epoch: \d+, iter: {count}\n', log_of(training))


@fault(
    PROCESSES,
    'a new training in the folder of an earlier one',
    'the earlier checkpoints are moved to a folder of their own, so that '
    '`--resume` does not take them',
)
def test_a_new_training_does_not_take_the_files_of_an_earlier_one(tmp_path):
    def first_weights():
        saved = torch.load(tmp_path / 'run/epoch_1.pth', weights_only=False)
        return saved['state_dict']['net.0.weight']

    with Training(config(tmp_path, epochs=2), 1) as training:
        assert training.finish(SECONDS) == [0]
    before = first_weights()
    # left by a process that was killed while it wrote
    (tmp_path / 'run/.12-0a1b2c3d-epoch_3.pth').write_bytes(b'PK')
    changes = {'optim_wrapper.optimizer.lr': 0.01}
    with Training(config(tmp_path, epochs=1, **changes), 1) as training:
        assert training.finish(SECONDS) == [0]
    assert not torch.equal(first_weights(), before)
    files = {p.name for p in Path(tmp_path, 'run').rglob('*.pth')}
    assert files == {'epoch_1.pth', 'epoch_2.pth'}
    assert not (tmp_path / 'run/epoch_2.pth').exists()
    assert '2 checkpoints of an earlier training were moved' in (
        log_of(training)
    )


def test_signals_are_given_back():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), signals_given_back():  # noqa: PT012
        SaveOnSignalHook().before_train(None)
        assert signal.getsignal(signal.SIGTERM) != before
        if not (pid := os.fork()):
            os._exit(signal.getsignal(signal.SIGTERM) == signal.SIG_DFL)
        # a worker can be ended
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
        raise KeyboardInterrupt
    assert signal.getsignal(signal.SIGTERM) == before
