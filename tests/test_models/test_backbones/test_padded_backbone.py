# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
import copy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from torch import nn

from referformer.checkpoints.initial import watch_initial_weights
from referformer.errors import CheckpointError
from referformer.models import PaddedBackbone, SimpleFeaturePyramid
from referformer.registry import MODELS
from referformer.testing import shrink_model_cfg

from ..helpers import randomise

MODEL_CONFIGS = Path(__file__).parents[3] / 'configs/_base_/models'
STRIDES = (4, 8, 16, 32)


class Means(nn.Module):
    """The mean of each cell; like a ConvNeXt, without padding."""

    def forward(self, images):
        self.seen = images
        return [F.avg_pool2d(images, stride) for stride in STRIDES]


@pytest.fixture
def means():
    MODELS.register_module(name='Means', module=Means)
    yield PaddedBackbone(dict(type='Means'))
    del MODELS.module_dict['Means']


@pytest.mark.parametrize('size', [(64, 96), (61, 66), (3, 97)])
def test_no_pixel_is_left_out(means, size):
    images = torch.rand(2, 3, *size)
    for stride, level in zip(STRIDES, means(images), strict=True):
        expected = F.avg_pool2d(images, stride, ceil_mode=True)
        assert level.shape == expected.shape
        # the last cells are larger than the frame, which ends in zeros
        cells = level.shape[-2] * level.shape[-1] * stride**2
        area = size[0] * size[1]
        torch.testing.assert_close(
            level.mean((2, 3)) * cells, images.mean((2, 3)) * area
        )
        inner = [side // stride for side in size]
        torch.testing.assert_close(
            level[..., : inner[0], : inner[1]],
            expected[..., : inner[0], : inner[1]],
        )


def test_frames_are_resized_after_padding(means):
    means.scale = 14 / 16
    means(torch.rand(1, 3, 33, 64))
    assert means.backbone.seen.shape[-2:] == (56, 56)


def test_the_pyramid_is_aligned_with_its_map():
    """A cell influences the cells of the same place, and their neighbours."""
    pyramid = SimpleFeaturePyramid(8, 4)
    randomise(pyramid)
    x = torch.randn(1, 8, 6, 10)
    changed = x.clone()
    changed[..., 2, 6] += 1
    maps = zip(pyramid(x), pyramid(changed), STRIDES, strict=True)
    for before, after, stride in maps:
        assert before.shape == (1, 4, 6 * 16 // stride, 10 * 16 // stride)
        rows, cols = (before != after).any(1)[0].nonzero(as_tuple=True)
        for cells, place in ((rows, 2), (cols, 6)):
            first = place * 16 // stride
            last = ((place + 1) * 16 - 1) // stride
            assert (cells.min(), cells.max()) == (first - 1, last + 1)


def small(name):
    """The backbone of a config, shrunk, and its own config."""
    cfg = Config.fromfile(MODEL_CONFIGS / f'referformer_{name}.py').model
    return shrink_model_cfg(cfg), cfg


@pytest.mark.parametrize('name', ['convnextv2-t', 'dinov2-b', 'hiera-t'])
def test_backbones_of_the_configs(name):
    cfg, _ = small(name)
    backbone = MODELS.build(cfg.backbone)
    maps = backbone(torch.rand(2, 3, 52, 71))
    sizes = [tuple(level.shape[-2:]) for level in maps]
    assert sizes == [(13, 18), (7, 9), (4, 5), (2, 3)]
    channels = [level.shape[1] for level in maps]
    assert channels[1:] == list(cfg.neck.in_channels)
    assert channels[0] == cfg.pixel_decoder.in_channels[0]
    # what gets no gradient would stop a distributed training
    sum(level.square().sum() for level in maps).backward()
    for key, value in backbone.named_parameters():
        assert value.grad is not None, key


@pytest.mark.parametrize('name', ['convnextv2-t', 'dinov2-b'])
def test_a_file_of_mmpretrain_is_loaded(name, tmp_path):
    """It has a prefix, a head, and another size or number of norms."""
    cfg, full = small(name)
    inner = cfg.backbone.backbone
    classifier = copy.deepcopy(inner)
    classifier.pop('out_indices', None)
    if name == 'dinov2-b':
        classifier.img_size = 224
    trained = MODELS.build(classifier)
    randomise(trained)
    weights = {f'backbone.{k}': v for k, v in trained.state_dict().items()}
    weights['head.fc.weight'] = torch.rand(5, 32)
    file = tmp_path / 'file.pth'
    torch.save(dict(state_dict=weights), file)
    inner.init_cfg = dict(full.backbone.backbone.init_cfg)
    inner.init_cfg.checkpoint = str(file)
    backbone = MODELS.build(cfg.backbone)
    watch_initial_weights(backbone)
    backbone.init_weights()
    loaded = backbone.backbone.state_dict()
    same = [
        k for k in loaded if k != 'pos_embed' and 'backbone.' + k in weights
    ]
    assert len(same) > 20
    for key in same:
        assert torch.equal(loaded[key], weights[f'backbone.{key}']), key
    missing = {key for key in loaded if f'backbone.{key}' not in weights}
    assert all(key.startswith('norm') for key in missing)
    # another network's file
    torch.save({'backbone.conv.weight': torch.rand(3)}, file)
    backbone = MODELS.build(cfg.backbone)
    watch_initial_weights(backbone)
    with pytest.raises(CheckpointError, match=r'is not a file of the'):
        backbone.init_weights()
