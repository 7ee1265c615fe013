# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from referformer.models import DynamicMaskHead

from ..helpers import randomise


def naive_masks(head, mask_feats, hidden, references, frame_sizes):
    """The published formulation: repeat features per query, group by query."""
    num_frames, num_queries = hidden.shape[:2]
    height, width = mask_feats.shape[-2:]
    rows = torch.arange(height) * 4 + 2
    cols = torch.arange(width) * 4 + 2
    grid = torch.stack(torch.meshgrid(cols, rows, indexing='xy'))  # x, y
    params = head.controller(hidden)
    c, h = head.mask_channels, head.hidden_channels
    sizes = [(c + 2) * h, h * h, h, h, h, 1]
    out = torch.empty(num_frames, num_queries, height, width)
    for b in range(num_frames):
        stack = []
        for q in range(num_queries):
            size = frame_sizes[b].flip(0)
            center = references[b, q, :2] * size
            relative = center[:, None, None] - grid
            stack.append(torch.cat([mask_feats[b], relative]))
        x = torch.cat(stack)[None]  # [1, Q * (C + 2), h, w]
        parts = params[b].split(sizes, -1)
        for weight, bias, last in [
            (parts[0], parts[3], False),
            (parts[1], parts[4], False),
            (parts[2], parts[5], True),
        ]:
            channels = 1 if last else h
            weight = weight.reshape(num_queries * channels, -1, 1, 1)
            x = F.conv2d(x, weight, bias.flatten(), groups=num_queries)
            x = x if last else x.relu()
        out[b] = x[0]
    return out


@pytest.fixture
def head():
    head = DynamicMaskHead(embed_dims=16, mask_channels=12, hidden_channels=4)
    randomise(head)
    return head


@pytest.fixture
def inputs():
    return (
        torch.randn(3, 12, 6, 8),
        torch.randn(3, 5, 16),
        torch.rand(3, 5, 4),
        torch.tensor([[24.0, 32.0], [20.0, 32.0], [24.0, 17.0]]),
    )


def test_equals_the_repeated_formulation(head, inputs):
    ours, expected = head(*inputs), naive_masks(head, *inputs)
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)
    for param in head.parameters():
        (grad,) = torch.autograd.grad(
            ours.square().mean(), param, retain_graph=True
        )
        (want,) = torch.autograd.grad(
            expected.square().mean(), param, retain_graph=True
        )
        scale = float(want.abs().max())
        torch.testing.assert_close(grad, want, rtol=1e-3, atol=1e-4 * scale)


def test_number_of_parameters_is_the_published_one():
    head = DynamicMaskHead()
    assert head.controller[-1].out_features == 2153


def test_two_coordinates_suffice(head, inputs):
    feats, hidden, references, sizes = inputs
    torch.testing.assert_close(
        head(feats, hidden, references[..., :2], sizes), head(*inputs)
    )


class LargestTensor(TorchDispatchMode):
    """Remembers the size of the largest result."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if torch.is_tensor(out):
            # a view by expand() takes no memory
            real = out.numel() if 0 not in out.stride() else 0
            self.numel = max(self.numel, real)
        return out


def test_features_are_never_repeated_per_query():
    head = DynamicMaskHead(embed_dims=16, mask_channels=256)
    feats = torch.randn(2, 256, 12, 20)
    hidden, references = torch.randn(2, 20, 16), torch.rand(2, 20, 4)
    sizes = torch.tensor([[48.0, 80.0]] * 2)
    with LargestTensor() as seen:
        head(feats, hidden, references, sizes)
    # nothing larger than the features, or one map per query and channel
    assert 0 < seen.numel <= max(feats.numel(), 2 * 20 * 8 * 12 * 20)
