# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""What a resumed run takes from its checkpoint, and what from its config."""

import shutil
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from referformer.engine.hooks.resumed_settings_hook import (
    Change,
    compare_settings,
)
from referformer.errors import CheckpointError
from referformer.registry import HOOKS
from tests.faults import CONFIGS, fault

from .test_resume import RUNNERS, make_config

SCHEDULE = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=6),
    dict(type='MultiStepLR', milestones=[1, 2], gamma=0.5, by_epoch=True),
]


@HOOKS.register_module(force=True)
class RecordRateHook(Hook):
    """Keep the learning rate of each iteration."""

    def __init__(self):
        self.rates = {}

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        [self.rates[runner.iter]] = runner.optim_wrapper.get_lr()['lr']


def train(work_dir, name, changes=None, resume=None):
    """Train; the rates, and the warnings about settings."""
    cfg = make_config(work_dir, by_epoch=True, num_workers=0)
    cfg.train_cfg = dict(type='ResumableTrainLoop', max_epochs=3)
    cfg.custom_hooks = [dict(type='RecordRateHook')]
    cfg.default_hooks.checkpoint.interval_iters = 2
    cfg.default_hooks.checkpoint.max_keep_ckpts = -1
    cfg.merge_from_dict(changes or {})
    cfg.experiment_name = f'{work_dir}-{name}'
    if resume is not None:
        cfg.load_from, cfg.resume = resume, True
    runner = Runner.from_cfg(cfg)
    RUNNERS.append(runner)
    runner.train()
    log = max(Path(work_dir).rglob('*.log'), key=lambda p: p.stat().st_mtime)
    lines = [
        line.partition('Resumed: ')[2]
        for line in log.read_text().splitlines()
        if 'Resumed: ' in line
    ]
    [hook] = [h for h in runner.hooks if isinstance(h, RecordRateHook)]
    return hook.rates, lines


@pytest.fixture(scope='module')
def first(tmp_path_factory):
    """Rates of a run, and its checkpoints of one and one and a half epochs."""
    work_dir = tmp_path_factory.mktemp('first') / 'run'
    kept = work_dir.parent

    class Keep(Hook):
        priority = 'LOWEST'

        def after_train_iter(self, runner, batch_idx, *_, **__):
            for path in work_dir.glob('iter_6.pth'):
                shutil.copy(path, kept)

    HOOKS.register_module(name='KeepMiddle', module=Keep, force=True)
    rates, lines = train(
        work_dir,
        'first',
        {
            'custom_hooks': [
                dict(type='RecordRateHook'),
                dict(type='KeepMiddle'),
            ]
        },
    )
    assert lines == []
    shutil.copy(work_dir / 'epoch_1.pth', kept)
    return kept, rates


CHANGES = {
    'optim_wrapper.optimizer.lr': 0.02,
    'param_scheduler': SCHEDULE,
    'train_dataloader.num_workers': 0,
    'model.width': 8,
    'train_cfg.max_epochs': 4,
}


# schedules of the same types
OTHER_RATES = {
    **CHANGES,
    'param_scheduler': [
        dict(type='MultiStepLR', milestones=[1], by_epoch=True)
    ],
}


@pytest.fixture(scope='module')
def fresh(tmp_path_factory):
    """Rates of a run that had the other schedule from its beginning."""
    work_dir = tmp_path_factory.mktemp('fresh') / 'run'
    rates, _ = train(work_dir, 'fresh', CHANGES)
    assert len(set(rates.values())) > 6
    return rates


@fault(
    CONFIGS,
    'learning rate and schedule were changed before a resume',
    'those of the checkpoint stay, and a line for each setting says so',
)
def test_the_checkpoint_overrules_rate_and_schedule(first, tmp_path):
    kept, before = first
    rates, lines = train(
        tmp_path / 'run', 'old', OTHER_RATES, resume=str(kept / 'epoch_1.pth')
    )
    assert {i: rates[i] for i in range(4, 12)} == {
        i: before[i] for i in range(4, 12)
    }
    kept_line = (
        ' of the checkpoint stays; --resume-with-new-schedule takes that of '
        'the config.'
    )
    # one line a setting; 8 is the default width, written out
    assert [line.split(' ')[0] for line in lines] == [
        'model.width',
        'train_cfg.max_epochs',
        'optim_wrapper.optimizer.lr',
        'param_scheduler.0.milestones',
        'custom_hooks',
    ]
    assert lines[1] == 'train_cfg.max_epochs was 3 and is 4.'
    assert lines[2] == (
        'optim_wrapper.optimizer.lr is 0.02 in the config, but 0.05'
        + kept_line
    )
    assert lines[3].endswith(kept_line)


