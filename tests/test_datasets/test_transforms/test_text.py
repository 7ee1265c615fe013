# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
import pytest

from referformer.datasets.transforms import NormalizeText
from referformer.datasets.transforms.text import swap_sides


def test_normalize():
    results = NormalizeText()({'text': '  The LEFT\t dog \n'})
    assert results == {'text': 'the left dog'}


#: Words for a side, @ in place of "left" and "right": people write them
#: together in RefCOCO, where slips are common.
SIDES = """
    @ @s @'s @. @, @; (@) "@" @/back @-hand @-handed @-side @-most @2 @1st 2@
    @most @est @er @ish @y @ie @ies @ward @wards @hand @handed @hander @side
    @sided @of @one @guy @girl @man @cow @front @back @bottom @top @corner
    far@ top@ bottom@ upper@ lower@ mid@ middle@ back@ front@ center@ our@
    your@ my@ the@ on@ to@ most@ second@ furthest@ extreme-@ @and@ @_arm
"""
#: The letters are in them, but they mean no side.
NO_SIDES = """
    bright brighter brightest brightly brightness fright frightened afright
    wright playwright wheelwright cartwright upright uprights upright's
    uprightly outright downright forthright copyright copyrighted birthright
    aright alright allright righteous righteousness rightful rightfully cleft
    clefts leftover leftovers left-over left-overs lift lefft rihgt
"""


@pytest.mark.parametrize('word', SIDES.split())
def test_words_for_a_side(word):
    left, right = word.replace('@', 'left'), word.replace('@', 'right')
    # What the published loaders do to the letters.
    letters = left.replace('left', '@').replace('right', 'left')
    assert letters.replace('@', 'right') == right
    for text, mirrored in ((left, right), (right, left)):
        assert swap_sides(text) == mirrored
        assert swap_sides(f'a {text} dog') == f'a {mirrored} dog'
        assert swap_sides(text.upper()) == mirrored.upper()
        assert swap_sides(text.title()).lower() == mirrored


@pytest.mark.parametrize('word', NO_SIDES.split())
def test_words_that_only_look_like_a_side(word):
    for text in (word, word.upper(), word.capitalize()):
        assert swap_sides(text) == text
        swapped = swap_sides(f'the left {text} on the right')
        assert swapped == f'the right {text} on the left'


@pytest.mark.parametrize(
    ('text', 'mirrored'),
    [
        ('the left dog right of it', 'the right dog left of it'),
        ('leftmost, on the right', 'rightmost, on the left'),
        ('Left of the Right', 'Right of the Left'),
        ('LEFT2 lefty', 'RIGHT2 righty'),
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
