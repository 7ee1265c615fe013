# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Validation while training: the best weights are those of the best epoch."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.runner import Runner

from referformer.engine.resume import resume_latest
from referformer.engine.validation import (
    require_truth,
    validate_on_test_data,
)
from referformer.errors import CheckpointError, ConfigError, DataError
from referformer.registry import METRICS
from tests.faults import CHECKPOINTS, CONFIGS, DISK, fault

from .test_resume import RUNNERS, make_config
from .toy import RecordLossHook

# the epochs that were scored, in their order
SCORED = []


@METRICS.register_module(force=True)
class ScriptedMetric(BaseMetric):
    """Scores as given, one for each epoch."""

    default_prefix = 'toy'

    def __init__(self, scores, stop_at=None):
        super().__init__()
        self.scores = scores
        self.stop_at = stop_at

    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        epoch = RUNNERS[-1].epoch
        if epoch == self.stop_at:
            raise KeyboardInterrupt
        SCORED.append(epoch)
        return {'J&F 0.5:1': self.scores[epoch - 1], 'other': 0.0}


def config(work_dir, scores, **changes):
    cfg = make_config(work_dir, by_epoch=True, num_workers=0)
    cfg.merge_from_dict(
        {
            'train_cfg': dict(
                _delete_=True, type='ResumableTrainLoop', max_epochs=3
            ),
            'val_dataloader': dict(
                batch_size=2,
                num_workers=0,
                sampler=dict(type='DefaultSampler', shuffle=False),
                dataset=dict(type='ToyDataset', length=4, noisy=False),
            ),
            'val_evaluator': dict(type='ScriptedMetric', scores=scores),
            'val_cfg': dict(type='ValLoop'),
            'default_hooks.checkpoint.save_best': 'toy/J&F 0.5:1',
            'default_hooks.checkpoint.rule': 'greater',
            **changes,
        }
    )
    return cfg


def run(cfg, name, resume=False):
    cfg = cfg.copy()
    cfg.experiment_name = f'{cfg.work_dir}-{name}'
    runner = Runner.from_cfg(cfg)
    RUNNERS.append(runner)
    SCORED.clear()
    if resume:
        assert resume_latest(runner)
    runner.train()
    return [*SCORED]


def best_of(cfg):
    return sorted(p.name for p in Path(cfg.work_dir).glob('best_*'))


def weights(path):
    state = torch.load(path, weights_only=False)['state_dict']
    return torch.cat([value.flatten().double() for value in state.values()])


@pytest.mark.parametrize(
    ('scores', 'best'), [([1, 3, 2], 2), ([1, 2, 3], 3), ([2, 2, 1], 1)]
)
def test_the_best_weights_are_those_of_the_best_epoch(tmp_path, scores, best):
    cfg = config(tmp_path / 'run', scores)
    assert run(cfg, 'run') == [1, 2, 3]
    assert best_of(cfg) == [f'best_toy_J_F_0.5_1_epoch_{best}.pth']
    path = tmp_path / 'run' / best_of(cfg)[0]
    assert torch.equal(
        weights(path), weights(tmp_path / f'run/epoch_{best}.pth')
    )
    assert 'optimizer' not in torch.load(path, weights_only=False)
    # --resume is not led to it
    assert (
        Path(tmp_path, 'run/last_checkpoint')
        .read_text()
        .endswith('epoch_3.pth')
    )


def test_validation_leaves_the_training_as_it_is(tmp_path):
    cfg = config(tmp_path / 'with', [1, 2, 3])
    run(cfg, 'with')
    plain = config(tmp_path / 'without', [])
    plain.val_dataloader = plain.val_evaluator = plain.val_cfg = None
    run(plain, 'without')
    losses = [
        RecordLossHook.read(c.custom_hooks[0].path) for c in (cfg, plain)
    ]
    assert losses[0] == losses[1]


def test_every_second_epoch_and_the_last(tmp_path):
    cfg = config(tmp_path / 'run', [9, 1, 2], **{'train_cfg.val_interval': 2})
    assert run(cfg, 'run') == [2, 3]
    assert best_of(cfg) == ['best_toy_J_F_0.5_1_epoch_3.pth']


@fault(
    CHECKPOINTS,
    'the run is interrupted during the validation of an epoch',
    '`--resume` begins with that validation, and the best weights are those '
    'of the whole run',
)
@pytest.mark.parametrize('epoch', [2, 3])
def test_an_interrupted_validation_is_caught_up(tmp_path, epoch):
    scores = [1, 3, 2] if epoch == 2 else [1, 2, 3]
    cfg = config(tmp_path / 'run', scores, **{'val_evaluator.stop_at': epoch})
    with pytest.raises(KeyboardInterrupt):
        run(cfg, 'first')
    assert best_of(cfg) == [f'best_toy_J_F_0.5_1_epoch_{epoch - 1}.pth']
    cfg.val_evaluator.stop_at = None
    assert run(cfg, 'again', resume=True) == [*range(epoch, 4)]
    assert best_of(cfg) == [f'best_toy_J_F_0.5_1_epoch_{epoch}.pth']