@fault(
    CONFIGS,
    'the same, with `--resume-with-new-schedule`',
    'the rates are those of a run with the new settings from its beginning',
)
@pytest.mark.parametrize('name', ['epoch_1.pth', 'iter_6.pth'])
def test_a_new_schedule(first, fresh, tmp_path, name):
    kept, before = first
    changes = {
        **CHANGES,
        'default_hooks.resumed_settings.new_schedule': True,
    }
    rates, lines = train(
        tmp_path / 'run', 'new', changes, resume=str(kept / name)
    )
    start = 4 if name == 'epoch_1.pth' else 6
    assert rates == pytest.approx({i: fresh[i] for i in range(start, 16)})
    assert before[start] != rates[start]
    assert 'optim_wrapper.optimizer.lr was 0.05; 0.02 is used now.' in lines
    # the next resume goes on with it
    newest = tmp_path / 'run/epoch_3.pth'
    again, lines = train(
        tmp_path / 'again', 'again', CHANGES, resume=str(newest)
    )
    assert again == pytest.approx({i: fresh[i] for i in range(12, 16)})
    assert lines == []


@fault(
    CONFIGS,
    'other types of schedules in a resume',
    'the resume is refused, unless `--resume-with-new-schedule` is given',
)
def test_other_schedules_are_refused(first, tmp_path):
    """mmengine would load the state of one into another."""
    with pytest.raises(CheckpointError) as caught:
        train(
            tmp_path / 'run',
            'types',
            CHANGES,
            resume=str(first[0] / 'epoch_1.pth'),
        )
    assert str(caught.value) == (
        'the checkpoint holds the state of MultiStepLR, and the '
        'param_scheduler of the config is LinearLR, MultiStepLR; keep the '
        'schedules, or take those of the config with '
        '--resume-with-new-schedule.'
    )


@fault(
    CONFIGS,
    'another type of optimizer in a resume',
    'the resume is refused, and both are named',
)
def test_another_optimizer_is_refused(first, tmp_path):
    changes = {'optim_wrapper.optimizer': dict(type='SGD', lr=0.1)}
    with pytest.raises(
        CheckpointError, match=r'holds the state of AdamW, .* config is SGD; '
    ):
        train(
            tmp_path / 'run',
            'other',
            changes,
            resume=str(first[0] / 'epoch_1.pth'),
        )


def test_a_checkpoint_of_an_earlier_version(first, tmp_path):
    """It has no record of the settings."""
    saved = torch.load(first[0] / 'epoch_1.pth', weights_only=False)
    del saved['meta']['settings']
    torch.save(saved, tmp_path / 'old.pth')
    old = str(tmp_path / 'old.pth')
    rates, lines = train(tmp_path / 'run', 'earlier', OTHER_RATES, resume=old)
    assert lines == []
    assert {i: rates[i] for i in range(4, 12)} == {
        i: first[1][i] for i in range(4, 12)
    }
    with pytest.raises(
        CheckpointError, match='holds the state of 1 schedules, and'
    ):
        train(tmp_path / 'run', 'longer', CHANGES, resume=old)


def test_weights_alone_are_not_resumed(first, tmp_path):
    changes = {
        **CHANGES,
        'default_hooks.resumed_settings.new_schedule': True,
        'load_from': str(first[0] / 'epoch_1.pth'),
    }
    rates, lines = train(tmp_path / 'run', 'weights', changes)
    assert min(rates) == 0
    assert lines == []


@pytest.mark.parametrize(
    ('old', 'new', 'changes'),
    [
        ({'a': 1}, {'a': 1}, []),
        ({'a': {'b': 1}}, {'a': {'b': 2}}, [('a.b', 1, 2)]),
        ({'a': {}}, {'a': {'b': 2}}, [('a.b', None, 2)]),
        ({'a': [1, 2]}, {'a': [1, 3]}, [('a', [1, 2], [1, 3])]),
        (
            {'a': [{'t': 1}, {'t': 2}]},
            {'a': [{'t': 1}, {'t': 3}]},
            [('a.1.t', 2, 3)],
        ),
        (
            {'a': {'type': 'X', 'b': 1}},
            {'a': {'type': 'Y', 'c': 1}},
            [('a', {'type': 'X', 'b': 1}, {'type': 'Y', 'c': 1})],
        ),
        (
            {'train_dataloader': {'num_workers': 1}},
            {'train_dataloader': {'num_workers': 2}},
            [],
        ),
    ],
)
def test_settings_are_compared_part_by_part(old, new, changes):
    assert [*compare_settings(old, new)] == [Change(*c) for c in changes]
