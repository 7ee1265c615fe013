# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""A training that was killed and resumed repeats the uninterrupted one."""

import signal
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner

from tests.faults import CHECKPOINTS, CONFIGS, PROCESSES, fault
from tests.fixtures.trainings import Training

from .toy import RecordLossHook

ROOT = Path(__file__).parents[2]

# Kept until the end: torch waits five seconds for each worker of a loader
# that is collected as part of a reference cycle, as a Runner is.
RUNNERS = []


def make_config(work_dir, by_epoch, num_workers, persistent=False):
    """Three epochs of four iterations, or twelve iterations."""
    cfg = Config.fromfile(ROOT / 'configs/_base_/default_runtime.py')
    cfg.merge_from_dict(
        dict(
            work_dir=str(work_dir),
            custom_imports=dict(imports=['tests.test_engine.toy']),
            model=dict(type='ToyModel'),
            train_dataloader=dict(
                batch_size=3,
                num_workers=num_workers,
                persistent_workers=persistent,
                sampler=dict(
                    type='SeededSampler',
                    sampler='DefaultSampler'
                    if by_epoch
                    else 'InfiniteSampler',
                ),
                dataset=dict(type='ToyDataset'),
            ),
            train_cfg=dict(by_epoch=True, max_epochs=3)
            if by_epoch
            else dict(by_epoch=False, max_iters=12),
            optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.05)),
            param_scheduler=[
                dict(type='MultiStepLR', milestones=[2], by_epoch=by_epoch)
            ],
            log_processor=dict(by_epoch=by_epoch),
        )
    )
    cfg.default_hooks.checkpoint.update(
        by_epoch=by_epoch, interval=1 if by_epoch else 5
    )
    cfg.custom_hooks = [
        dict(type='RecordLossHook', path=str(work_dir) + '.losses')
    ]
    return cfg


def run(cfg, kill_at=None, resume=False):
    """Train; return the losses so far."""
    cfg = cfg.copy()
    cfg.resume = resume
    cfg.default_hooks.check_weights.strict = resume
    cfg.custom_hooks[0].kill_at = kill_at
    # mmengine keeps a message hub for each name.
    cfg.experiment_name = f'{cfg.work_dir}-{kill_at}-{resume}'
    runner = Runner.from_cfg(cfg)
    RUNNERS.append(runner)
    if kill_at is None:
        runner.train()
    else:
        with pytest.raises(KeyboardInterrupt):
            runner.train()
    return RecordLossHook.read(cfg.custom_hooks[0].path)


@fault(
    PROCESSES,
    'the run is interrupted after an epoch',
    'the resumed run repeats the losses of the whole run bit by bit, with and'
    ' without workers',
)
@pytest.mark.parametrize(
    ('by_epoch', 'num_workers', 'persistent'),
    [
        (True, 0, False),
        (True, 2, False),
        (True, 2, True),
        (False, 0, False),
        (False, 2, True),
    ],
)
def test_resume_repeats_the_run(tmp_path, by_epoch, num_workers, persistent):
    whole = run(
        make_config(tmp_path / 'whole', by_epoch, num_workers, persistent)
    )
    cfg = make_config(tmp_path / 'killed', by_epoch, num_workers, persistent)
    # In the middle of epoch 2 (iterations 5 to 8), 2 after a checkpoint.
    run(cfg, kill_at=7)
    Path(cfg.custom_hooks[0].path).unlink()
    resumed = run(cfg, resume=True)

    start = 4 if by_epoch else 5
    assert sorted(whole) == list(range(12))
    assert resumed == {i: whole[i] for i in range(start, 12)}


@pytest.mark.parametrize(
    'changes',
    [
        {'optim_wrapper.accumulative_counts': 2},
        {
            'optim_wrapper.type': 'ReferOptimWrapper',
            'optim_wrapper.precision': 'bf16',
        },
        {'custom_hooks.1': dict(type='EMAHook', momentum=0.2)},
    ],
    ids=['accumulation', 'bfloat16', 'EMA'],
)
def test_resume_with(tmp_path, changes):
    def config(name):
        cfg = make_config(tmp_path / name, by_epoch=True, num_workers=0)
        cfg.custom_hooks.append(dict(type='EmptyCacheHook'))
        cfg.merge_from_dict(changes)
        return cfg

    plain = run(make_config(tmp_path / 'plain', True, 0))
    whole = run(config('whole'))
    cfg = config('killed')
    run(cfg, kill_at=7)
    Path(cfg.custom_hooks[0].path).unlink()
    assert run(cfg, resume=True) == {i: whole[i] for i in range(4, 12)}
    final = [
        torch.load(tmp_path / name / 'epoch_3.pth', weights_only=False)
        for name in ('plain', 'whole', 'killed')
    ]
    weights = [x['state_dict']['net.0.weight'] for x in final]
    # the setting has an effect, and it survives the interruption
    assert (weights[0] != weights[1]).any()
    assert torch.equal(weights[1], weights[2])
    if 'custom_hooks.1' in changes:
        # the averages are what is tested later; training is not touched
        assert plain == whole


