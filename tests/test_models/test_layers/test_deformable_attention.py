# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
import pytest
import torch
from mmcv.ops.multi_scale_deform_attn import (
    MultiScaleDeformableAttention as MMCVAttention,
)

from referformer.models.layers import MultiScaleDeformableAttention
from referformer.models.ops import describe_levels

from ..helpers import randomise

SHAPES = ((7, 9), (4, 5), (1, 2))
TOKENS = sum(height * width for height, width in SHAPES)
LEVELS = describe_levels(SHAPES, torch.empty(0))


def arguments(num_frames=2, num_queries=6, coordinates=2):
    padding = torch.zeros(num_frames, TOKENS, dtype=torch.bool)
    padding[1, -3:] = True
    return dict(
        query=torch.randn(num_frames, num_queries, 32),
        value=torch.randn(num_frames, TOKENS, 32),
        references=torch.rand(
            num_frames, num_queries, len(SHAPES), coordinates
        ),
        padding_mask=padding,
    )


def build():
    layer = MultiScaleDeformableAttention(32, 4, 3, 4)
    randomise(layer)
    return layer


def test_begins_as_mmcvs():
    ours = MultiScaleDeformableAttention(32, 4, 3, 4)
    theirs = MMCVAttention(32, 4, 3, 4)
    expected = theirs.state_dict()
    assert ours.state_dict().keys() == expected.keys()
    for name, value in ours.state_dict().items():
        if name in ('value_proj.weight', 'output_proj.weight'):
            largest = expected[name].abs().max().item()
            assert value.abs().max() == pytest.approx(largest, rel=0.05)
        else:
            torch.testing.assert_close(value, expected[name])


@pytest.mark.parametrize('coordinates', [2, 4])
def test_is_mmcvs(coordinates):
    ours = build()
    theirs = MMCVAttention(32, 4, 3, 4, dropout=0.0, batch_first=True)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    given = arguments(coordinates=coordinates)
    expected = theirs(
        given['query'],
        value=given['value'],
        identity=torch.zeros(()),
        key_padding_mask=given['padding_mask'],
        reference_points=given['references'],
        spatial_shapes=LEVELS.sizes,
        level_start_index=LEVELS.starts,
    )
    torch.testing.assert_close(
        ours(**given, levels=LEVELS), expected, rtol=1e-5, atol=1e-5
    )


def test_autocast():
    layer = build()
    given = arguments()
    expected = layer(**given, levels=LEVELS)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        out = layer(**given, levels=LEVELS)
    out.sum().backward()
    assert (out - expected).abs().max() < 0.05 * expected.abs().max()
    assert all(p.grad.isfinite().all() for p in layer.parameters())
