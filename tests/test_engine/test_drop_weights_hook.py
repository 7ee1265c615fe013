# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""A part of a pre-trained checkpoint is left behind, when training starts."""

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.logging import MMLogger
from mmengine.runner import Runner
from torch import nn

from referformer.engine import DropWeightsHook
from referformer.registry import HOOKS

NAMES = ['head.cls_branches.0.weight', 'head.reg_branches.0.weight']


class FakeLoop:
    """Stands for a loop that was built."""


class Model(nn.Module):
    """Has parameters of the names above, with ones."""

    def state_dict(self):
        return {name: torch.ones(2) for name in NAMES}


def load(loop, resume):
    runner = Runner.__new__(Runner)
    runner._train_loop = loop
    runner._resume = resume
    runner.model = Model()
    runner.logger = MMLogger.get_instance('drop-weights')
    checkpoint = {'state_dict': {name: torch.zeros(1) for name in NAMES}}
    hook = HOOKS.build(
        dict(type='DropWeightsHook', prefixes=['head.cls_branches.'])
    )
    hook.after_load_checkpoint(runner, checkpoint)
    weights = checkpoint['state_dict']
    assert set(weights) == set(NAMES)
    return [name for name in NAMES if weights[name].sum() == 0]


def test_a_new_training_keeps_its_own_part():
    """Whatever the shape of the file's, so that the rest can be compared."""
    assert load(FakeLoop(), resume=False) == NAMES[1:]


@pytest.mark.parametrize(
    ('loop', 'resume'),
    [(FakeLoop(), True), (ConfigDict(max_epochs=1), False), (None, False)],
)
def test_resuming_and_testing_load_everything(loop, resume):
    assert load(loop, resume) == NAMES


def test_a_prefix_of_nothing_is_an_error(monkeypatch):
    monkeypatch.setitem(globals(), 'NAMES', ['neck.weight'])
    with pytest.raises(ValueError, match=r'begins with head\.cls_branches'):
        load(FakeLoop(), resume=False)


@pytest.mark.parametrize('prefixes', [[], 'head'])
def test_prefixes_are_a_list(prefixes):
    with pytest.raises(ValueError, match='must be a list'):
        DropWeightsHook(prefixes)
