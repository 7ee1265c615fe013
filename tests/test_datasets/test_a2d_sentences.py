# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""A2D-Sentences: one annotated frame of a video file."""

import json
import shutil

import h5py
import numpy as np
import pytest
from mmcv.transforms import Compose
from mmengine.config import Config

from referformer.checkpoints.io import load_checkpoint_safely
from referformer.datasets import A2DSentencesDataset
from referformer.datasets.transforms import LoadReferVideoFrames
from referformer.media import reader as video_reader
from tests.fixtures import a2d

from ..fixtures.tools import script
from .helpers import CONFIGS, Oracle, make_runner

TRAIN = 'a2d_sentences_single_frame_train_annotations.json'
TRUTH = 'a2d_sentences_test_annotations_in_coco_format.json'
TEST = 'a2d_sentences_single_frame_test_annotations.json'
# Frames and masks at their own size, nothing random but the frames.
LOAD = [
    dict(type='NormalizeText'),
    dict(type='SampleClipFrames', num_frames=5),
    dict(type='LoadReferVideoFrames'),
    dict(
        type='TransformBroadcaster',
        transforms=[dict(type='LoadA2DAnnotations')],
    ),
    dict(type='PackReferInputs'),
]


@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
    return a2d.prepare_a2d(tmp_path_factory.mktemp('a2d') / 'set')


@pytest.fixture
def root(prepared, tmp_path):
    """A copy to damage."""
    return shutil.copytree(prepared, tmp_path / 'set')


def dataset(root, ann_file=TRAIN, pipeline=(), **options):
    return A2DSentencesDataset(
        ann_file=ann_file, data_root=str(root), pipeline=pipeline, **options
    )


def rewrite(root, change, name=TEST):
    path = root / name
    rows = json.loads(path.read_text())
    change(rows)
    path.write_text(json.dumps(rows))


def test_an_item_is_one_annotated_frame(prepared):
    data = dataset(prepared, test_mode=True)
    item = data.get_data_info(1)
    video = a2d.VIDEOS['_0djE279Srg']
    assert len(data) == 7
    assert item['video_id'] == '_0djE279Srg'
    assert item['image_id'] == 'v__0djE279Srg_f_6_i_0'
    assert item['annotated_frame_id'] == 5
    assert item['video_length'] == video.length
    assert item['frame_names'][item['annotated_frame_id']] == '00006'
    ids = [data.get_data_info(i)['exp_id'] for i in range(3)]
    assert len(set(ids)) == 3


def test_training_starts_at_the_annotated_frame(prepared):
    data = dataset(prepared)
    assert len(data) == 7
    for i in range(len(data)):
        item = data.get_data_info(i)
        assert item['start_frame'] == item['annotated_frame_id']


def test_masks_lie_on_what_they_mean(prepared):
    """Right frame, right instance, not transposed."""
    data = dataset(prepared, pipeline=LOAD)
    for i in range(len(data)):
        clip = data[i]
        sample = clip['data_samples']
        frame = sample.video_data_samples[sample.annotated_position]
        image = clip['inputs'][sample.annotated_position].numpy()
        mask = frame.gt_instances.masks.to_ndarray()[0].astype(bool)
        inside = image[:, mask].mean(axis=1)
        colour = a2d.colour_of(int(sample.obj_id))
        assert np.abs(inside - colour).max() < 12
        # The video moves: one frame further, the colour would be off.
        assert mask.sum() in (144, 256)
        x1, y1, x2, y2 = frame.gt_instances.bboxes[0].tolist()
        assert mask[int(y1) : int(y2) + 1, int(x1) : int(x2) + 1].all()
        others = {
            len(other.gt_instances)
            for other in sample.video_data_samples
            if other.frame_id != frame.frame_id
        }
        assert others == {0}


