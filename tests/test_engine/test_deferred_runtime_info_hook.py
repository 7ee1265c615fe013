# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""The same log as mmengine's, with one read of the device per interval."""

import json
import pickle

import pytest
import torch
from mmengine.runner import Runner

from referformer.engine.hooks.deferred_runtime_info_hook import (
    DeferredRuntimeInfoHook,
)

from . import toy  # noqa: F401  (registers)


def run(tmp_path, name, hook, epochs=2, interval=5, **kwargs):
    """Train; return the records of the log and the runner."""
    runner = Runner(
        model=dict(type='ToyModel'),
        work_dir=str(tmp_path / name),
        train_dataloader=dict(
            batch_size=2,
            num_workers=0,
            sampler=dict(type='SeededSampler', shuffle=True),
            dataset=dict(type='ToyDataset', length=24),
        ),
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(
            type='OptimWrapper', optimizer=dict(type='SGD', lr=0.01)
        ),
        default_hooks=dict(
            runtime_info=dict(type=hook),
            logger=dict(type='LoggerHook', interval=interval),
            checkpoint=dict(type='CheckpointHook', interval=1),
        ),
        log_processor=dict(type='LogProcessor', window_size=7),
        default_scope='referformer',
        randomness=dict(seed=3),
        experiment_name=f'{tmp_path.name}-{name}',
        **kwargs,
    )
    runner.train()
    records = [
        json.loads(line)
        for path in (tmp_path / name).rglob('scalars.json')
        for line in path.read_text().splitlines()
    ]
    return [(r['step'], r['loss'], r['lr']) for r in records], runner


def test_logs_what_mmengine_logs(tmp_path):
    expected, _ = run(tmp_path, 'theirs', 'RuntimeInfoHook')
    found, _ = run(tmp_path, 'ours', 'DeferredRuntimeInfoHook')
    assert len(expected) >= 4
    assert [step for step, *_ in found] == [step for step, *_ in expected]
    for (_, loss, lr), (_, other_loss, other_lr) in zip(
        expected, found, strict=True
    ):
        assert other_loss == pytest.approx(loss, rel=1e-6)
        assert other_lr == lr


def test_reads_the_device_once_an_interval(tmp_path, monkeypatch):
    reads = []
    item, tolist = torch.Tensor.item, torch.Tensor.tolist
    monkeypatch.setattr(
        torch.Tensor, 'item', lambda t: reads.append('item') or item(t)
    )
    monkeypatch.setattr(
        torch.Tensor, 'tolist', lambda t: reads.append('tolist') or tolist(t)
    )
    run(tmp_path, 'ours', 'DeferredRuntimeInfoHook', epochs=1, interval=4)
    # 12 iterations in intervals of 4; the sampler lists its indices once
    assert reads.count('tolist') <= 4
    # the data loader draws its seed; 12 losses are not among them
    assert reads.count('item') <= 2


def test_history_is_bounded(tmp_path):
    _, runner = run(tmp_path, 'short', 'DeferredRuntimeInfoHook', epochs=2)
    _, longer = run(tmp_path, 'long', 'DeferredRuntimeInfoHook', epochs=6)
    for one in (runner, longer):
        for name, buffer in one.message_hub.log_scalars.items():
            assert len(buffer.data[0]) <= 7, name
    sizes = [
        (tmp_path / name / f'epoch_{epoch}.pth').stat().st_size
        for name, epoch in (('short', 2), ('long', 6))
    ]
    assert sizes[1] - sizes[0] < 512


def test_a_checkpoint_after_ten_thousand_iterations_is_no_larger(tmp_path):
    _, runner = run(tmp_path, 'ours', 'DeferredRuntimeInfoHook', epochs=1)
    (hook,) = (h for h in runner.hooks if type(h) is DeferredRuntimeInfoHook)
    sizes = []
    for iterations in (1_000, 9_000):
        for i in range(iterations):
            hook.before_train_iter(runner, i % 12)
            outputs = {'loss': torch.tensor(float(i))}
            hook.after_train_iter(runner, i % 12, outputs=outputs)
        checkpoint = {}
        hook.before_save_checkpoint(runner, checkpoint)
        sizes.append(len(pickle.dumps(checkpoint)))
    assert abs(sizes[1] - sizes[0]) < 512


def test_values_pending_at_a_checkpoint_are_in_it(tmp_path):
    run(tmp_path, 'ours', 'DeferredRuntimeInfoHook', epochs=1, interval=1000)
    checkpoint = torch.load(
        tmp_path / 'ours' / 'epoch_1.pth', weights_only=False
    )
    history = checkpoint['message_hub']['log_scalars']['train/loss']
    assert len(history.data[0]) == 7
