# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Every frame belongs to a window, and one window answers for it."""

import itertools

import pytest

from referformer.prediction.windows import cut_windows


@pytest.mark.parametrize('number', [1, 3, 4, 5, 8, 9, 23])
@pytest.mark.parametrize(
    ('length', 'overlap'), [(1, 0), (4, 0), (4, 1), (4, 2), (4, 3), (9, 4)]
)
def test_every_frame_is_answered_for_once(number, length, overlap):
    windows = [
        (w.number, list(w.frames), w.start, w.stop)
        for w in cut_windows(range(number), length, overlap)
    ]
    answered = [i for _, f, start, stop in windows for i in f[start:stop]]
    assert answered == list(range(number))
    assert [n for n, *_ in windows] == list(range(len(windows)))
    for _, frames, _, _ in windows[:-1]:
        assert len(frames) == length
    for (_, one, *_), (_, two, *_) in itertools.pairwise(windows):
        assert one[length - overlap :] == two[:overlap]
        assert len(two) > overlap  # no window without a frame of its own


@pytest.mark.parametrize('first', [0, 1, 3])
@pytest.mark.parametrize(('length', 'overlap'), [(4, 0), (4, 1), (9, 4)])
def test_a_stream_may_begin_with_any_window(first, length, overlap):
    whole = list(cut_windows(range(60), length, overlap))
    rest = range(first * (length - overlap), 60)
    assert list(cut_windows(rest, length, overlap, first)) == whole[first:]


def test_no_frames_no_windows():
    assert list(cut_windows([], 4)) == []
