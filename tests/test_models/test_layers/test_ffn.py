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
