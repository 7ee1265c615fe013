# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Batches without finite gradients."""

from pathlib import Path

import pytest
import torch
from mmengine.runner import Runner
from torch import nn

from referformer.engine import BadStepHook, ReferOptimWrapper
from referformer.engine.replay import replay_step
from referformer.errors import CheckpointError, ConfigError, ReferError
from referformer.registry import DATASETS
from referformer.testing import demo_refer_inputs, tiny_model_cfg
from tests.faults import NUMBERS, fault

from ..fixtures.tools import script
from .test_resume import RUNNERS, make_config
from .toy import RecordLossHook, ToyDataset

ROOT = Path(__file__).parents[2]


@DATASETS.register_module(force=True)
class PoisonedDataset(ToyDataset):
    """A toy data set with samples that are not finite."""

    def __init__(self, poisoned=(), **kwargs):
        super().__init__(**kwargs)
        self.poisoned = poisoned

    def __getitem__(self, index):
        item = super().__getitem__(index)
        if int(index) in self.poisoned:
            item['inputs'] = item['inputs'] * float('nan')
        return item


def train(tmp_path, name, poisoned, **bad_steps):
    cfg = make_config(tmp_path / name, by_epoch=True, num_workers=0)
    cfg.train_dataloader.dataset = dict(
        type='PoisonedDataset', poisoned=poisoned
    )
    cfg.optim_wrapper.type = 'ReferOptimWrapper'
    cfg.default_hooks.bad_steps.update(bad_steps)
    cfg.experiment_name = f'{tmp_path}-{name}'
    runner = Runner.from_cfg(cfg)
    RUNNERS.append(runner)
    try:
        runner.train()
    finally:
        losses = RecordLossHook.read(cfg.custom_hooks[0].path)
    return runner, losses


def hook_of(runner):
    [hook] = [h for h in runner.hooks if isinstance(h, BadStepHook)]
    return hook


@fault(
    NUMBERS,
    'a sample is NaN',
    'the step is left out, counted and dumped; the run goes on, and no '
    'checkpoint holds a NaN',
)
def test_the_run_goes_on_and_the_weights_stay_finite(tmp_path):
    runner, losses = train(tmp_path, 'run', poisoned=[5])
    assert len(losses) == 12
    hook = hook_of(runner)
    assert (hook.total, hook.in_row) == (3, 0)  # one an epoch
    for value in runner.model.state_dict().values():
        assert torch.isfinite(value).all()
    log = next(Path(runner.work_dir).rglob('*.log')).read_text()
    assert 'are not finite, so the step was left out (1 in all' in log
    assert len(list(Path(runner.work_dir, 'bad_steps').iterdir())) == 3
    for path in Path(runner.work_dir).glob('epoch_*.pth'):
        state = torch.load(path, weights_only=False)['state_dict']
        assert all(torch.isfinite(value).all() for value in state.values())


@fault(
    NUMBERS,
    'every sample is NaN',
    'the run stops after `max_in_row` steps, names the iteration and the '
    'dump, and has saved nothing',
)
def test_many_in_a_row_stop_the_run(tmp_path):
    with pytest.raises(ReferError, match='2 steps in a row') as caught:
        train(tmp_path, 'run', poisoned=range(12), max_in_row=2)
    assert 'replay_step.py' in str(caught.value)
    assert caught.value.value == 1
    assert not list((tmp_path / 'run').glob('*.pth'))


@fault(
    NUMBERS,
    'gradients are NaN or infinite',
    'neither the weights nor the state of the optimizer change, fused or not',
)
@pytest.mark.parametrize('fused', [False, True])
def test_a_bad_step_changes_nothing(fused):
    """Neither weights nor the state of the optimizer."""
    model = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=fused)
    wrapper = ReferOptimWrapper(optimizer, clip_grad=dict(max_norm=1.0))

    def step(scale):
        wrapper.update_params((model(torch.ones(1, 3)) * scale).sum())
        state = optimizer.state_dict()['state']
        return [value.detach().clone() for value in model.parameters()] + [
            torch.as_tensor(value).clone()
            for each in state.values()
            for value in each.values()
        ]

    good = step(1.0)
    assert wrapper.last_step_made
    for scale in (float('nan'), float('inf')):
        bad = step(scale)
        assert not wrapper.last_step_made
        assert all(map(torch.equal, good, bad))
    again = step(1.0)
    assert wrapper.last_step_made
    assert not all(map(torch.equal, good, again))


@fault(
    NUMBERS,
    'a weight is NaN when a checkpoint is due',
    'it is not saved; the error counts the tensors',
)
def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    cfg = make_config(tmp_path / 'run', by_epoch=True, num_workers=0)
    cfg.experiment_name = str(tmp_path)
    runner = Runner.from_cfg(cfg)
    RUNNERS.append(runner)
    runner.call_hook('before_train')
    with torch.no_grad():
        runner.model.net[0].weight[0, 0] = float('nan')
    [hook] = [h for h in runner.hooks if hasattr(h, 'save_now')]
    with pytest.raises(CheckpointError, match='1 tensors of the model'):
        hook.save_now(runner)
    assert not list((tmp_path / 'run').glob('*.pth'))


def test_a_limit_that_is_none():
    with pytest.raises(ConfigError, match='max_in_row is 0'):
        BadStepHook(max_in_row=0)


@fault(
    NUMBERS,
    'a weight is infinite',
    'the dump of the step computes the same non-finite loss again',
)
def test_the_dump_replays_the_real_model(tmp_path, capsys):
    """The same value that is not finite, from the file alone."""
    from mmengine.config import Config

    from referformer.registry import MODELS

    cfg = Config(dict(model=tiny_model_cfg()))
    model = MODELS.build(cfg.model)
    model.train()
    batch = demo_refer_inputs()
    with torch.no_grad():
        weight = next(iter(model.transformer.parameters()))
        weight.view(-1)[0] = float('inf')

    class Stub:
        """What the hook asks a runner for."""

        iter, seed, work_dir = 6, 3, str(tmp_path)
        optim_wrapper = type('Wrapper', (), {'precision': 'fp32'})

    runner = Stub()
    runner.model, runner.cfg = model, cfg
    from referformer.engine.hooks.bad_step_hook import _Step

    step = _Step(6, torch.tensor(False), None, batch, torch.tensor(0.0) / 0)
    path = BadStepHook._dump(runner, step)
    replay = replay_step(path)
    assert torch.isnan(torch.tensor(replay.recorded))
    assert not torch.isfinite(torch.tensor(replay.loss))
    assert replay.bad_gradients
    assert replay.bad_inputs == 0
    script('analysis_tools/replay_step').main([str(path)])
    printed = capsys.readouterr().out
    assert 'loss: nan' in printed or 'loss: inf' in printed
