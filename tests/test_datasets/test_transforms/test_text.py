# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
import pytest

from referformer.datasets.transforms import NormalizeText
from referformer.datasets.transforms.text import swap_sides


def test_normalize():
    results = NormalizeText()({'text': '  The LEFT\t dog \n'})
    assert results == {'text': 'the left dog'}


@pytest.mark.parametrize(
    ('text', 'mirrored'),
    [
        ('the left dog right of it', 'the right dog left of it'),
        ('leftmost, on the right', 'rightmost, on the left'),
        ('moving leftwards', 'moving rightwards'),
        ('the left-hand cat', 'the right-hand cat'),
        ('Left of the Right', 'Right of the Left'),
        # Not a side, although the letters are in it.
        ('the bright upright cleft', 'the bright upright cleft'),
        ('no side at all', 'no side at all'),
    ],
)
def test_swap_sides(text, mirrored):
    assert swap_sides(text) == mirrored
    assert swap_sides(mirrored) == text


def test_all_expressions_of_a_video():
    item = {'expressions': [{'exp_id': '0', 'text': ' A  Dog'}]}
    out = NormalizeText()(item)
    assert out['expressions'] == [{'exp_id': '0', 'text': 'a dog'}]
