# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
import random
from collections import Counter

import pytest

from referformer.datasets.transforms import (
    KeepOneMask,
    SampleAllFrames,
    SampleClipFrames,
    SampleWindow,
)


def make_item(length=8, **kwargs):
    return {
        'video_id': 'v',
        'text': 'abcde',
        'obj_id': '1',
        'video_length': length,
        'frame_names': [f'{5 * i:05d}' for i in range(length)],
        'img_dir': 'img/v',
        'img_suffix': '.jpg',
        'mask_dir': 'mask/v',
        'mask_suffix': '.png',
        **kwargs,
    }


def draws(num_frames, start_frame, length, times=300):
    sampler = SampleClipFrames(num_frames)
    return [sampler.sample(start_frame, length) for _ in range(times)]


@pytest.mark.parametrize('num_frames', [1, 2, 3, 4, 5, 6, 8, 20])
@pytest.mark.parametrize('length', [1, 2, 3, 7, 36])
def test_clips_are_sorted_and_inside_the_video(num_frames, length):
    for start_frame in {0, length // 2, length - 1}:
        for clip in draws(num_frames, start_frame, length, times=30):
            assert len(clip) == num_frames
            assert clip == sorted(clip)
            assert clip[0] >= 0
            assert clip[-1] < length
            if num_frames != 2:
                assert start_frame in clip


def test_one_frame_is_the_start_frame():
    assert draws(1, 4, 9, times=5) == [[4]] * 5


def test_window_is_one_to_three_frames_either_side():
    clips = draws(3, 10, 40)
    assert {10 - c[0] for c in clips} == {1, 2, 3}
    assert {c[2] - 10 for c in clips} == {1, 2, 3}
    assert {c[1] for c in clips} == {10}


def test_quirk_clamping_repeats_the_start_frame():
    assert all(c[:2] == [0, 0] for c in draws(3, 0, 40))
    assert all(c[1:] == [39, 39] for c in draws(3, 39, 40))


def test_quirk_the_last_window_frame_may_come_twice_the_others_not():
    repeated = Counter()
    for clip in draws(10, 10, 24, times=500):
        window = [i for i in clip if abs(i - 10) <= 3]
        repeated.update(i for i, n in Counter(clip).items() if n > 1)
        assert min(window) < 10 < max(window)
    # The window ends at 11, 12 or 13; only its end is drawn again.
    assert set(repeated) == {11, 12, 13}


def test_further_frames_come_from_outside_the_window():
    for clip in draws(6, 10, 40):
        if len(set(clip)) < 6:
            continue
        position = clip.index(10)
        inside = range(clip[position - 1], clip[position + 1] + 1)
        others = clip[: position - 1] + clip[position + 2 :]
        assert not set(others) & set(inside)


def test_quirk_short_videos_draw_from_everything():
    # Four further frames, but only four can be outside the window of at
    # least three of these six: the whole video is used, window included.
    clips = draws(7, 2, 6)
    assert any(Counter(clip)[2] == 2 for clip in clips)
    assert all(max(Counter(clip).values()) <= 3 for clip in clips)


def test_quirk_exactly_enough_outside_is_not_enough(monkeypatch):
    monkeypatch.setattr(random, 'randint', lambda low, high: low)
    # Window 2, 3, 4; outside are the five 0, 1, 4, 5, 6.
    eight = draws(8, 3, 7)
    assert any(Counter(clip)[3] == 2 for clip in eight)
    seven = draws(7, 3, 7)
    assert all(Counter(clip)[3] == 1 for clip in seven)


def test_quirk_very_short_videos_give_all_frames_and_some_again():
    for clip in draws(9, 1, 4):
        counts = Counter(clip)
        # Six further frames: all four, and two of them again.
        assert set(counts) == {0, 1, 2, 3}
    assert all(clip == [0] * 12 for clip in draws(12, 0, 1, times=5))


def test_seeded_draws_repeat():
    random.seed(1)
    first = draws(5, 10, 40, times=10)
    random.seed(1)
    assert draws(5, 10, 40, times=10) == first


def test_every_value_becomes_a_list_per_frame():
    # A text of exactly T letters must not be dealt out to the frames.
    frames = SampleClipFrames(5)(make_item(start_frame=3))
    assert all(isinstance(v, list) and len(v) == 5 for v in frames.values())
    assert frames['text'] == ['abcde'] * 5
    assert frames['video_length'] == [8] * 5
    for i, name, image, mask in zip(
        *(frames[k] for k in ('frame_id', 'frame_name', 'img_path')),
        frames['mask_path'],
        strict=True,
    ):
        assert name == f'{5 * i:05d}'
        assert image == f'img/v/{name}.jpg'
        assert mask == f'mask/v/{name}.png'
    assert 'start_frame' not in frames


def test_all_frames_in_order_without_ground_truth():
    frames = SampleAllFrames()(make_item(mask_dir=None))
    assert frames['frame_id'] == list(range(8))
    assert frames['mask_path'] == [None] * 8


@pytest.mark.parametrize(
    ('annotated', 'expected', 'place'),
    [
        (4, [2, 3, 4, 5, 6], 2),
        (0, [0, 0, 0, 1, 2], 0),
        (1, [0, 0, 1, 2, 3], 2),
        (7, [5, 6, 7, 7, 7], 2),
    ],
)
def test_window_around_the_annotated_frame(annotated, expected, place):
    frames = SampleWindow(5)(make_item(annotated_frame_id=annotated))
    assert frames['frame_id'] == expected
    assert frames['annotated_position'] == [place] * 5
    assert frames['frame_id'][place] == annotated


def test_an_even_window():
    frames = SampleWindow(4)(make_item(annotated_frame_id=4))
    assert frames['frame_id'] == [2, 3, 4, 5]


def test_the_annotated_frame_of_a_training_clip():
    for seed in range(50):
        random.seed(seed)
        item = make_item(annotated_frame_id=seed % 8, start_frame=seed % 8)
        frames = SampleClipFrames(6)(item)
        (place,) = set(frames['annotated_position'])
        assert frames['frame_id'][place] == seed % 8


def test_frames_of_a_video_file():
    item = make_item(annotated_frame_id=4, img_dir=None, mask_dir=None)
    item.update(video_path='v.mp4', masks_file='masks.mat')
    frames = SampleWindow(3)(item)
    assert 'img_path' not in frames
    assert frames['video_path'] == ['v.mp4'] * 3
    assert frames['masks_file'] == ['masks.mat'] * 3


def test_errors():
    with pytest.raises(ValueError, match='num_frames is 0'):
        SampleWindow(0)
    with pytest.raises(ValueError, match='SampleAllFrames'):
        SampleWindow(3)(make_item())
    with pytest.raises(ValueError, match='num_frames is 0'):
        SampleClipFrames(0)
    with pytest.raises(ValueError, match='SampleAllFrames'):
        SampleClipFrames(3)(make_item())


def test_one_mask_of_a_clip_is_kept():
    kept = set()
    for seed in range(40):
        random.seed(seed)
        frames = KeepOneMask()(SampleAllFrames()(make_item(4)))
        position = frames['annotated_position'][0]
        assert frames['annotated_position'] == [position] * 4
        with_mask = [t for t, p in enumerate(frames['mask_path']) if p]
        assert with_mask == [position]
        assert all(frames['img_path'])
        kept.add(position)
    assert kept == {0, 1, 2, 3}
