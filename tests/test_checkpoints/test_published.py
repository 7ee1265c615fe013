# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
import pytest
import torch

from referformer.checkpoints.published import (
    backbone_kind,
    from_published,
    to_published,
)
from referformer.errors import CheckpointError
from referformer.registry import MODELS
from referformer.testing import tiny_model_cfg

BACKBONES = ('resnet', 'swin', 'video-swin')
DERIVED = ('relative_position_index', 'num_batches_tracked')


@pytest.fixture(params=BACKBONES)
def kind(request):
    return request.param


def tiny_weights(kind):
    """State dict of a tiny model in the authors' number of levels."""
    model = MODELS.build(tiny_model_cfg(kind))
    return {
        name: torch.randn_like(value) if value.is_floating_point() else value
        for name, value in model.state_dict().items()
    }


def without_derived(weights):
    return {k: v for k, v in weights.items() if not k.endswith(DERIVED)}


def test_there_and_back(kind):
    ours = tiny_weights(kind)
    back = from_published(to_published(ours))
    assert backbone_kind(ours) == backbone_kind(to_published(ours)) == kind
    expected, back = without_derived(ours), without_derived(back)
    assert back.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(back[name], value), name


def test_back_and_there(kind):
    theirs = to_published(tiny_weights(kind))
    again = to_published(from_published(theirs))
    assert again.keys() == theirs.keys()
    for name, value in theirs.items():
        assert torch.equal(again[name], value), name


def test_result_loads_strictly(kind):
    model = MODELS.build(tiny_model_cfg(kind))
    weights = from_published(to_published(tiny_weights(kind)))
    buffers = {
        name: value.clone()
        for name, value in model.state_dict().items()
        if name.endswith('relative_position_index')
    }
    assert bool(buffers) == (kind == 'swin')
    model.load_state_dict(weights, strict=True)
    for name, value in buffers.items():
        assert torch.equal(weights[name], value), name


def test_no_two_names_become_one(kind):
    ours = tiny_weights(kind)
    alias = 'transformer.decoder.bbox_embed.'
    theirs = without_derived(to_published(ours))
    names = [name for name in theirs if not name.startswith(alias)]
    # one joint projection of an attention layer is three of ours
    joint = sum('.in_proj_' in name for name in names)
    assert joint
    assert len(names) + 2 * joint == len(without_derived(ours))


def test_joint_projections_are_split_row_by_row():
    ours = tiny_weights('resnet')
    theirs = to_published(ours)
    rows = theirs['fusion_module.multihead_attn.in_proj_weight'].chunk(3)
    for part, value in zip('qkv', rows, strict=True):
        assert torch.equal(ours[f'fusion.attn.{part}_proj.weight'], value)


def test_projections_of_language_models_stay_apart():
    """Those of CLIP have the same names as ours."""
    ours = tiny_weights('resnet')
    name = 'language_model.layers.0.q_proj.weight'
    ours[f'text_encoder.{name}'] = torch.zeros(2, 2)
    theirs = to_published(ours)
    assert f'text_encoder.{name.partition(".")[2]}' in theirs


def test_box_heads_are_written_twice(kind):
    theirs = to_published(tiny_weights(kind))
    twins = [name for name in theirs if name.startswith('bbox_embed.')]
    assert len(twins) == 12
    for name in twins:
        assert theirs['transformer.decoder.' + name] is theirs[name]


def test_swin_neighbours_change_places():
    """The same merging of the same four pixels on both sides."""
    ours = tiny_weights('swin')
    theirs = to_published(ours)
    name = 'downsample.reduction.weight'
    mine = ours[f'backbone.stages.0.{name}']
    official = theirs[f'backbone.0.body.layers.0.{name}']
    pixels = torch.randn(8, 2, 2)  # channel, row, column
    # official: columns slow, rows fast, channels innermost
    corners = [pixels[:, i, j] for j in (0, 1) for i in (0, 1)]
    torch.testing.assert_close(
        official @ torch.cat(corners), mine @ pixels.flatten()
    )


@pytest.mark.parametrize('translate', [from_published, to_published])
def test_every_unplaceable_name_is_reported(translate, kind):
    weights = tiny_weights(kind)
    if translate is from_published:
        weights = to_published(weights)
    weights['matcher.weight'] = weights['head_two.bias'] = torch.zeros(1)
    with pytest.raises(CheckpointError, match='2 parameters') as error:
        translate(weights)
    assert 'head_two.bias, matcher.weight' in str(error.value)


def test_something_else_altogether():
    with pytest.raises(CheckpointError, match='is this a ReferFormer'):
        from_published({'fc.weight': torch.zeros(1)})
