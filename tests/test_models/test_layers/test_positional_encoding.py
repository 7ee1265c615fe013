# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
import math

import pytest
import torch

from referformer.models.layers import SinePositionalEncoding1D


def test_equals_the_formula():
    lengths, channels = (4, 7), 6
    mask = torch.arange(7)[None] >= torch.tensor(lengths)[:, None]
    pos = SinePositionalEncoding1D(channels)(mask)
    assert pos.shape == (2, 7, channels)
    for n, length in enumerate(lengths):
        for i in range(length):
            turn = (i + 1) / (length + 1e-6) * 2 * math.pi
            for pair in range(channels // 2):
                angle = turn / 10000 ** (2 * pair / channels)
                expected = torch.tensor([math.sin(angle), math.cos(angle)])
                got = pos[n, i, 2 * pair : 2 * pair + 2]
                torch.testing.assert_close(got, expected)


def test_padding_does_not_move_tokens():
    encoding = SinePositionalEncoding1D(8)
    alone = encoding(torch.zeros(1, 3, dtype=torch.bool))
    padded = encoding(torch.arange(9)[None] >= 3)
    torch.testing.assert_close(padded[:, :3], alone)


def test_odd_channels():
    with pytest.raises(ValueError, match='even, got 7'):
        SinePositionalEncoding1D(7)
