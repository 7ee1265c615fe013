# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""The drawn video of ``tools/demo.py --example``."""

import numpy as np
import pytest

from referformer.testing.example_video import draw_example


@pytest.mark.parametrize('number', [1, 2, 77])
def test_three_sentences_about_three_objects(number):
    video = draw_example(number)
    assert len(set(video.texts)) == 3
    frames = video.frames
    assert frames.dtype == np.uint8
    assert video.masks.shape == (3, *frames.shape[:3])
    assert video.masks.any((1, 2, 3)).all()
    assert not (video.masks.sum(0) > 1).any()
    again = draw_example(number)
    assert (again.frames == frames).all()
    assert again.texts == video.texts


def test_another_number_is_another_video():
    assert draw_example(1).texts != draw_example(2).texts


def test_what_there_is_to_see():
    video = draw_example(3)
    files = {'still': 'a.png', 'overlay': 'a.mp4'}
    text = video.explain(list(video.masks), files)
    assert 'J of 100: 100, 100, 100.' in text
    assert 'a.png' in text
    assert 'tools/demo.py --example 3' in text
    nothing = np.zeros_like(video.masks)
    assert 'J of 100: 0, 0, 0.' in video.explain(list(nothing), files)
