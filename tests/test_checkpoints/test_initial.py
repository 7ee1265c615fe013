# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Backbones begin with weights of their own architecture, or not at all."""

import re

import pytest
import torch
from mmdet.models.backbones import ResNet, SwinTransformer
from mmengine.config import ConfigDict
from mmengine.model import BaseModule
from torch import nn

from referformer.checkpoints.initial import (
    skip_initial_weights,
    watch_initial_weights,
)
from referformer.checkpoints.published import to_published
from referformer.errors import CheckpointError
from referformer.models import VideoSwinTransformer

ARCH = {'embed_dims': 8, 'depths': (2, 1), 'num_heads': (1, 2)}


def build(kind, path=None, **kwargs):
    """A narrow backbone that begins with a file."""
    init = path and ConfigDict(type='Pretrained', checkpoint=str(path))
    if kind == 'resnet':
        args = dict(depth=50, base_channels=4)
        return ResNet(**{**args, **kwargs}, init_cfg=init)
    if kind == 'video-swin':
        args = dict(arch=ARCH, window_size=(2, 4, 4))
        return VideoSwinTransformer(**{**args, **kwargs}, init_cfg=init)
    args = dict(
        embed_dims=8,
        depths=(2, 1, 1, 1),
        num_heads=(1, 2, 2, 2),
        window_size=4,
        convert_weights=True,
    )
    return SwinTransformer(**{**args, **kwargs}, init_cfg=init)


def original(kind, model):
    """The file as its authors publish it: their names, layout and head."""
    own = {
        name: torch.rand_like(value) if value.is_floating_point() else value
        for name, value in model.state_dict().items()
    }
    model.load_state_dict(own)
    if kind == 'resnet':
        return {**own, 'fc.weight': torch.ones(1000, 2)}
    if kind == 'video-swin':
        theirs = {
            'backbone.'
            + re.sub(r'downsamples\.(\d)', r'layers.\1.downsample', n): v
            for n, v in own.items()
        }
        patch = theirs['backbone.patch_embed.proj.weight']
        halves = torch.cat([patch * 0.25, patch * 0.75], 2)
        theirs['backbone.patch_embed.proj.weight'] = halves
        theirs['backbone.norm.weight'] = torch.ones(16)
        theirs['cls_head.fc_cls.weight'] = torch.ones(400, 16)
        return {'state_dict': theirs, 'meta': {'epoch': 30}}
    theirs = to_published({f'backbone.{n}': v for n, v in own.items()})
    theirs = {
        n.removeprefix('backbone.0.body.'): v
        for n, v in theirs.items()
        if not re.search(r'body\.norm\d', n)
    }
    theirs['layers.0.blocks.1.attn_mask'] = torch.zeros(4, 16, 16)
    theirs['norm.weight'] = theirs['head.weight'] = torch.ones(64)
    return {'model': theirs}


class Detector(BaseModule):
    """Has a backbone, as the real one."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone


def initialise(backbone):
    model = Detector(backbone)
    watch_initial_weights(model)
    model.init_weights()
    assert 'init_weights' not in vars(backbone)
    assert not backbone._load_state_dict_pre_hooks
    return backbone.state_dict()


KINDS = ['resnet', 'swin', 'video-swin']


@pytest.mark.parametrize('kind', KINDS)
def test_published_files_load_whole(kind, tmp_path):
    source = build(kind)
    torch.save(original(kind, source), tmp_path / 'x.pth')
    loaded = initialise(build(kind, tmp_path / 'x.pth'))
    for name, value in source.state_dict().items():
        if kind == 'swin' and re.match(r'norm\d', name):
            continue  # the norms of the outputs are new
        torch.testing.assert_close(loaded[name], value, msg=name)


@pytest.mark.parametrize(
    ('kind', 'changes', 'reason'),
    [
        ('resnet', dict(depth=101), r'\d+ are unknown .*layer3\.6'),
        ('resnet', dict(base_channels=8), r'have another shape .*conv1'),
        ('swin', dict(depths=(2, 1, 3, 1)), r'stages\.2\.blocks\.1'),
        ('swin', dict(embed_dims=16), r'another shape .*\(16, 3, 4, 4\) inst'),
        ('swin', dict(window_size=2), r'have another shape .*relative_pos'),
        ('video-swin', dict(arch={**ARCH, 'depths': (1, 1)}), r'are missing'),
        ('video-swin', dict(window_size=(4, 4, 4)), r'another shape'),
    ],
)
def test_a_file_of_another_size_is_refused(kind, changes, reason, tmp_path):
    torch.save(original(kind, build(kind, **changes)), tmp_path / 'x.pth')
    backbone = build(kind, tmp_path / 'x.pth')
    before = {n: p.clone() for n, p in backbone.named_parameters()}
    with pytest.raises(CheckpointError, match=reason) as caught:
        initialise(backbone)
    message = str(caught.value)
    assert message.startswith(f'{tmp_path}/x.pth is not a file of the ')
    assert 'model.backbone.init_cfg' in message
    assert '\n' not in message
    if kind != 'video-swin':  # which draws weights before it loads
        assert all(
            torch.equal(before[n], p) for n, p in backbone.named_parameters()
        )


@pytest.mark.parametrize(
    ('kind', 'other'),
    [(a, b) for a in KINDS for b in [*KINDS, 'roberta'] if a != b],
)
def test_a_file_of_another_architecture_is_refused(kind, other, tmp_path):
    content = {'roberta.embeddings.word_embeddings.weight': torch.ones(9, 4)}
    if other != 'roberta':
        content = original(other, build(other))
    torch.save(content, tmp_path / 'x.pth')
    with pytest.raises(
        CheckpointError, match=r'x\.pth (has no weight of|is not a file of)'
    ):
        initialise(build(kind, tmp_path / 'x.pth'))


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize(
    ('content', 'reason'),
    [
        (b'<!DOCTYPE html><title>Quota exceeded', 'is a web page'),
        (b'', 'it is empty'),
        (b'\x1f\x8b\x08rest', 'a compressed archive'),
        (b'version https://git-lfs.github.com/spec/v1', 'Git LFS pointer'),
        ('cut', 'not a readable checkpoint'),
        ('no weights', 'holds no weights but epoch and 1 more'),
    ],
)
def test_something_else_is_refused(kind, content, reason, tmp_path):
    path = tmp_path / 'x.pth'
    if content == 'cut':
        torch.save(original(kind, build(kind)), path)
        path.write_bytes(path.read_bytes()[:-2000])
    elif content == 'no weights':
        torch.save({'epoch': 3, 'note': 'x'}, path)
    else:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match=reason):
        initialise(build(kind, path))


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'x\.pth is not a file'):
        initialise(build('swin', tmp_path / 'x.pth'))


def test_skipped_files_are_not_asked_for(tmp_path):
    model = Detector(build('resnet', tmp_path / 'gone.pth'))
    assert skip_initial_weights(nn.DataParallel(model)) == ['backbone']
    model.init_weights()
