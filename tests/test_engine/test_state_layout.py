# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""States of earlier versions, in which three projections were one tensor."""

import copy
from itertools import chain

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.optim.scheduler import MultiStepLR
from torch import nn

from referformer.checkpoints.published import split_joint_projections
from referformer.engine.optim.state_layout import StateLayout, joint_tensors
from referformer.models.layers import MultiheadAttention
from referformer.registry import MODELS
from referformer.testing import tiny_model_cfg

WRAPPER = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-2, weight_decay=1e-1),
    paramwise_cfg=dict(custom_keys=dict(last=dict(lr_mult=0.1))),
)


class Net(nn.Module):
    """An attention layer of ``kind`` between two layers."""

    def __init__(self, kind):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(4, 4)
        self.attention = kind(4, 2)
        self.last = nn.Linear(4, 4)

    def forward(self, x):
        x = self.first(x)
        out = self.attention(x, x, x)
        out = out[0] if isinstance(out, tuple) else out
        return self.last(out).square().sum()


def former_attention(dim, heads):
    return nn.MultiheadAttention(dim, heads, batch_first=True)


def train(net, wrapper, schedule, steps):
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        wrapper.update_params(net(torch.randn(2, 3, 4, generator=generator)))
        schedule.step()


def make(kind, **kwargs):
    net = Net(kind)
    wrapper = build_optim_wrapper(net, copy.deepcopy({**WRAPPER, **kwargs}))
    return net, wrapper, MultiStepLR(wrapper, milestones=[3], gamma=0.1)


def test_a_run_of_an_earlier_version_goes_on():
    net, wrapper, schedule = make(former_attention)
    train(net, wrapper, schedule, range(2))
    saved = copy.deepcopy(
        (net.state_dict(), wrapper.state_dict(), schedule.state_dict())
    )
    train(net, wrapper, schedule, range(2, 6))
    expected = net.state_dict()
    split_joint_projections(expected)

    net, wrapper, schedule = make(
        MultiheadAttention, constructor='MergedOptimWrapperConstructor'
    )
    net.load_state_dict(saved[0])
    wrapper.load_state_dict(saved[1])
    schedule.load_state_dict(wrapper.state_layout.fit_scheduler(saved[2]))
    train(net, wrapper, schedule, range(2, 6))
    found = net.state_dict()
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        # the bias of the keys has no gradient but rounding, which AdamW
        # makes a step of
        if 'k_proj.bias' not in name:
            torch.testing.assert_close(found[name], value, msg=name)


def test_projections_of_the_attention_layers_only():
    model = MODELS.build(tiny_model_cfg())
    names = [n for n, p in model.named_parameters() if p.requires_grad]
    joint = joint_tensors(model)
    assert sorted(chain.from_iterable(joint)) == list(range(len(names)))
    layers = sum(isinstance(m, MultiheadAttention) for m in model.modules())
    assert [len(tensors) for tensors in joint].count(3) == 2 * layers > 0
    for tensors in joint:
        kinds = {names[i].rsplit('.', 1)[1] for i in tensors}
        assert len(kinds) == 1


def test_states_of_today_and_of_other_models_are_left_alone():
    layout = StateLayout([[0, 2], [1, 3]], [[0], [1], [2], [3]])
    today = dict(state={}, param_groups=[dict(params=[0, 1])] * 2)
    other = dict(state={}, param_groups=[dict(params=[0])] * 3)
    assert layout.fit_optimizer(today) is today
    assert layout.fit_optimizer(other) is other
    for values in ([1.0, 2.0, 3.0], [1.0, 2.0]):
        assert layout.fit_scheduler({'base_values': values}) == {
            'base_values': values
        }


@pytest.mark.parametrize('groups', [[[0, 2], [1]], [[0, 1, 2]]])
def test_schedules_with_and_without_the_base_entry(groups):
    layout = StateLayout(groups, [[0], [1], [2]])
    found = layout.fit_scheduler({'_last_value': [1.0, 2.0, 1.0, 9.0]})
    expected = [1.0, 2.0, 9.0] if len(groups) > 1 else [1.0]
    assert found == {'_last_value': expected}
