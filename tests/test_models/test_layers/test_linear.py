# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
import pytest
import torch
from torch import nn

from referformer.models.layers import Linear


@pytest.mark.parametrize('shape', [(3, 16), (2, 900, 48), (1, 5, 7000, 2)])
@pytest.mark.parametrize('bias', [True, False])
def test_equals_pytorch(shape, bias):
    ours, theirs = (cls(shape[-1], 24, bias) for cls in (Linear, nn.Linear))
    theirs.load_state_dict(ours.state_dict(), strict=True)
    x = torch.randn(shape)
    results = []
    for layer in (ours, theirs):
        leaf = x.clone().requires_grad_()
        out = layer(leaf)
        out.square().sum().backward()
        grads = [p.grad for p in layer.parameters()]
        results.append([out, leaf.grad, *grads])
    for actual, expected in zip(*results, strict=True):
        error = (actual - expected).abs().max() / expected.abs().max()
        assert error < 1e-5


def test_transposed_tokens():
    maps = torch.randn(2, 64, 40, 50)
    tokens = maps.flatten(2).transpose(1, 2)
    layer = Linear(64, 8, bias=False)
    torch.testing.assert_close(
        layer(tokens), tokens @ layer.weight.t(), rtol=1e-4, atol=1e-4
    )


def test_export_with_any_number_of_tokens():
    layer = Linear(16, 8)
    program = torch.export.export(
        layer,
        (torch.randn(5, 16),),
        dynamic_shapes=({0: torch.export.Dim('tokens')},),
    )
    x = torch.randn(5000, 16)
    torch.testing.assert_close(program.module()(x), layer(x))
