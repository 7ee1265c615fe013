# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
import pytest
import torch
from mmcv.ops.multi_scale_deform_attn import (
    MultiScaleDeformableAttention as MMCVAttention,
)
from mmcv.ops.multi_scale_deform_attn import (
    multi_scale_deformable_attn_pytorch,
)

from referformer.models.layers import (
    MultiScaleDeformableAttention,
    sample_levels,
)
from referformer.models.layers import deformable_attention as module

from ..helpers import randomise

SHAPES = ((7, 9), (4, 5), (1, 2))
TOKENS = sum(height * width for height, width in SHAPES)


def inputs(num_frames=3, num_queries=11, heads=2, channels=8, **kwargs):
    """Values, locations in and around the frame, weights; float64.

    No location lies on the line between two pixels, where rounding decides
    which neighbours count.
    """
    gen = torch.Generator().manual_seed(num_queries)
    options = dict(generator=gen, dtype=torch.float64)
    points = (num_frames, num_queries, heads, len(SHAPES), 4)
    sizes = torch.tensor(SHAPES).flip(-1)[:, None]
    pixels = (torch.rand(*points, 2, **options) * 2 - 0.5) * sizes
    pixels = pixels.floor() + 0.05 + 0.9 * torch.rand(*points, 2, **options)
    weights = torch.rand(*points[:3], len(SHAPES) * 4, **options)
    value = torch.randn(num_frames, TOKENS, heads, channels, **options)
    return (
        value,
        (pixels + 0.5) / sizes,
        weights.softmax(-1).view(points),
    )


def run(function, tensors, dtype):
    tensors = [x.to(dtype, copy=True).requires_grad_() for x in tensors]
    out = function(*tensors)
    grad = torch.arange(out.numel()).view_as(out) % 7 - 3
    out.backward(grad.to(dtype))
    return out.detach(), *(x.grad for x in tensors)


def by_mmcv(value, locations, weights):
    return multi_scale_deformable_attn_pytorch(
        value, torch.tensor(SHAPES), locations, weights
    )


def by_us(value, locations, weights):
    return sample_levels(value, SHAPES, locations, weights)


@pytest.mark.parametrize(
    ('dtype', 'tolerance'), [(torch.float64, 1e-11), (torch.float32, 1e-5)]
)
@pytest.mark.parametrize('num_queries', [1, 40])
@pytest.mark.parametrize('at_a_time', [1, 10**6])
def test_results_and_gradients_are_mmcvs(
    dtype, tolerance, num_queries, at_a_time, monkeypatch
):
    monkeypatch.setattr(module, '_SAMPLES_PER_PART', at_a_time)
    tensors = inputs(num_queries=num_queries)
    expected = run(by_mmcv, tensors, torch.float64)
    for ours, theirs in zip(run(by_us, tensors, dtype), expected, strict=True):
        error = (ours - theirs).abs().max() / theirs.abs().max()
        assert error < tolerance


def test_samples_outside_read_nothing():
    value, locations, weights = inputs()
    for far in (-30.0, -0.6, 1.9, 30.0):
        outside = torch.full_like(locations, far)
        out, *grads = run(by_us, (value, outside, weights), torch.float32)
        assert not out.any()
        assert not any(grad.any() for grad in grads)


def test_nan_and_infinity_do_not_read_elsewhere():
    value, locations, weights = inputs()
    locations[0, 0, 0, 0, 0] = float('nan')
    locations[1, 1, 1, 1, 1] = float('inf')
    out, *_ = run(by_us, (value, locations, weights), torch.float32)
    bad = ~out.isfinite()
    assert bad[0, 0, :8].all()
    bad[0, 0, :8] = False
    assert not bad.any()


def test_only_the_arguments_are_kept_for_the_backward_pass():
    kept = []
    hooks = torch.autograd.graph.saved_tensors_hooks(
        lambda x: kept.append(x) or x, lambda x: x
    )
    tensors = [x.float().requires_grad_() for x in inputs()]
    with hooks:
        by_us(*tensors)
    assert {x.data_ptr() for x in kept} <= {x.data_ptr() for x in tensors}


def layer_arguments(num_frames=2, num_queries=6, coordinates=2):
    spatial_shapes = torch.tensor(SHAPES)
    areas = spatial_shapes.prod(1)
    padding = torch.zeros(num_frames, TOKENS, dtype=torch.bool)
    padding[1, -3:] = True
    return dict(
        query=torch.randn(num_frames, num_queries, 32),
        value=torch.randn(num_frames, TOKENS, 32),
        query_pos=torch.randn(num_frames, num_queries, 32),
        key_padding_mask=padding,
        reference_points=torch.rand(
            num_frames, num_queries, len(SHAPES), coordinates
        ),
        spatial_shapes=spatial_shapes,
        level_start_index=areas.cumsum(0) - areas,
    )


def build(cls):
    layer = cls(
        embed_dims=32, num_heads=4, num_levels=3, dropout=0.0, batch_first=True
    )
    randomise(layer)
    return layer


@pytest.mark.parametrize('coordinates', [2, 4])
def test_the_layer_is_mmcvs(coordinates):
    ours, theirs = build(MultiScaleDeformableAttention), build(MMCVAttention)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    arguments = layer_arguments(coordinates=coordinates)
    torch.testing.assert_close(
        ours(**arguments, shapes=SHAPES),
        theirs(**arguments),
        rtol=1e-5,
        atol=1e-5,
    )


@pytest.mark.parametrize(
    ('dtype', 'of_operator'),
    [
        (torch.float32, torch.float32),
        (torch.float16, torch.float16),
        (torch.bfloat16, torch.float32),
    ],
)
def test_the_operator_is_never_given_bfloat16(dtype, of_operator, monkeypatch):
    """The CUDA operator, replaced to check on any machine what it gets."""
    seen = []

    class Operator:
        @staticmethod
        def apply(value, shapes, starts, locations, weights, step):
            seen.append((value.dtype, locations.dtype, step))
            return value.new_zeros(*locations.shape[:2], 32)

    monkeypatch.setattr(module, 'MultiScaleDeformableAttnFunction', Operator)
    layer = build(MultiScaleDeformableAttention)
    layer.im2col_step = 2
    value, locations, weights = inputs(heads=4)
    out = layer._run_operator(
        value.to(dtype), None, None, locations.float(), weights.float()
    )
    # positions keep their digits until the operator decides otherwise
    assert seen == [(of_operator, torch.float32, 2)]
    assert out.dtype == dtype


def test_autocast():
    layer = build(MultiScaleDeformableAttention)
    arguments = layer_arguments()
    expected = layer(**arguments, shapes=SHAPES)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        out = layer(**arguments, shapes=SHAPES)
    out.sum().backward()
    assert (out - expected).abs().max() < 0.05 * expected.abs().max()
    assert all(p.grad.isfinite().all() for p in layer.parameters())