def test_a_clip_decodes_no_more_than_it_needs(prepared, monkeypatch):
    decoded = []
    decode = video_reader.decode

    def counting(packets):
        for frame in decode(packets):
            decoded.append(frame)
            yield frame

    monkeypatch.setattr(video_reader, 'decode', counting)
    path = prepared / 'Release/clips320H/_0djE279Srg.mp4'
    results = {'video_path': [str(path)] * 3, 'frame_id': [10, 11, 11]}
    clip = LoadReferVideoFrames().transform(results)
    assert len(clip['img']) == len(clip['ori_shape']) == 3
    assert clip['ori_shape'][0] == (48, 80)
    assert len(decoded) == 2  # of 12: key frames come every 5


def test_the_window_is_the_published_one(prepared):
    pipeline = [dict(type='SampleWindow', num_frames=5)]
    data = dataset(prepared, TEST, pipeline, test_mode=True)
    first, second = data[0], data[1]
    assert first['frame_name'] == ['00001'] * 3 + ['00002', '00003']
    assert first['annotated_position'] == [0] * 5
    assert second['frame_id'] == [4, 5, 6, 7, 8]
    assert second['annotated_position'] == [2] * 5


def test_either_name_of_the_folder_of_videos(root):
    (root / 'Release/clips320H').rename(root / 'Release/CLIPS320')
    item = dataset(root).get_data_info(0)
    assert item['video_path'].endswith('CLIPS320/_0djE279Srg.mp4')
    (root / 'Release/CLIPS320').rename(root / 'Release/videos')
    with pytest.raises(FileNotFoundError, match='clips320H does not exist'):
        dataset(root)
    data = dataset(root, data_prefix=dict(video='Release/videos'))
    assert len(data) == 7


def test_a_mask_of_a_rounded_size(root):
    """In training it is scaled to the frame, in testing the frame to it."""
    folder = root / 'text_annotations/a2d_annotation_with_instances'
    path = folder / '_0djE279Srg/00002.h5'
    with h5py.File(path, 'a') as file:
        masks = np.asarray(file['reMask'])  # (W, H): a single instance
        del file['reMask']
        file['reMask'] = np.pad(masks, ((0, 1), (0, 0)))
    frame = dataset(root, pipeline=LOAD)[0]['data_samples']
    truth = frame.video_data_samples[frame.annotated_position].gt_instances
    assert truth.masks.masks.shape == (1, 48, 80)

    test = Config.fromfile(CONFIGS / 'a2d.py').test_pipeline
    data = dataset(root, TRAIN, pipeline=test, test_mode=True)
    clip = data[0]['data_samples']
    frame = clip.video_data_samples[clip.annotated_position]
    assert tuple(frame.ori_shape) == (48, 81)
    assert frame.gt_instances.masks.shape == (1, 48, 81)

    with h5py.File(path, 'a') as file:
        del file['reMask']
        file['reMask'] = masks.T  # not transposed, as MATLAB would not
    with pytest.raises(ValueError, match='both must be of one size'):
        data[0]


@pytest.mark.parametrize(
    ('row', 'said'),
    [
        (['', 'zzTestVideo', 4, 1], 'row 0'),
        (['a box', '../zzTestVideo', 4, 1], 'row 0'),
        (['a box', 'zzTestVideo', 0, 1], 'frame from 1 on'),
        (['a box', 'zzTestVideo', 4, '1 (copy)'], 'row 0'),
        (['a box', 'zzTestVideo', 4], 'frame from 1 on'),
        (['a box', 'unknown', 4, 1], "'unknown.mp4'"),
    ],
)
def test_rows_that_are_wrong(root, row, said):
    rewrite(root, lambda rows: rows.__setitem__(0, row))
    with pytest.raises((ValueError, FileNotFoundError), match=said):
        dataset(root, TEST, test_mode=True)


