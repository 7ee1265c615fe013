# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
import pytest
import torch
from mmcv.cnn.bricks.transformer import FFN as MMCVFFN

from referformer.models.layers import FFN
from referformer.models.layers.ffn import ReLUDropout


def test_relu_dropout():
    layer = ReLUDropout(0.1)
    x = torch.randn(200, 500)
    leaf = x.clone().requires_grad_()
    out = layer(leaf * 1.0)
    out.backward(x)
    kept = out != 0
    positive = x > 0
    assert not (kept & ~positive).any()
    assert kept[positive].float().mean() == pytest.approx(0.9, abs=0.01)
    torch.testing.assert_close(out[kept], x[kept] / 0.9)
    torch.testing.assert_close(leaf.grad, torch.where(kept, x / 0.9, 0.0))
    for exact in (layer.eval(), ReLUDropout(0.0)):
        assert torch.equal(exact(x.clone()), x.relu())


@pytest.mark.parametrize('num_tokens', [3, 2**11 + 5])
def test_is_mmcvs(num_tokens):
    ours, theirs = FFN(16, 64), MMCVFFN(16, 64)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    x = torch.randn(2, num_tokens, 16)
    close = dict(rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), **close)
    torch.testing.assert_close(ours(x), theirs(x), **close)


@pytest.mark.parametrize('dropout', [0.0, 0.3])
def test_gradients_are_those_of_the_layers(dropout):
    """Many tokens on a CPU: both layers are one step of the backward pass."""
    layer = FFN(64, 96, dropout).train()
    layer.layers[-1].eval()  # the dropout of the result is a module
    x = torch.randn(1024, 64, requires_grad=True)
    args = (x, *layer.parameters())
    grad = torch.randn(1024, 64)

    def run():
        torch.manual_seed(0)
        out = layer._map(x)
        grads = torch.autograd.grad(out, args, grad, retain_graph=True)
        return out, *grads

    found = run()
    node = found[0].grad_fn
    assert type(node).__name__ == '_TwoLayersFunctionBackward'
    if dropout:
        # the hidden layer that was kept says which of its numbers were
        hidden = node.saved_tensors[-1]
        before = layer.layers[0][0](x)
        share = (hidden != 0)[before > 0].float().mean()
        assert share == pytest.approx(1 - dropout, abs=0.02)
        layer.layers[0][1] = _Fixed((hidden != 0) / (1 - dropout))
    else:
        # modules with hooks are called
        layer.layers[1].register_forward_hook(lambda *args: None)
    for actual, expected in zip(found, run(), strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


class _Fixed(torch.nn.Module):
    """ReLU, and dropout of fixed numbers."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return x.relu() * self.factor


def test_keeps_its_hidden_layer_once():
    kept = {}
    hooks = torch.autograd.graph.saved_tensors_hooks(
        lambda x: kept.update({x.data_ptr(): x.numel()}) or x, lambda x: x
    )
    layer = FFN(16, 64, dropout=0.1).train()
    x = torch.randn(1000, 16)
    with hooks:
        layer(x)
    assert sum(n == 1000 * 64 for n in kept.values()) == 1
    # what stays is little more than that and the tokens themselves
    assert sum(kept.values()) < 1000 * (64 + 3 * 16) + 5000
