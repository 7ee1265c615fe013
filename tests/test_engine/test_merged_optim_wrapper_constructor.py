# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Few parameter groups, the same training, and old checkpoints resume."""

import copy

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.optim.scheduler import MultiStepLR
from torch import nn

from referformer.engine.optim.merged_optim_wrapper_constructor import (
    MergedOptimWrapperConstructor,
    merge_groups,
)
from referformer.registry import MODELS
from referformer.testing import shrink_model_cfg

WRAPPER = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-2, weight_decay=1e-1),
    clip_grad=dict(max_norm=0.1),
    paramwise_cfg=dict(
        custom_keys=dict(slow=dict(lr_mult=0.1), free=dict(decay_mult=0.0))
    ),
)


class Net(nn.Module):
    """Tensors of three settings, in turn."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.slow = nn.Linear(3, 3)
        self.second = nn.Linear(3, 3)
        self.free = nn.Linear(3, 3)
        self.frozen = nn.Linear(3, 3).requires_grad_(False)

    def forward(self, x):
        for layer in self.children():
            x = layer(x).tanh()
        return x.square().sum()


def make(merged, seed=0):
    torch.manual_seed(seed)
    net = Net()
    cfg = copy.deepcopy(WRAPPER)
    if merged:
        cfg['constructor'] = 'MergedOptimWrapperConstructor'
    wrapper = build_optim_wrapper(net, cfg)
    schedule = MultiStepLR(wrapper, milestones=[2], gamma=0.1)
    return net, wrapper, schedule


def train(net, wrapper, schedule, steps, start=0):
    for step in range(start, start + steps):
        generator = torch.Generator().manual_seed(step)
        wrapper.update_params(net(torch.randn(4, 3, generator=generator)))
        schedule.step()
    return [param.detach().clone() for param in net.parameters()]


def test_one_group_per_setting():
    wrapper = make(merged=True)[1]
    groups = wrapper.optimizer.param_groups
    assert [len(group['params']) for group in groups] == [4, 2, 2]
    assert [group['lr'] for group in groups] == [1e-2, 1e-3, 1e-2]
    assert [group['weight_decay'] for group in groups] == [1e-1, 1e-1, 0.0]
    assert len(make(merged=False)[1].optimizer.param_groups) == 8


def test_trains_as_with_a_group_per_tensor():
    expected = train(*make(merged=False), steps=5)
    found = train(*make(merged=True), steps=5)
    for one, other in zip(expected, found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize('merged', [False, True])
def test_resumes_checkpoints_of_both_kinds(merged):
    expected = train(*make(merged=False), steps=6)
    net, wrapper, schedule = make(merged)
    train(net, wrapper, schedule, 3)
    saved = copy.deepcopy(
        (net.state_dict(), wrapper.state_dict(), schedule.state_dict())
    )
    net, wrapper, schedule = make(merged=True, seed=1)
    net.load_state_dict(saved[0])
    wrapper.load_state_dict(saved[1])
    schedule.load_state_dict(wrapper.state_layout.fit_scheduler(saved[2]))
    assert [group['lr'] for group in wrapper.param_groups] == pytest.approx(
        [1e-3, 1e-4, 1e-3, 1e-3]  # the last is what the log shows
    )
    found = train(net, wrapper, schedule, 3, start=3)
    for one, other in zip(expected, found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)


def test_merging_keeps_every_tensor_once():
    groups = [dict(params=[number], lr=number % 3) for number in range(10)]
    merged = merge_groups(groups)
    assert sorted(p for g in merged for p in g['params']) == list(range(10))
    assert sorted(p for g in merged for p in g['tensors']) == list(range(10))
    assert len(merged) == 3


def test_fused_only_where_every_parameter_has_a_kernel():
    constructor = MergedOptimWrapperConstructor(copy.deepcopy(WRAPPER))
    assert constructor._can_fuse(Net())
    cfg = copy.deepcopy(WRAPPER)
    cfg['constructor'] = 'MergedOptimWrapperConstructor'
    wrapper = build_optim_wrapper(Net(), cfg)
    assert wrapper.optimizer.defaults['fused']
    with torch.device('meta'):
        assert not constructor._can_fuse(Net())


@pytest.mark.parametrize('backbone', ['r50', 'swin-t', 'vswin-b'])
def test_groups_of_the_published_recipe(backbone):
    cfg = Config.fromfile(f'configs/referformer_{backbone}_ytvos-scratch.py')
    model = MODELS.build(shrink_model_cfg(cfg.model))
    cfg.optim_wrapper.constructor = 'MergedOptimWrapperConstructor'
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = wrapper.optimizer.param_groups
    assert len(groups) <= 4
    assert sum(len(group['params']) for group in groups) == len(trained)
