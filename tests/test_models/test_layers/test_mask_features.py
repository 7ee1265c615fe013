# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
import pytest
import torch
from torch import nn

from referformer.models.layers import (
    MaskFeatures,
    filter_maps,
    make_mask_features,
)


@pytest.fixture
def conv():
    return nn.Conv2d(5, 12, 3, padding=1)


@pytest.mark.parametrize('num_filters', [1, 4, 12, 20])
def test_filters_meet_the_features_in_any_order(conv, num_filters):
    maps = torch.randn(3, 5, 6, 7, requires_grad=True)
    weight = torch.randn(3, num_filters, 12, requires_grad=True)
    features = MaskFeatures(maps, conv)
    assert features.shape == conv(maps).shape
    expected = filter_maps(features.compute(), weight)
    found = features.filter(weight)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    args = (maps, weight, conv.weight, conv.bias)
    grad = torch.randn_like(found)
    for one, other in zip(
        torch.autograd.grad(found, args, grad),
        torch.autograd.grad(expected, args, grad),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_few_filters_need_few_channels(conv):
    maps, calls = torch.randn(2, 5, 4, 4), []
    features = make_mask_features(maps, conv)
    conv.register_forward_hook(lambda *args: calls.append(args))
    features.filter(torch.randn(2, 3, 12))
    assert not calls
    features.filter(torch.randn(2, 12, 12))
    assert len(calls) == 1


def test_whoever_looks_at_the_convolution_sees_it_run(conv):
    maps = torch.randn(2, 5, 4, 4)
    assert isinstance(make_mask_features(maps, conv), MaskFeatures)
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.is_tensor(make_mask_features(maps, conv))
    exported = torch.export.export(
        _Features(conv), (maps,), strict=False
    ).module()
    torch.testing.assert_close(exported(maps), conv(maps))
    conv.register_forward_hook(lambda *args: None)
    assert torch.is_tensor(make_mask_features(maps, conv))


class _Features(nn.Module):
    def __init__(self, conv):
        super().__init__()
        self.conv = conv

    def forward(self, maps):
        return make_mask_features(maps, self.conv)
