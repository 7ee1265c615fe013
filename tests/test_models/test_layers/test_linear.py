# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
import pytest
import torch
import torch.nn.functional as F
from mmcv.cnn.bricks.transformer import FFN as MMCVFFN

from referformer.models.layers import (
    FFN,
    linear,
    relu_dropout,
    tokens_per_part,
)


@pytest.mark.parametrize('shape', [(3, 16), (2, 900, 48), (1, 5, 7000, 2)])
@pytest.mark.parametrize('with_bias', [True, False])
def test_linear(shape, with_bias):
    torch.manual_seed(0)
    tensors = [torch.randn(shape), torch.randn(24, shape[-1])]
    tensors.append(torch.randn(24) if with_bias else None)
    results = []
    for layer in (linear, F.linear):
        leaves = [
            None if x is None else x.clone().requires_grad_() for x in tensors
        ]
        out = layer(*leaves)
        out.square().sum().backward()
        results.append([out] + [x.grad for x in leaves if x is not None])
    for ours, expected in zip(*results, strict=True):
        error = (ours - expected).abs().max() / expected.abs().max()
        assert error < 1e-5


def test_linear_reads_transposed_tokens():
    maps = torch.randn(2, 64, 40, 50)
    tokens = maps.flatten(2).transpose(1, 2)
    weight = torch.randn(8, 64)
    torch.testing.assert_close(
        linear(tokens, weight), tokens @ weight.t(), rtol=1e-4, atol=1e-4
    )


def test_relu_dropout():
    torch.manual_seed(0)
    x = torch.randn(200, 500)
    leaf = x.clone().requires_grad_()
    out = relu_dropout(leaf * 1.0, 0.1, training=True)
    out.backward(x)
    kept = out != 0
    positive = x > 0
    assert not (kept & ~positive).any()
    assert kept[positive].float().mean() == pytest.approx(0.9, abs=0.01)
    torch.testing.assert_close(out[kept], x[kept] / 0.9)
    torch.testing.assert_close(leaf.grad, torch.where(kept, x / 0.9, 0.0))
    for rate, training in ((0.1, False), (0.0, True)):
        out = relu_dropout(x.clone(), rate, training)
        assert torch.equal(out, x.relu())


@pytest.mark.parametrize('num_tokens', [3, tokens_per_part(torch.ones(1)) + 5])
def test_ffn_is_mmcvs(num_tokens):
    ours, theirs = FFN(16, 64), MMCVFFN(16, 64)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, num_tokens, 16)
    close = dict(rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), **close)
    torch.testing.assert_close(ours(x), theirs(x), **close)
    with torch.no_grad():
        torch.testing.assert_close(ours(x, x + 1), theirs(x, x + 1), **close)


def test_ffn_keeps_its_hidden_layer_once():
    kept = {}
    hooks = torch.autograd.graph.saved_tensors_hooks(
        lambda x: kept.update({x.data_ptr(): x.numel()}) or x, lambda x: x
    )
    layer = FFN(16, 64, ffn_drop=0.1).train()
    x = torch.randn(1000, 16)
    with hooks:
        layer(x)
    assert sum(n == 1000 * 64 for n in kept.values()) == 1
    # what stays is little more than that and the tokens themselves
    assert sum(kept.values()) < 1000 * (64 + 3 * 16) + 5000
