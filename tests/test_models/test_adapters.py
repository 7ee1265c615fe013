# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Every linear layer is a module that is called, so that anyone can adapt it.

Adapters, quantisation, hooks and sharded training replace or wrap modules;
a weight that is read past its module escapes them without a word.
"""

from pathlib import Path

import peft
import pytest
import torch
from mmengine.config import Config
from torch import nn

from referformer.registry import MODELS
from referformer.testing import demo_refer_inputs, shrink_model_cfg

from .helpers import build_model

CONFIGS = Path(__file__).parents[2] / 'configs/_base_/models'
BACKBONES = [
    path.stem.removeprefix('referformer_')
    for path in sorted(CONFIGS.glob('*.py'))
    if 'tiny' not in path.stem
]


def total_loss(model, data):
    data = model.data_preprocessor(data, training=True)
    return sum(model(**data, mode='loss').values())


def test_all_models_are_here():
    assert len(BACKBONES) == 15


@pytest.mark.parametrize('backbone', BACKBONES)
def test_every_linear_layer_is_called(backbone):
    cfg = Config.fromfile(CONFIGS / f'referformer_{backbone}.py').model
    model = MODELS.build(shrink_model_cfg(cfg)).train()
    called = set()
    linear = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
    }
    for name, module in linear.items():
        module.register_forward_hook(
            lambda module, args, out, name=name: called.add(name)
        )
    total_loss(model, demo_refer_inputs()).backward()
    assert len(linear) > 60
    assert called == set(linear)


@pytest.mark.parametrize('frozen_text', [False, True])
def test_lora(frozen_text):
    model = build_model(frozen_text=frozen_text)
    data = demo_refer_inputs()
    with torch.no_grad():
        before = total_loss(model, data)
    linear = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and name.startswith(('transformer.', 'text_encoder.'))
    ]
    config = peft.LoraConfig(
        r=4, init_lora_weights=False, target_modules=linear
    )
    peft.inject_adapter_in_model(config, model)
    with torch.no_grad():
        assert not torch.allclose(total_loss(model, data), before, rtol=1e-3)
    adapters = {n: p for n, p in model.named_parameters() if 'lora_' in n}
    assert len(adapters) == 2 * len(linear)
    optimizer = torch.optim.Adam(adapters.values(), lr=1e-2)
    losses = []
    for _ in range(6):
        optimizer.zero_grad()
        loss = total_loss(model, data)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    for name, param in model.named_parameters():
        assert (param.grad is not None) == ('lora_' in name), name
