# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Checkpoints inside an epoch, signals, full disks, damaged files."""

import errno
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
from mmengine.runner import Runner

from referformer.checkpoints.atomic_backend import AtomicLocalBackend
from referformer.checkpoints.latest import find_resumable
from referformer.engine.hooks import refer_checkpoint_hook
from referformer.engine.hooks.save_on_signal_hook import INTERRUPTED
from referformer.engine.resume import resume_latest
from referformer.errors import CheckpointError, ConfigError
from tests.faults import CHECKPOINTS, CONFIGS, DISK, PROCESSES, fault

from .test_resume import RUNNERS, make_config
from .toy import RecordLossHook


def config(folder, **changes):
    cfg = make_config(folder, by_epoch=True, num_workers=0)
    cfg.train_cfg = dict(type='ResumableTrainLoop', max_epochs=3)
    cfg.default_hooks.checkpoint.interval_iters = 1
    cfg.merge_from_dict(changes)
    return cfg


def build(cfg, name):
    cfg = cfg.copy()
    cfg.experiment_name = f'{cfg.work_dir}-{name}'
    runner = Runner.from_cfg(cfg)
    RUNNERS.append(runner)
    return runner


def go_on(cfg, name='again'):
    """Resume as ``tools/train.py --resume`` does; return losses by then."""
    Path(cfg.custom_hooks[0].path).unlink(missing_ok=True)
    cfg = cfg.copy()
    cfg.custom_hooks[0].kill_at = None
    runner = build(cfg, name)
    assert resume_latest(runner)
    runner.train()
    return RecordLossHook.read(cfg.custom_hooks[0].path)


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """Losses and weights of a run without an interruption."""
    cfg = config(tmp_path_factory.mktemp('whole') / 'run')
    build(cfg, 'whole').train()
    path = Path(cfg.work_dir, 'epoch_3.pth')
    weights = torch.load(path, weights_only=False)['state_dict']
    return RecordLossHook.read(cfg.custom_hooks[0].path), weights


def same_weights(cfg, expected):
    path = Path(cfg.work_dir, 'epoch_3.pth')
    weights = torch.load(path, weights_only=False)['state_dict']
    return all(torch.equal(weights[name], expected[name]) for name in expected)


@fault(
    PROCESSES,
    'the run is interrupted inside an epoch',
    '`--resume` goes on at the next sample; losses and final weights equal '
    'those of the whole run bit by bit',
)
# in the middle, after the last iteration of an epoch, after the first
@pytest.mark.parametrize('kill_at', [6, 8, 1, 11])
def test_a_run_goes_on_inside_an_epoch(tmp_path, whole, kill_at):
    cfg = config(tmp_path / 'run')
    cfg.custom_hooks[0].kill_at = kill_at
    with pytest.raises(KeyboardInterrupt):
        build(cfg, 'killed').train()
    # RecordLossHook kills before the checkpoint of its iteration
    if kill_at == 1:
        assert not find_resumable(cfg.work_dir).path
        return
    losses = go_on(cfg)
    assert losses == {i: whole[0][i] for i in range(kill_at - 1, 12)}
    assert same_weights(cfg, whole[1])


def test_the_files_of_an_epoch_are_removed_after_it(tmp_path):
    cfg = config(tmp_path / 'run')
    cfg.default_hooks.checkpoint.max_keep_ckpts = 2
    build(cfg, 'run').train()
    names = sorted(p.name for p in Path(cfg.work_dir).glob('*.pth'))
    assert names == ['epoch_2.pth', 'epoch_3.pth']


@fault(
    PROCESSES,
    'the run is interrupted between two accumulated batches',
    'losses equal those of the whole run',
)
def test_gradients_that_accumulate_are_not_lost(tmp_path):
    def accumulating(name):
        cfg = config(tmp_path / name)
        cfg.optim_wrapper.accumulative_counts = 2
        return cfg

    cfg = accumulating('whole')
    build(cfg, 'whole').train()
    expected = RecordLossHook.read(cfg.custom_hooks[0].path)
    cfg = accumulating('killed')
    cfg.custom_hooks[0].kill_at = 7
    with pytest.raises(KeyboardInterrupt):
        build(cfg, 'killed').train()
    losses = go_on(cfg)
    assert losses == {i: expected[i] for i in range(6, 12)}


@fault(
    PROCESSES,
    'SIGTERM or SIGUSR1',
    'the run saves after the present iteration and ends with status 75; the '
    'final weights are those of the whole run',
)
@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGUSR1])
@pytest.mark.parametrize('at', [5, 8])
def test_a_signal_saves_and_ends_the_run(tmp_path, whole, number, at):
    cfg = config(tmp_path / 'run')
    cfg.default_hooks.checkpoint.interval_iters = None
    runner = build(cfg, 'signalled')
    step = runner.train_loop.run_iter

    def run_iter(idx, batch):
        if runner.iter + 1 == at:
            os.kill(os.getpid(), number)
        step(idx, batch)

    runner.train_loop.run_iter = run_iter
    before = signal.getsignal(number)
    try:
        with pytest.raises(SystemExit) as caught:
            runner.train()
    finally:
        signal.signal(number, before)
    assert caught.value.code == INTERRUPTED
    losses = go_on(cfg)
    assert losses == {i: whole[0][i] for i in range(at, 12)}
    assert same_weights(cfg, whole[1])


