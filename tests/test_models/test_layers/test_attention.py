# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
import pytest
import torch
from torch import nn

from referformer.models.layers import MultiheadAttention, attention


@pytest.fixture
def pair():
    """Our layer and PyTorch's, with the same weights by the same names."""
    theirs = nn.MultiheadAttention(32, 4, batch_first=True)
    nn.init.normal_(theirs.in_proj_bias)
    ours = MultiheadAttention(32, 4)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    return ours, theirs


@pytest.mark.parametrize('masked', [False, True])
@pytest.mark.parametrize('kind', ['self', 'cross', 'key equals query'])
def test_equals_pytorch(pair, kind, masked):
    ours, theirs = pair
    query = torch.randn(3, 7, 32, requires_grad=True)
    key = torch.randn(3, 5, 32) if kind == 'cross' else query
    value = query if kind == 'self' else torch.randn(3, key.shape[1], 32)
    mask = None
    if masked:
        mask = torch.zeros(key.shape[:2], dtype=torch.bool)
        mask[0, 2:] = mask[2, 1] = True
    out = ours(query, key, value, mask)
    expected, _ = theirs(query, key, value, key_padding_mask=mask)
    torch.testing.assert_close(out, expected)
    (grad,) = torch.autograd.grad(out.square().sum(), query)
    (expected,) = torch.autograd.grad(expected.square().sum(), query)
    torch.testing.assert_close(grad, expected)


def test_padded_keys_are_not_read(pair):
    ours, _ = pair
    query, key = torch.randn(1, 4, 32), torch.randn(1, 6, 32)
    mask = torch.arange(6)[None] >= 4
    changed = torch.where(mask[..., None], torch.full_like(key, 1e3), key)
    torch.testing.assert_close(
        ours(query, key, key, mask), ours(query, changed, changed, mask)
    )


def test_dropout_only_in_training():
    layer = MultiheadAttention(16, 2, dropout=0.5)
    x = torch.randn(1, 8, 16)
    assert not torch.equal(layer(x, x, x), layer(x, x, x))
    layer.eval()
    assert torch.equal(layer(x, x, x), layer(x, x, x))


def test_indivisible_heads():
    with pytest.raises(ValueError, match=r'embed_dims=30 .* num_heads=4'):
        MultiheadAttention(30, 4)


def test_weights_are_not_kept_with_dropout():
    attn = MultiheadAttention(16, 2, dropout=0.5).train()
    tokens = torch.randn(1, 300, 16, requires_grad=True)
    kept, results = {}, []
    hooks = torch.autograd.graph.saved_tensors_hooks(
        lambda x: kept.update({x.data_ptr(): x.numel()}) or x, lambda x: x
    )
    with hooks:
        torch.manual_seed(0)
        out = attn(tokens, tokens, tokens)
    assert max(kept.values()) < 300 * 300
    (grad,) = torch.autograd.grad(out.square().sum(), tokens)
    results.append((out, grad))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            attention,
            'run_layer',
            lambda layer, with_cp, *args, **kwargs: layer(*args, **kwargs),
        )
        torch.manual_seed(0)
        out = attn(tokens, tokens, tokens)
        (grad,) = torch.autograd.grad(out.square().sum(), tokens)
        results.append((out, grad))
    torch.testing.assert_close(results[0], results[1])