def test_a_run_with_a_group_per_tensor_resumes_with_merged_groups(tmp_path):
    def config(name, **kwargs):
        cfg = make_config(tmp_path / name, by_epoch=True, num_workers=0)
        cfg.optim_wrapper.update(
            paramwise_cfg=dict(custom_keys={'net.3': dict(lr_mult=0.1)}),
            **kwargs,
        )
        return cfg

    whole = run(config('whole'))
    cfg = config('killed')
    run(cfg, kill_at=11)
    former = torch.load(
        tmp_path / 'killed' / 'epoch_2.pth', weights_only=False
    )
    assert len(former['optimizer']['param_groups']) == 6
    Path(cfg.custom_hooks[0].path).unlink()
    merged = config('killed', constructor='MergedOptimWrapperConstructor')
    resumed = run(merged, resume=True)
    assert sorted(resumed) == list(range(8, 12))
    for step, loss in resumed.items():
        assert float.fromhex(loss) == pytest.approx(
            float.fromhex(whole[step]), rel=1e-5
        )
    latter = torch.load(
        tmp_path / 'killed' / 'epoch_3.pth', weights_only=False
    )
    # the milestone has come: both rates have fallen, and still differ
    assert [
        group['lr'] for group in latter['optimizer']['param_groups']
    ] == pytest.approx([5e-3, 5e-4])


def test_the_losses_depend_on_what_is_restored(tmp_path):
    """Without the hook the same comparison fails, hence it can."""
    cfg = make_config(tmp_path / 'a', by_epoch=False, num_workers=1)
    del cfg.default_hooks['resume']
    whole = run(cfg)
    cfg = make_config(tmp_path / 'b', by_epoch=False, num_workers=1)
    del cfg.default_hooks['resume']
    run(cfg, kill_at=7)
    resumed = run(cfg, resume=True)
    assert [resumed[i] for i in range(5, 12)] != [
        whole[i] for i in range(5, 12)
    ]


def test_workers_do_not_change_the_losses(tmp_path):
    none = run(make_config(tmp_path / 'a', by_epoch=True, num_workers=0))
    two = run(make_config(tmp_path / 'b', by_epoch=True, num_workers=2))
    assert none == two


@fault(
    CONFIGS,
    'the batch size differs from that of the checkpoint',
    'a warning says that the run will not repeat the interrupted one, with '
    'both values',
)
def test_a_changed_data_order_is_reported(tmp_path, caplog):
    cfg = make_config(tmp_path / 'a', by_epoch=True, num_workers=0)
    run(cfg, kill_at=7)
    cfg.train_dataloader.batch_size = 2
    with caplog.at_level('WARNING', logger='mmengine'):
        run(cfg, resume=True)
    log = ''.join(path.read_text() for path in tmp_path.rglob('*.log'))
    assert 'batch_size was 3 and is 2' in log


@fault(
    PROCESSES,
    '`kill -9` of `tools/train.py`',
    'its workers end within 10 s; `--resume` repeats the losses of the whole '
    'run',
)
def test_kill_and_resume_by_the_script(tmp_path):
    """SIGKILL in the training script, then ``--resume``."""
    cfg = make_config(tmp_path / 'killed', by_epoch=True, num_workers=2)
    cfg.custom_hooks[0].update(hard=True)
    cfg.dump(tmp_path / 'toy.py')
    whole = run(make_config(tmp_path / 'whole', True, num_workers=0))

    options = ['--cfg-options', 'custom_hooks.0.kill_at=6']
    with Training(tmp_path / 'toy.py', 1, *options) as killed:
        assert killed.wait(120, killed.poll)
        # the workers of its data loader end with it
        assert killed.finish(10) == [-signal.SIGKILL]
    with Training(tmp_path / 'toy.py', 1, '--resume') as resumed:
        assert resumed.finish() == [0]
    assert 'resumed epoch: 1, iter: 4' in resumed.log.read_text()
    assert RecordLossHook.read(cfg.custom_hooks[0].path) == whole


@fault(
    CHECKPOINTS,
    'the model of the config is not that of the checkpoint',
    'the resume is refused and the weights named',
)
def test_resume_refuses_another_model(tmp_path):
    from referformer.errors import CheckpointError

    cfg = make_config(tmp_path / 'a', by_epoch=True, num_workers=0)
    run(cfg, kill_at=7)
    cfg.model.width = 16
    cfg.resume = True
    cfg.default_hooks.check_weights.strict = True
    cfg.custom_hooks = []
    with pytest.raises(CheckpointError, match='have another shape'):
        Runner.from_cfg(cfg).train()


def test_the_checkpoint_holds_no_foreign_class(tmp_path):
    """What mmengine writes is exactly what the allow-list names."""
    from referformer.checkpoints.io import safe_globals

    cfg = make_config(tmp_path / 'a', by_epoch=True, num_workers=0)
    run(cfg, kill_at=7)
    names = torch.serialization.get_unsafe_globals_in_checkpoint(
        tmp_path / 'a' / 'epoch_1.pth'
    )
    assert set(names) <= set(safe_globals())
