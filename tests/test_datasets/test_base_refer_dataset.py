# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
import pytest

from referformer.datasets import BaseReferDataset


class Clips(BaseReferDataset):
    """Two videos; the second has only one object."""

    def load_expressions(self):
        def clip(video, exp_id, obj_id, length):
            return {
                'video_id': video,
                'exp_id': exp_id,
                'text': f'{video} {obj_id} {exp_id}',
                'obj_id': obj_id,
                'label': 0,
                'video_length': length,
                'frame_names': [f'{i:05d}' for i in range(length)],
                'img_dir': 'img',
                'img_suffix': '.jpg',
                'mask_dir': None if obj_id is None else 'mask',
                'mask_suffix': '.png',
            }

        if self.metainfo.get('empty'):
            return []
        lone = None if self.metainfo.get('no_truth') else '1'
        return [
            clip('a', '0', '1', 7),
            clip('a', '1', '1', 7),
            clip('a', '2', '3', 7),
            clip('b', '0', lone, 4),
        ]


def test_training_items_start_at_every_start_stride():
    items = [Clips(start_stride=3)[i] for i in range(9 + 2)]
    start_frames = [i['start_frame'] for i in items if i['text'] == 'a 1 0']
    assert start_frames == [0, 3, 6]
    assert [i['start_frame'] for i in items if i['video_id'] == 'b'] == [0, 3]
    assert len(Clips(start_stride=3)) == 11


def test_test_items_are_whole_videos():
    dataset = Clips(test_mode=True)
    assert len(dataset) == 4
    assert 'start_frame' not in dataset[0]
    assert dataset[0]['video_length'] == 7


def test_other_object_changes_the_words_and_nothing_else():
    own = Clips(test_mode=True)
    other = Clips(test_mode=True, expression_from='other_object')
    # b has one object only.
    assert len(other) == 3
    for before, after in zip(own, other, strict=False):
        assert after['text_obj_id'] != after['obj_id']
        assert after['text'].split()[1] == after['text_obj_id']
        for key in ('video_id', 'exp_id', 'obj_id', 'mask_dir'):
            assert before[key] == after[key]
    assert [i['text'] for i in other] == ['a 3 2', 'a 3 2', 'a 1 0']


def test_a_video_with_all_its_expressions():
    single = Clips(test_mode=True)
    videos = Clips(test_mode=True, group_by_video=True)
    assert [v['video_id'] for v in videos] == ['a', 'b']
    assert [e['exp_id'] for e in videos[0]['expressions']] == ['0', '1', '2']
    for video in videos:
        assert 'text' not in video
        for expression in video.pop('expressions'):
            # taken apart again, nothing is lost
            clip = {**video, **expression}
            assert any(
                clip.items()
                <= {**other, 'sample_idx': clip['sample_idx']}.items()
                for other in single
            )


def test_expressions_without_truth_beside_others():
    class Mixed(Clips):
        def load_expressions(self):
            first, *others = super().load_expressions()
            return [{**first, 'obj_id': None, 'mask_dir': None}, *others]

    video = Mixed(test_mode=True, group_by_video=True)[0]
    assert [e['mask_dir'] for e in video['expressions']] == [
        *(None, 'mask', 'mask')
    ]
    assert [e['obj_id'] for e in video['expressions']] == [None, '1', '3']


@pytest.mark.parametrize('grouped', [False, True])
def test_whether_there_is_ground_truth(grouped):
    class Without(Clips):
        def load_expressions(self):
            clips = super().load_expressions()
            return [{**clip, 'obj_id': None} for clip in clips]

    assert Clips(test_mode=True, group_by_video=grouped).has_truth()
    assert not Without(test_mode=True, group_by_video=grouped).has_truth()


def test_one_item_where_one_frame_is_annotated():
    class Annotated(Clips):
        def load_expressions(self):
            return [
                {**clip, 'annotated_frame_id': 2}
                for clip in super().load_expressions()
            ]

    items = list(Annotated(start_stride=3))
    assert [item['start_frame'] for item in items] == [2] * 4


def test_clips_with_a_key_by_its_old_name():
    class Older(Clips):
        def load_expressions(self):
            clips = super().load_expressions()
            return [{**clip, 'annotated': 2} for clip in clips]

    with pytest.raises(ValueError, match='called "annotated_frame_id" now'):
        Older().full_init()


@pytest.mark.parametrize(
    'source', [{'masks_file': 'masks.mat'}, {'rles': [None]}]
)
def test_truth_in_other_places(source):
    class Elsewhere(Clips):
        def load_expressions(self):
            return [
                {**clip, 'mask_dir': None, **source}
                for clip in super().load_expressions()
            ]

    assert len(Elsewhere(start_stride=3)) == 11


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        ({'group_by_video': True}, 'group_by_video=True gives'),
        ({'start_stride': 0}, 'start_stride is 0'),
        ({'clip_length': 5}, '"clip_length", which is called "start_stride"'),
        ({'expression_from': 'nobody'}, "'nobody'"),
        ({'expression_from': 'other_object'}, 'test_mode=True'),
        ({'metainfo': {'empty': True}}, 'yields no clip'),
        ({'metainfo': {'no_truth': True}}, 'video b has no ground truth'),
        (
            {
                'metainfo': {'no_truth': True},
                'test_mode': True,
                'expression_from': 'other_object',
            },
            'video b has no obj_id',
        ),
    ],
)
def test_errors(kwargs, message):
    with pytest.raises(ValueError, match=message):
        Clips(**kwargs)