def test_files_that_do_not_fit(root):
    rewrite(root, lambda rows: rows.append(rows[0]))
    with pytest.raises(ValueError, match='only 5 different'):
        dataset(root, TEST, test_mode=True)
    with pytest.raises(FileNotFoundError, match='tells how to make it'):
        dataset(root, 'missing.json')
    with pytest.raises(ValueError, match='group_by_video'):
        dataset(root, test_mode=True, group_by_video=True)

    rewrite(root, lambda rows: rows[0].__setitem__(2, 13), TRAIN)
    with pytest.raises(ValueError, match='12 frames, but frame 13'):
        dataset(root).get_data_info(0)
    rewrite(root, lambda rows: rows[0].__setitem__(2, 2), TRAIN)
    rewrite(root, lambda rows: rows[0].__setitem__(3, 7), TRAIN)
    load = Compose(LOAD)
    with pytest.raises(ValueError, match=r'instances \[0\].*about 7'):
        load(dataset(root).get_data_info(0))


@pytest.fixture
def runner(prepared, tmp_path):
    def build(**options):
        options = {k.replace('__', '.'): v for k, v in options.items()}
        options['model.head.selector.topk'] = 5
        options['model.queries.num_queries'] = 5
        return make_runner('a2d', prepared, tmp_path / 'run', options)

    return build


def test_one_training_step_and_a_scored_test(runner, tmp_path):
    run = runner(
        train_cfg=dict(_delete_=True, type='IterBasedTrainLoop', max_iters=1),
        log_processor__by_epoch=False,
        default_hooks__checkpoint__by_epoch=False,
        test_evaluator__outfile=str(tmp_path / 'predictions.json'),
    )
    before = {k: v.clone() for k, v in run.model.state_dict().items()}
    run.train()
    after = run.model.state_dict()
    changed = {k.split('.')[0] for k in after if (after[k] != before[k]).any()}
    assert {'backbone', 'transformer', 'head'} <= changed
    scores = run.test()
    assert 0 <= scores['refer/overall_iou'] <= 100
    # Every query of every sample, under the ids of the ground truth.
    written = json.loads((tmp_path / 'predictions.json').read_text())
    assert len(written) == 5 * 5
    assert {p['image_id'] for p in written} == {
        f'v_{video}_f_{frame}_i_{instance}'
        for video, frame, instance in [
            ('-1EhVyTl9pQ', 1, 0),
            ('-1EhVyTl9pQ', 7, 0),
            ('-1EhVyTl9pQ', 1, 1),
            ('-1EhVyTl9pQ', 7, 1),
            ('zzTestVideo', 4, 0),
        ]
    }


def test_training_keeps_the_best_weights(runner, tmp_path):
    run = runner(
        train_cfg__max_epochs=2,
        default_hooks__checkpoint__save_best='refer/mean_iou',
        default_hooks__checkpoint__rule='greater',
    )
    run.train()
    [log] = tmp_path.rglob('scalars.json')
    lines = map(json.loads, log.read_text().splitlines())
    scores = [x['refer/mean_iou'] for x in lines if 'refer/mean_iou' in x]
    assert len(scores) == 2
    best = 1 + scores.index(max(scores))
    work_dir = tmp_path / 'run'
    [path] = work_dir.glob('best_*.pth')
    assert path.name == f'best_refer_mean_iou_epoch_{best}.pth'
    states = [
        load_checkpoint_safely(file)['state_dict']
        for file in (path, work_dir / f'epoch_{best}.pth')
    ]
    assert all((states[1][k] == v).all() for k, v in states[0].items())


def test_the_truth_scores_full_marks(runner, prepared, tmp_path):
    """And likewise by the ground truth which the converter wrote."""
    predictions = tmp_path / 'predictions.json'
    # the truth is one candidate a sentence
    options = {'outfile': str(predictions), 'queries': 'best'}
    run = runner(**{f'test_evaluator.{k}': v for k, v in options.items()})
    run.model = Oracle()
    inside = run.test()
    out = tmp_path / 'scores.json'
    script('eval_masks').main(
        [
            'a2d',
            f'--gt={prepared / TRUTH}',
            f'--pred={predictions}',
            f'--out={out}',
        ]
    )
    outside = json.loads(out.read_text())
    for name in ('overall_iou', 'mean_iou', 'P@0.9', 'mAP 0.5:0.95'):
        assert inside[f'refer/{name}'] == pytest.approx(100)
        assert outside[name] == pytest.approx(1)
