# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""How items are stored, and what mmengine may do with them."""

import copy
import pickle

import numpy as np
import pytest

from referformer.datasets import BaseReferDataset
from referformer.datasets.items import Items


def make_clips(videos=2, expressions=3, frames=8, **facts):
    names = [f'{t:05d}' for t in range(frames)]
    return [
        {
            'video_id': f'v{video}',
            'exp_id': str(number),
            'text': f'the object number {number} of the video {video}',
            'obj_id': str(number),
            'label': 0,
            'video_length': frames,
            'frame_names': names,
            'img_dir': f'data/set/train/JPEGImages/v{video}',
            'img_suffix': '.jpg',
            'mask_dir': f'data/set/train/Annotations/v{video}',
            'mask_suffix': '.png',
            **facts,
        }
        for video in range(videos)
        for number in range(expressions)
    ]


class Clips(BaseReferDataset):
    clips = make_clips()

    def load_expressions(self):
        return copy.deepcopy(self.clips)


@pytest.mark.parametrize('serialize', [True, False])
def test_nothing_is_lost_or_shared(serialize):
    clips = make_clips()
    items = Items(clips, serialize=serialize)
    assert [items[i] for i in range(len(items))] == clips
    items[0]['frame_names'].clear()
    assert items[0] == items[-6] == clips[0]
    with pytest.raises(IndexError):
        items[6]


def test_a_pair_of_integers_for_every_start_frame():
    clips = make_clips()
    items = Items(clips, start_frames=lambda clip: range(0, 8, 3))
    assert len(items) == 6 * 3
    assert items[4] == {**clips[1], 'start_frame': 3}
    assert items.id(4)[:4] == ('v0', '1', '1', 3)
    assert Items(clips).id(4)[:4] == ('v1', '1', '1', None)


def test_bytes_do_not_grow_with_the_start_frames():
    """18 000 expressions of 360 frames, scaled down to 180."""
    clips = make_clips(videos=20, expressions=9, frames=360)
    few = Items(clips, start_frames=lambda clip: (0,))
    many = Items(clips, start_frames=lambda clip: range(0, 360, 5))
    assert len(many) == 72 * len(few)
    size, smaller = len(pickle.dumps(many)), len(pickle.dumps(few))
    # two integers for each item more
    assert size - smaller == pytest.approx(8 * (len(many) - len(few)), abs=99)
    # names of frames once a video; 100 MB are 5 555 bytes an expression
    assert size / len(clips) < 1500


DIFFERING = {
    'mask_dir': [f'masks/{k}' for k in range(3)],
    'masks_file': ['a.mat', 'b.mat', 'a.mat'],
    'rles': [{'counts': k} for k in 'abc'],
    'mask_value': [1, 255, None],
    'type': ['static', 'dynamic', 'dynamic'],
    'array': [np.arange(k) for k in range(3)],
}


@pytest.mark.parametrize('fact', DIFFERING)
def test_what_differs_stays_with_its_expression(fact):
    clips = make_clips(videos=1)
    for clip, value in zip(clips, DIFFERING[fact], strict=True):
        clip[fact] = value
    item = Items(clips, grouped=True)[0]
    assert fact not in item
    for expression, value in zip(
        item['expressions'], DIFFERING[fact], strict=True
    ):
        np.testing.assert_equal(expression[fact], value)


def test_a_fact_that_one_expression_lacks_is_no_fact_of_the_video():
    clips = make_clips(videos=1)
    clips[1]['type'] = 'static'
    item = Items(clips, grouped=True)[0]
    assert 'type' not in item
    assert ['type' in e for e in item['expressions']] == [False, True, False]


def test_what_all_agree_on_is_known_of_the_video():
    clips = make_clips(videos=1, subset='val')
    item = Items(clips, grouped=True)[0]
    assert item['subset'] == 'val'
    assert item['mask_dir'] == clips[0]['mask_dir']
    # also where there is nobody to disagree, a video has no words
    (alone,) = [Items(clips[:1], grouped=True)[0]]
    assert not {'text', 'exp_id', 'obj_id'} & set(alone)
    for clip, expression in zip(clips, item['expressions'], strict=True):
        assert {**item, **expression}.items() >= clip.items()


@pytest.mark.parametrize(
    'other',
    [
        {'img_dir': 'elsewhere'},
        {'frame_names': ['a'] * 8},
        {'annotated_frame_id': 3},
        {'video_path': 'v.mp4'},
    ],
)
def test_clips_that_show_other_frames_are_never_put_together(other):
    clips = make_clips(videos=1)
    clips[1].update(other)
    items = Items(clips, grouped=True)
    assert [len(items[i]['expressions']) for i in range(len(items))] == [2, 1]
    assert [e['exp_id'] for e in items[0]['expressions']] == ['0', '2']
    assert items.id(1)[:4] == ('v0', None, None, None)


def test_expressions_of_a_video_need_not_be_neighbours():
    clips = make_clips()
    mixed = [clips[k] for k in (0, 3, 1, 4, 2, 5)]
    items = Items(mixed, grouped=True)
    assert [items[i]['video_id'] for i in (0, 1)] == ['v0', 'v1']
    assert [e['exp_id'] for e in items[1]['expressions']] == ['0', '1', '2']
    single = Items(mixed)
    assert [single[i] for i in range(6)] == mixed


# -- mmengine's BaseDataset ---------------------------------------------------


def texts(dataset):
    return [dataset[i]['text'][-20:] for i in range(len(dataset))]


@pytest.mark.parametrize('serialize', [True, False])
@pytest.mark.parametrize('indices', [2, -2, [5, 0, -1], 0])
def test_subsets(indices, serialize):
    options = dict(test_mode=True, serialize_data=serialize)
    whole = Clips(**options)
    expected = texts(whole)
    if isinstance(indices, list):
        expected = [expected[i] for i in indices]
    else:
        expected = expected[:indices] if indices >= 0 else expected[indices:]
    part = whole.get_subset(indices)
    assert texts(part) == expected
    assert len(whole) == 6
    assert part.pipeline is not whole.pipeline
    assert texts(Clips(indices=indices, **options)) == expected
    whole.get_subset_(indices)
    assert texts(whole) == expected
    with pytest.raises(TypeError, match='neither a number nor'):
        part.get_subset(b'first'.decode)


def test_lazy_datasets_read_when_they_are_asked():
    dataset = Clips(lazy_init=True, start_stride=4)
    assert not hasattr(dataset, 'items')
    assert len(dataset) == 12
    assert Clips(lazy_init=True, start_stride=4).item_id(1).start_frame == 4
    assert dataset.get_data_info(-1)['sample_idx'] == 11
    assert len(Clips(lazy_init=True).get_subset(3)) == 3


def test_filters_see_the_clips():
    class Filtered(Clips):
        def filter_data(self):
            length = self.filter_cfg['most_objects']
            return [c for c in self.data_list if int(c['obj_id']) < length]

    dataset = Filtered(filter_cfg={'most_objects': 2}, start_stride=8)
    assert len(dataset) == 4
    assert len(Filtered(filter_cfg={'most_objects': 0})) == 0


def test_datasets_can_be_copied_and_sent():
    dataset = Clips(test_mode=True)
    for other in (copy.deepcopy(dataset), pickle.loads(pickle.dumps(dataset))):
        assert texts(other) == texts(dataset)
