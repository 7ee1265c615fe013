# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
import torch

from referformer.models import VisionLanguageFusion

from ..helpers import random_text


def test_each_pixel_is_multiplied_by_what_it_reads():
    fusion = VisionLanguageFusion(embed_dims=16, num_heads=2)
    text = random_text(2, 16)
    feats = torch.randn(6, 16, 3, 5)  # 2 clips of 3 frames
    out = fusion(feats, text)
    assert out.shape == feats.shape
    for frame, clip in [(0, 0), (2, 0), (3, 1), (5, 1)]:
        pixel = feats[frame, :, 1, 4][None, None]
        words = text.words[clip : clip + 1]
        read = fusion.attn(
            pixel,
            words + text.word_pos[clip : clip + 1],
            words,
            text.padding_mask[clip : clip + 1],
        )
        torch.testing.assert_close(out[frame, :, 1, 4], (pixel * read)[0, 0])


def test_padded_words_are_not_read():
    fusion = VisionLanguageFusion(embed_dims=16, num_heads=2)
    text = random_text(2, 16)
    feats = torch.randn(2, 16, 3, 5)
    noisy = text.words.clone()
    noisy[text.padding_mask] = 100.0
    torch.testing.assert_close(
        fusion(feats, text), fusion(feats, text._replace(words=noisy))
    )