def test_a_finished_run_is_not_scored_again(tmp_path):
    cfg = config(tmp_path / 'run', [1, 2, 3])
    run(cfg, 'first')
    assert run(cfg, 'again', resume=True) == []


@fault(
    CHECKPOINTS,
    'a copied work directory is resumed and finds better weights',
    'the best weights in the other folder stay',
)
def test_the_best_of_another_folder_stays(tmp_path):
    cfg = config(tmp_path / 'run', [1, 2, 3], **{'train_cfg.max_epochs': 2})
    run(cfg, 'first')
    copied = cfg.copy()
    copied.work_dir = str(shutil.copytree(cfg.work_dir, tmp_path / 'copy'))
    copied.train_cfg.max_epochs = 3
    run(copied, 'copied', resume=True)
    assert best_of(cfg) == ['best_toy_J_F_0.5_1_epoch_2.pth']
    assert best_of(copied) == ['best_toy_J_F_0.5_1_epoch_3.pth']


@fault(
    DISK,
    'the disk is full while better weights are saved',
    'the best ones so far stay',
)
def test_a_full_disk_keeps_the_best(tmp_path, monkeypatch):
    import errno

    save = Runner.save_checkpoint

    def full(self, out_dir, filename, *args, **kwargs):
        if 'best' in filename and 'epoch_2' in filename:
            raise OSError(errno.ENOSPC, 'No space left on device')
        return save(self, out_dir, filename, *args, **kwargs)

    monkeypatch.setattr(Runner, 'save_checkpoint', full)
    cfg = config(tmp_path / 'run', [1, 2, 3])
    with pytest.raises(CheckpointError, match='as the disk is full'):
        run(cfg, 'run')
    assert best_of(cfg) == ['best_toy_J_F_0.5_1_epoch_1.pth']


@fault(
    CONFIGS,
    '`save_best` names a score that the metric does not have',
    'the error lists the scores',
)
def test_an_unknown_score(tmp_path):
    changes = {'default_hooks.checkpoint.save_best': 'toy/IoU'}
    cfg = config(tmp_path / 'run', [1, 2, 3], **changes)
    with pytest.raises(
        ConfigError, match=r"save_best='toy/IoU' is no score .* toy/J&F 0\.5"
    ):
        run(cfg, 'run')


def test_several_scores_are_refused():
    from referformer.engine import ReferCheckpointHook

    with pytest.raises(ConfigError, match='give one score'):
        ReferCheckpointHook(save_best=['a', 'b'], rule='greater')


# -- the option --validate ----------------------------------------------------


def test_the_test_data_of_a_config():
    cfg = Config(
        dict(test_dataloader=dict(batch_size=1), test_evaluator=dict(type='M'))
    )
    validate_on_test_data(cfg, 'x.py')
    assert cfg.val_dataloader.batch_size == 1
    assert cfg.val_dataloader == cfg.test_dataloader
    assert cfg.val_dataloader is not cfg.test_dataloader
    checkpoint = cfg.default_hooks.checkpoint
    assert (checkpoint.save_best, checkpoint.rule) == ('auto', 'greater')


def test_a_validation_of_its_own_stays():
    cfg = Config(
        dict(
            val_dataloader=dict(batch_size=3),
            default_hooks=dict(checkpoint=dict(save_best='x', type='A')),
        )
    )
    validate_on_test_data(cfg, 'x.py')
    assert cfg.val_dataloader.batch_size == 3
    assert cfg.default_hooks.checkpoint == dict(save_best='x', type='A')


def test_a_config_without_test_data():
    with pytest.raises(ConfigError, match=r'^x\.py has no test data that'):
        validate_on_test_data(Config({}), 'x.py')


@fault(
    CONFIGS,
    '`--validate` on data without ground truth',
    'the run ends before the first epoch, and the file is named',
)
def test_ground_truth_is_asked_for_before_the_first_epoch():
    dataset = SimpleNamespace(ann_file='valid.json', has_truth=lambda: False)
    loop = SimpleNamespace(dataloader=SimpleNamespace(dataset=dataset))
    with pytest.raises(DataError, match=r'and valid\.json names no objects; '):
        require_truth(SimpleNamespace(val_loop=loop))
    dataset.has_truth = lambda: True
    require_truth(SimpleNamespace(val_loop=loop))
