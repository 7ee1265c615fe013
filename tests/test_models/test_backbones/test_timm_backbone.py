# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
import sys

import pytest
import torch
from safetensors.torch import save_file

from referformer.checkpoints.initial import whole_checkpoint_follows
from referformer.errors import (
    ConfigError,
    MissingCheckpointError,
    MissingPackageError,
)
from referformer.models import TimmBackbone
from referformer.utils.foreign_imports import stand_in_for_torchvision

NAME = 'sam2_hiera_tiny.fb_r896_2pt1'
SMALL = dict(
    embed_dim=8, num_heads=1, stages=(1, 1, 1, 1), global_att_blocks=(3,)
)


def test_layout_and_strides():
    """Swin of timm has its channels last."""
    model = TimmBackbone(
        'swin_tiny_patch4_window7_224',
        img_size=(64, 96),
        embed_dim=8,
        depths=(1, 1, 1, 1),
        num_heads=(1, 1, 1, 1),
    )
    maps = model(torch.rand(1, 3, 64, 96))
    assert [tuple(level.shape[1:]) for level in maps] == [
        (8 * 2**i, 16 // 2**i, 24 // 2**i) for i in range(4)
    ]


@pytest.fixture
def given(tmp_path, monkeypatch):
    """Weights in checkpoints/, as fetched by hand."""
    monkeypatch.chdir(tmp_path)
    with stand_in_for_torchvision():
        import timm
    model = timm.create_model(NAME, **SMALL)
    file = tmp_path / 'checkpoints/timm' / NAME / 'model.safetensors'
    file.parent.mkdir(parents=True)
    weights = model.state_dict()
    save_file({k: v.contiguous() for k, v in weights.items()}, file)
    return weights


def test_weights_from_a_folder(given):
    model = TimmBackbone(NAME, pretrained=True, **SMALL)
    model.init_weights()
    for key, value in model.net.model.state_dict().items():
        assert torch.equal(value, given[key]), key
    with whole_checkpoint_follows():
        model = TimmBackbone(NAME, pretrained=True, **SMALL)
    weight = 'patch_embed.proj.weight'
    assert not torch.equal(model.net.model.state_dict()[weight], given[weight])


def test_sentences(given, monkeypatch):
    with pytest.raises(ConfigError, match=r'no network .resnet0.*resnet50'):
        TimmBackbone('resnet0')
    with pytest.raises(ConfigError, match=r'feature index 7 is out of range'):
        TimmBackbone(NAME, out_indices=(0, 7))
    with pytest.raises(ConfigError, match=r'another|mismatch'):
        TimmBackbone(NAME, pretrained=True, **{**SMALL, 'embed_dim': 16})
    import timm

    def unreachable(*args, **kwargs):
        raise ConnectionError('no route')

    monkeypatch.setattr(timm, 'create_model', unreachable)
    with pytest.raises(
        MissingCheckpointError, match=r'no route.* at checkpoints/timm/resnet'
    ):
        TimmBackbone('resnet18.a1_in1k', pretrained=True)
    monkeypatch.setitem(sys.modules, 'timm', None)
    with pytest.raises(MissingPackageError, match='pip install --no-deps tim'):
        TimmBackbone(NAME)
