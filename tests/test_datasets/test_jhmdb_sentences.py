# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""JHMDB-Sentences: chosen frames with the masks of MATLAB files."""

import json
import shutil
from hashlib import sha256

import numpy as np
import pytest
import scipy.io
from mmengine.logging import MMLogger

from referformer.datasets import JHMDBSentencesDataset
from referformer.datasets.doctor.problems import PROBLEMS
from referformer.datasets.doctor.split import Split
from referformer.datasets.doctor.split_rules import frames_of_jhmdb
from referformer.formats.jhmdb import FrameChoice
from tests.fixtures import jhmdb

from ..fixtures.tools import script
from .helpers import Oracle, make_runner

METADATA = 'jhmdb_sentences_samples_metadata.json'
TRUTH = 'jhmdb_sentences_gt_annotations_in_coco_format.json'
LOAD = [
    dict(type='SampleWindow', num_frames=5),
    dict(
        type='TransformBroadcaster',
        transforms=[
            dict(type='LoadReferFrame'),
            dict(type='LoadJHMDBAnnotations'),
        ],
    ),
    dict(type='PackReferInputs', test_mode=True),
]


@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
    return jhmdb.prepare_jhmdb(tmp_path_factory.mktemp('jhmdb') / 'set')


@pytest.fixture
def root(prepared, tmp_path):
    """A copy to damage."""
    return shutil.copytree(prepared, tmp_path / 'set')


def dataset(root, pipeline=LOAD, **options):
    return JHMDBSentencesDataset(
        ann_file=METADATA,
        data_root=str(root),
        pipeline=pipeline,
        test_mode=True,
        **options,
    )


def rewrite(root, change):
    path = root / METADATA
    rows = json.loads(path.read_text())
    path.write_text(json.dumps([change(row) or row for row in rows]))


@pytest.mark.parametrize('published', [True, False])
def test_it_says_whose_frames_are_scored(
    prepared, published, monkeypatch, caplog
):
    data = dataset(prepared)
    ids = sorted(data.get_data_info(i)['image_id'] for i in range(len(data)))
    digest = sha256('\n'.join(ids).encode()).hexdigest()
    choice = FrameChoice(published, 'the frames are mine.')
    logger = MMLogger.get_current_instance()
    monkeypatch.setattr(logger, 'handlers', [caplog.handler])
    caplog.set_level('INFO')
    logger.setLevel('INFO')
    dataset(prepared)
    assert not caplog.records  # a part of the set
    monkeypatch.setattr('referformer.formats.jhmdb.NUM_FRAMES', len(ids))
    monkeypatch.setattr('referformer.formats.jhmdb._CHOICES', {digest: choice})
    dataset(prepared)
    (record,) = caplog.records
    assert METADATA in record.getMessage()
    assert record.getMessage().endswith('the frames are mine.')
    assert record.levelname == ('INFO' if published else 'WARNING')
    # So does the data check.
    code = 'frames-published' if published else 'frames-unpublished'
    clips = [data.get_data_info(i) for i in range(len(data))]
    split = Split('test', data, clips, None, frozenset())
    (said,) = frames_of_jhmdb(split)
    assert (said.code, said.detail) == (code, choice.text)
    assert PROBLEMS[code][0] == ('note' if published else 'warning')
    assert said.path.endswith(METADATA)


def test_masks_lie_on_what_they_mean(prepared):
    data = dataset(prepared)
    assert len(data) == 6
    for i in range(len(data)):
        clip = data[i]
        sample = clip['data_samples']
        frame = sample.video_data_samples[sample.annotated_position]
        assert frame.frame_name == f'{frame.frame_id + 1:05d}'
        assert sample.image_id.endswith(f'_f_{frame.frame_id + 1}')
        image = clip['inputs'][sample.annotated_position].numpy()
        mask = frame.gt_instances.masks.to_ndarray()[0].astype(bool)
        np.testing.assert_array_equal(
            np.unique(image[:, mask], axis=1)[:, 0], jhmdb.actor_colour()
        )


def test_the_window_ends_with_the_masks(prepared):
    """The video has 9 pictures, the last two without a mask."""
    sample = dataset(prepared)[5]['data_samples']
    names = [frame.frame_name for frame in sample.video_data_samples]
    assert names == ['00004', '00005', '00006', '00007', '00007']
    assert sample.annotated_position == 2


@pytest.mark.parametrize(
    'prefix', ['', 'data/jhmdb_sentences/', '/home/me/set/', 'C:\\data\\']
)
def test_paths_as_they_are_found(root, prefix):
    def change(row):
        for k in (1, 2):
            path = row[k].removeprefix('./jhmdb_sentences/')
            if '\\' in prefix:
                path = path.replace('/', '\\')
            row[k] = prefix + path

    before = dataset(root)
    rewrite(root, change)
    after = dataset(root)
    for i in range(6):
        assert after.get_data_info(i) == before.get_data_info(i)


@pytest.mark.parametrize(
    ('column', 'value'),
    [
        (0, '../video'),
        (1, 'Rename_Images/catch/../../../../etc/00001.png'),
        (1, 'images/catch/video/00001.png'),
        (1, 'Rename_Images/catch/video/first.png'),
        (2, 'puppet_mask/../puppet_mask.mat'),
        (3, 1),
        (3, '10'),
        (4, ' '),
    ],
)
def test_rows_that_are_wrong(root, column, value):
    rewrite(root, lambda row: row.__setitem__(column, value))
    with pytest.raises(ValueError, match='row 0 is'):
        dataset(root)


def test_files_that_do_not_fit(root):
    video = 'catch_ball_f_nm_np1_le_bad_2'
    path = root / 'puppet_mask/catch' / video / 'puppet_mask.mat'
    data = dataset(root)
    masks = scipy.io.loadmat(path)['part_mask']
    scipy.io.savemat(path, {'part_mask': masks[..., :4]})
    assert data[4]  # frame 4
    with pytest.raises(ValueError, match='masks of 4 frames, but frame 6'):
        data[5]
    scipy.io.savemat(path, {'part_mask': masks[:-1]})
    with pytest.raises(ValueError, match='80x47'):
        data[5]
    shutil.rmtree(root / 'Rename_Images/catch')
    with pytest.raises(FileNotFoundError, match='1 of 2 videos'):
        dataset(root)
    with pytest.raises(ValueError, match='group_by_video'):
        dataset(root, group_by_video=True)


@pytest.fixture
def runner(prepared, tmp_path):
    def build(**options):
        options['model.head.selector.topk'] = 5
        options['model.queries.num_queries'] = 5
        return make_runner('jhmdb', prepared, tmp_path / 'run', options)

    return build


def test_a_scored_test(runner, prepared, tmp_path):
    outfile = str(tmp_path / 'predictions.json')
    scores = runner(**{'test_evaluator.outfile': outfile}).test()
    assert 0 <= scores['refer/mean_iou'] <= 100
    truth = json.loads((prepared / TRUTH).read_text())
    written = json.loads((tmp_path / 'predictions.json').read_text())
    assert len(written) == 6 * 5
    assert {p['image_id'] for p in written} == {
        image['id'] for image in truth['images']
    }


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
            'jhmdb',
            f'--gt={prepared / TRUTH}',
            f'--pred={predictions}',
            f'--out={out}',
        ]
    )
    outside = json.loads(out.read_text())
    for name in ('overall_iou', 'mean_iou', 'P@0.9', 'mAP 0.5:0.95'):
        assert inside[f'refer/{name}'] == pytest.approx(100)
        assert outside[name] == pytest.approx(1)
