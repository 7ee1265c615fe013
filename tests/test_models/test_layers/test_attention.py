# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
import pytest
import torch
from torch import nn

from referformer.errors import ConfigError
from referformer.models.layers import MultiheadAttention, attention


@pytest.fixture
def pair():
    """Our layer and PyTorch's, with the same weights."""
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


@pytest.mark.parametrize('half', [False, True])
@pytest.mark.parametrize('masked', [False, True])
def test_few_keys(pair, masked, half):
    ours, theirs = pair
    query, key, value = (torch.randn(3, n, 32) for n in (50, 5, 5))
    mask = None
    if masked:
        mask = torch.zeros(3, 5, dtype=torch.bool)
        mask[0, 2:] = mask[2, 1] = True
    expected, _ = theirs(query, key, value, key_padding_mask=mask)
    with torch.no_grad(), torch.autocast('cpu', enabled=half):
        out = ours(query, key, value, mask)
    torch.testing.assert_close(out, expected)  # float32, even in bfloat16


def test_changed_projections_are_called(pair):
    ours, _ = pair
    tokens = torch.randn(1, 50, 32), *torch.randn(2, 1, 5, 32)
    with torch.no_grad():
        before = ours(*tokens)
        ours.q_proj.register_forward_hook(lambda module, args, out: 0 * out)
        assert not torch.allclose(ours(*tokens), before)


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


def test_the_projections_begin_as_one_matrix_of_pytorch():
    torch.manual_seed(0)
    layer = MultiheadAttention(256, 4)
    joint = nn.MultiheadAttention(256, 4).in_proj_weight
    for projection in (layer.q_proj, layer.k_proj, layer.v_proj):
        for measure in (torch.std, lambda x: x.abs().max()):
            expected = measure(joint).item()
            actual = measure(projection.weight).item()
            assert actual == pytest.approx(expected, rel=0.02)
        assert not projection.bias.any()
    assert not layer.out_proj.bias.any()


def test_weights_of_earlier_versions_inside_a_model():
    """Joint projections of other modules stay what they are."""
    model = nn.ModuleDict(
        dict(ours=MultiheadAttention(8, 2), theirs=nn.MultiheadAttention(8, 2))
    )
    weights = {
        f'{name}.{key}': torch.randn_like(value)
        for name in model
        for key, value in model['theirs'].state_dict().items()
    }
    before = dict(weights)
    model.load_state_dict(weights, strict=True)
    assert weights == before
    rows = weights['ours.in_proj_weight']
    assert torch.equal(model['ours'].k_proj.weight, rows[8:16])
    assert torch.equal(
        model['theirs'].in_proj_weight, weights['theirs.in_proj_weight']
    )


def test_indivisible_heads():
    with pytest.raises(ConfigError, match=r'embed_dims=30 .* num_heads=4'):
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
            'call_checkpointed',
            lambda function, with_cp, *args, **kw: function(*args, **kw),
        )
        torch.manual_seed(0)
        out = attn(tokens, tokens, tokens)
        (grad,) = torch.autograd.grad(out.square().sum(), tokens)
        results.append((out, grad))
    torch.testing.assert_close(results[0], results[1])