@fault(
    CONFIGS,
    'the sampler was changed to one that cannot begin inside an epoch',
    'the resume is refused and the sampler named',
)
def test_another_sampler_is_refused(tmp_path):
    cfg = config(tmp_path / 'run')
    cfg.custom_hooks[0].kill_at = 6
    with pytest.raises(KeyboardInterrupt):
        build(cfg, 'killed').train()
    cfg.train_dataloader.sampler = dict(type='DefaultSampler', shuffle=True)
    with pytest.raises(ConfigError, match='DefaultSampler cannot begin there'):
        go_on(cfg)


@fault(
    CONFIGS,
    'the batch size was changed before a resume',
    'the interrupted epoch begins anew',
)
def test_an_epoch_begins_anew_where_the_order_has_changed(tmp_path):
    cfg = config(tmp_path / 'run')
    cfg.custom_hooks[0].kill_at = 6
    with pytest.raises(KeyboardInterrupt):
        build(cfg, 'killed').train()
    cfg.train_dataloader.batch_size = 2
    losses = go_on(cfg)
    # iteration 5, the second of epoch 2; two whole epochs of six follow
    assert sorted(losses) == list(range(5, 17))


# -- files ----------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    """A run that ended after three epochs."""
    cfg = config(tmp_path / 'run')
    build(cfg, 'run').train()
    return Path(cfg.work_dir)


@fault(
    CHECKPOINTS,
    'the newest checkpoint is cut off, empty, or has flipped bits',
    '`--resume` names it and takes the one before',
)
def test_damaged_files_are_passed_over(folder):
    assert find_resumable(folder).path.name == 'epoch_3.pth'
    newest = folder / 'epoch_3.pth'
    content = newest.read_bytes()
    # cut off: a machine that failed while it wrote
    newest.write_bytes(content[: len(content) // 2])
    found = find_resumable(folder)
    assert found.path.name == 'epoch_2.pth'
    [(path, reason)] = found.damaged
    assert path == newest
    assert 'epoch_3.pth' in reason
    # a flipped bit in a tensor: a disk that failed
    spoilt = bytearray(content)
    middle = len(content) // 3
    for n in range(middle, middle + 64):
        spoilt[n] ^= 255
    newest.write_bytes(bytes(spoilt))
    assert find_resumable(folder).path.name == 'epoch_2.pth'
    newest.write_bytes(b'')
    assert find_resumable(folder).path.name == 'epoch_2.pth'


@fault(
    CHECKPOINTS,
    'all checkpoints are damaged',
    'the run does not start from nothing: an error counts them',
)
def test_all_damaged(folder):
    for path in folder.glob('*.pth'):
        path.write_bytes(b'PK')
    with pytest.raises(CheckpointError, match='none of the 3 checkpoints'):
        find_resumable(folder)


@fault(
    CHECKPOINTS,
    'the work directory was copied',
    '`--resume` takes the checkpoint of the copy, not the recorded path',
)
def test_a_copied_folder_goes_on_from_its_own_files(folder, tmp_path):
    copy = tmp_path / 'copy'
    shutil.copytree(folder, copy)
    assert str(folder) in (copy / 'last_checkpoint').read_text()
    assert find_resumable(copy).path == copy / 'epoch_3.pth'
    assert not find_resumable(tmp_path / 'nothing').path


@fault(
    CHECKPOINTS,
    'files of other names lie beside the checkpoints',
    '`--resume` does not look at them',
)
def test_other_files_are_no_checkpoints(folder):
    for name in ('best_J&F_epoch_9.pth', 'epoch_9.pth.bak', '.1-epoch_9.pth'):
        (folder / name).write_bytes(b'')
    assert find_resumable(folder).path.name == 'epoch_3.pth'
    assert not find_resumable(folder).damaged


@fault(
    DISK,
    'the disk fills up during a training',
    'the last checkpoint stays, and the run ends with one sentence that names'
    ' it',
)
def test_a_full_disk_keeps_what_is_there(tmp_path, monkeypatch):
    cfg = config(tmp_path / 'run')
    put, calls = AtomicLocalBackend.put, []

    def full(self, obj, path):
        calls.append(path)
        if len(calls) > 5:
            raise OSError(errno.ENOSPC, 'No space left on device')
        put(self, obj, path)

    monkeypatch.setattr(AtomicLocalBackend, 'put', full)
    with pytest.raises(CheckpointError, match=r'the disk is full \(the last'):
        build(cfg, 'full').train()
    assert find_resumable(cfg.work_dir).path.name == 'iter_5.pth'


@fault(
    DISK,
    'the disk has no room for two checkpoints',
    'the run is refused before the first step',
)
def test_free_space_is_looked_at_first(tmp_path, monkeypatch):
    monkeypatch.setattr(
        refer_checkpoint_hook.shutil,
        'disk_usage',
        lambda _: shutil._ntuple_diskusage(10**9, 10**9 - 700, 700),
    )
    with pytest.raises(ConfigError, match='two must fit'):
        build(config(tmp_path / 'run'), 'full').train()


@fault(
    DISK,
    'writing a checkpoint fails',
    'no part of it is left',
)
def test_nothing_is_left_of_a_file_that_failed(tmp_path, monkeypatch):
    def fail(_):
        raise OSError(errno.EIO, 'Input/output error')

    monkeypatch.setattr(os, 'fsync', fail)
    (tmp_path / 'a').write_bytes(b'old')
    with pytest.raises(OSError, match='Input/output'):
        AtomicLocalBackend().put(b'new', tmp_path / 'a')
    assert [p.name for p in tmp_path.iterdir()] == ['a']
    assert (tmp_path / 'a').read_bytes() == b'old'
