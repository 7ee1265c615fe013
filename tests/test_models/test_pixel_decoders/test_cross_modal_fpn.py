# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
import pytest
import torch

from referformer.models import CrossModalFPN
from referformer.models.pixel_decoders.cross_modal_fpn import (
    VisionLanguageBlock,
)

from ..helpers import crop, random_frames, random_text, randomise


@pytest.fixture
def block():
    block = VisionLanguageBlock(16, 2, 32, dropout=0.0, sr_ratio=1)
    randomise(block)
    return block.double()


@pytest.fixture
def decoder():
    decoder = CrossModalFPN(
        in_channels=[8, 16, 16],
        embed_dims=16,
        mask_channels=12,
        num_heads=2,
        feedforward_channels=32,
        dropout=0.0,
        sr_ratios=(4, 2, 1),
        norm_cfg={'type': 'GN', 'num_groups': 4},
    )
    randomise(decoder)
    return decoder


def pyramid(num_frames, sizes=((8, 12), (4, 6), (2, 3))):
    return [
        random_frames(num_frames, channels, size)._replace(
            pos=torch.randn(num_frames, 16, *size)
        )
        for channels, size in zip((8, 16, 16), sizes, strict=True)
    ]


def select(levels, index):
    return [type(level)(*(part[index] for part in level)) for level in levels]


def test_padding_changes_nothing(block):
    """At full resolution; reduced maps blend over the border, as published."""
    frames = random_frames(4, 16, (5, 7), (5, 4), torch.float64)
    text = random_text(2, 16, dtype=torch.float64)
    ours = block(frames, text, padded=True)
    expected = block(crop(frames, (5, 4)), text, padded=False)
    torch.testing.assert_close(ours[..., :4], expected)


def test_without_padding_the_mask_may_be_left_out(block):
    frames = random_frames(4, 16, (5, 7), None, torch.float64)
    text = random_text(2, 16, dtype=torch.float64)
    torch.testing.assert_close(
        block(frames, text, padded=True), block(frames, text, padded=False)
    )


def test_frames_of_a_clip_see_each_other_and_no_others(decoder):
    text = random_text(2, 16)
    levels = pyramid(4)
    before = decoder(levels, text).compute()
    assert before.shape == (4, 12, 8, 12)
    changed = [x._replace(map=x.map.clone()) for x in levels]
    changed[-1].map[0] += 1.0
    after = decoder(changed, text).compute()
    assert not torch.allclose(after[1], before[1])
    torch.testing.assert_close(after[2:], before[2:])


def test_order_of_frames_does_not_matter(decoder):
    text = random_text(1, 16)
    levels, order = pyramid(3), torch.tensor([2, 0, 1])
    torch.testing.assert_close(
        decoder(select(levels, order), text).compute(),
        decoder(levels, text).compute()[order],
    )


def test_maps_smaller_than_the_reduction(decoder):
    levels = pyramid(2, sizes=((3, 2), (2, 1), (1, 1)))
    assert decoder(levels, random_text(1, 16)).shape == (2, 12, 3, 2)


def test_sizes_that_do_not_double(decoder):
    """An unpadded clip has sides like 23 and 12, not 24 and 12."""
    levels = pyramid(2, sizes=((23, 38), (12, 19), (6, 10)))
    assert decoder(levels, random_text(1, 16)).shape == (2, 12, 23, 38)


def test_levels_must_agree():
    with pytest.raises(ValueError, match='2 levels but sr_ratios has 4'):
        CrossModalFPN(in_channels=[8, 16])
