# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""The data doctor on datasets of users, and what it does with faults.

Faults of the public sets are in ``tests/test_tools/test_check_dataset.py``.
"""

import csv
import json
import runpy
from pathlib import Path

import numpy as np
import pytest
from mmcv.transforms import BaseTransform, KeyMapper, RandomChoice
from mmengine.dataset import BaseDataset
from PIL import Image

from referformer.datasets import BaseReferDataset
from referformer.datasets.doctor import Report, Source, check_datasets
from referformer.datasets.doctor.loading import Loading
from referformer.datasets.transforms import (
    LoadReferAnnotations,
    LoadReferFrame,
    PackReferInputs,
    ReferResize,
    SampleAllFrames,
)
from referformer.errors import ConfigError, DataError
from referformer.registry import DATASETS, TRANSFORMS
from tests.fixtures.ref_youtube_vos import make_ref_youtube_vos

TOOL = Path(__file__).parents[2] / 'tools/misc/check_dataset.py'
#: A user's set: a table of words, JPEGs, and one array of masks a video.
VIDEOS = {'zoo': 'a walking bear', 'pond': 'the duck'}


@DATASETS.register_module()
class TableDataset(BaseReferDataset):
    """Reads ``video,expression`` lines; a layout that nobody else has."""

    def load_expressions(self):
        root = Path(self.data_root)
        with Path(self.ann_file).open(newline='') as file:
            rows = list(csv.reader(file))
        return [
            {
                'video_id': video,
                'exp_id': '0',
                'text': text,
                'obj_id': '1',
                'label': 0,
                'video_length': 3,
                'frame_names': ['0', '1', '2'],
                'img_dir': str(root / 'frames' / video),
                'img_suffix': '.jpg',
                'masks_file': str(root / f'{video}.npy'),
            }
            for video, text in rows
        ]


@TRANSFORMS.register_module()
class LoadArrayMasks(BaseTransform):
    """Reads the mask of a frame; knows nothing of this package's bases."""

    def transform(self, results):
        masks = np.load(results['masks_file'])
        if masks.shape[1:] != results['ori_shape']:
            raise DataError(
                f'{results["masks_file"]}: sizes differ.',
                file=results['masks_file'],
                code='a-code-of-mine',
            )
        results['gt_masks'] = masks[results['frame_id']]
        return results


PIPELINE = [
    dict(type='NormalizeText'),
    dict(type='SampleClipFrames', num_frames=2),
    dict(
        type='TransformBroadcaster',
        share_random_params=True,
        transforms=[
            dict(type='LoadReferFrame'),
            dict(type='ReferResize', short_side=64),
            dict(type='LoadArrayMasks'),
            dict(type='ReferRandomFlip', prob=0.5),
        ],
    ),
    dict(type='PackReferInputs'),
]


@pytest.fixture
def root(tmp_path):
    """The user's set."""
    root = tmp_path / 'set'
    rng = np.random.default_rng(0)
    for video in VIDEOS:
        folder = root / 'frames' / video
        folder.mkdir(parents=True)
        for t in range(3):
            pixels = rng.integers(0, 256, (24, 32, 3), np.uint8)
            Image.fromarray(pixels).save(folder / f'{t}.jpg')
        np.save(root / f'{video}.npy', np.ones((3, 24, 32), bool))
    lines = (f'{video},{text}\n' for video, text in VIDEOS.items())
    (root / 'words.csv').write_text(''.join(lines))
    return root


def make_config(root, **kwargs):
    """Config of the user's dataset."""
    return {
        'type': 'TableDataset',
        'data_root': f'{root}/',
        'ann_file': 'words.csv',
        'pipeline': PIPELINE,
        **kwargs,
    }


def check(root, *configs, jobs=1, quick=False):
    """What is found: code -> its finding."""
    report = Report('set', root)
    sources = [Source('train', config) for config in configs]
    check_datasets(sources, report, jobs, quick)
    return {finding.code: finding for finding in report.findings()}


def test_clean_dataset_of_a_user(root):
    assert check(root, make_config(root)) == {}
    test = make_config(root, test_mode=True, group_by_video=True)
    assert check(root, test) == {}


def test_faults_of_a_dataset_of_a_user(root):
    (root / 'frames/zoo/1.jpg').write_bytes(b'no picture')
    (root / 'frames/pond/2.jpg').unlink()
    np.save(root / 'pond.npy', np.ones((3, 12, 32), bool))
    (root / 'zoo.npy').unlink()
    Image.new('RGB', (32, 24)).save(root / 'frames/pond/extra.jpg')
    found = check(root, make_config(root))
    assert {code: f.path for code, f in found.items()} == {
        'frame-broken': 'frames/zoo/1.jpg',
        'frame-missing': 'frames/pond/2.jpg',
        'frame-unlisted': 'frames/pond/extra.jpg',
        'data-wrong': 'pond.npy',
        'file-missing': 'zoo.npy',
    }
    # a file is blamed once, not for every frame
    assert found['data-wrong'].count == found['file-missing'].count == 1


def test_an_error_of_the_users_code_is_no_crash(root):
    np.save(root / 'zoo.npy', np.ones((2, 24, 32), bool))  # a frame too few
    found = check(root, make_config(root))
    assert set(found) == {'load-failed'}
    (example,) = found['load-failed'].examples
    assert 'IndexError' in example
    assert '(test_doctor.py:' in example
    (root / 'words.csv').write_text('zoo\n')
    found = check(root, make_config(root))
    assert set(found) == {'load-failed'}
    assert 'ValueError' in found['load-failed'].examples[0]


def test_types_survive_worker_processes(root):
    (root / 'frames/zoo/1.jpg').write_bytes(b'no picture')
    (root / 'frames/pond/2.jpg').unlink()
    np.save(root / 'pond.npy', np.ones((3, 12, 32), bool))
    alone = check(root, make_config(root))
    assert check(root, make_config(root), jobs=2) == alone
    assert len(alone) == 3


def test_quick_decodes_one_frame_and_misses_no_file(root):
    (root / 'frames/zoo/1.jpg').write_bytes(b'no picture')
    assert check(root, make_config(root), quick=True) == {}
    (root / 'frames/zoo/1.jpg').unlink()
    assert set(check(root, make_config(root), quick=True)) == {'frame-missing'}


def test_every_file_is_decoded_once(root, monkeypatch):
    read = []
    transform = LoadReferFrame.transform

    def count(self, results):
        read.append(results['img_path'])
        return transform(self, results)

    monkeypatch.setattr(LoadReferFrame, 'transform', count)
    (root / 'words.csv').write_text('zoo,a bear\nzoo,one that walks\n')
    train = make_config(root, start_stride=1)
    test = make_config(root, test_mode=True)
    assert check(root, train, test)['split-overlap'].count == 1
    assert len(read) == len(set(read)) == 3


def test_words(root):
    (root / 'words.csv').write_text(
        f'zoo,{"very " * 101}old bear\npond,the d\u00c3\u00a9cor\n'
    )
    found = check(root, make_config(root, test_mode=True))
    assert set(found) == {'expression-long', 'expression-garbled'}
    assert (
        'video pond, expression 0' in (found['expression-garbled'].examples[0])
    )


def test_one_expression_for_two_objects(tmp_path):
    root = make_ref_youtube_vos(tmp_path / 'set')
    path = root / 'meta_expressions/train/meta_expressions.json'
    content = json.loads(path.read_text())
    for expression in content['videos']['003234408d']['expressions'].values():
        expression['exp'] = 'the Box'
    path.write_text(json.dumps(content))
    found = check(root, ytvos(root))
    assert found['expression-ambiguous'].count == 1
    assert found['expression-ambiguous'].level == 'note'


@pytest.mark.parametrize('quick', [False, True])
def test_two_datasets_that_list_different_frames(tmp_path, quick):
    root = make_ref_youtube_vos(tmp_path / 'set')
    path = root / 'meta_expressions/train/meta_expressions.json'
    content = json.loads(path.read_text())
    for video in content['videos'].values():
        del video['frames'][2:]
    path.with_name('short.json').write_text(json.dumps(content))
    long = ytvos(root)
    short = {**long, 'ann_file': 'meta_expressions/train/short.json'}
    found = check(root, long, short, quick=quick)
    assert 'error' not in {finding.level for finding in found.values()}


def test_a_picture_that_is_to_be_turned(root):
    path = root / 'frames/zoo/1.jpg'
    with Image.open(path) as image:
        exif = image.getexif()
        exif[0x0112] = 6
        image.save(path, exif=exif)
    found = check(root, make_config(root))
    assert set(found) == {'frame-turned'}
    assert found['frame-turned'].path == 'frames/zoo/1.jpg'


def ytvos(root):
    """A dataset of Ref-YouTube-VOS with masks and categories."""
    transforms = [
        dict(type='LoadReferFrame'),
        dict(type='LoadReferAnnotations'),
    ]
    return {
        'type': 'RefYouTubeVOSDataset',
        'data_root': f'{root}/',
        'ann_file': 'meta_expressions/train/meta_expressions.json',
        'meta_file': 'train/meta.json',
        'pipeline': [
            dict(type='SampleAllFrames'),
            dict(type='TransformBroadcaster', transforms=transforms),
        ],
    }


def test_all_faults_of_one_file_at_once(tmp_path):
    root = make_ref_youtube_vos(tmp_path / 'set')
    path = root / 'meta_expressions/train/meta_expressions.json'
    content = json.loads(path.read_text())
    one, two, three = content['videos'].values()
    one['expressions']['0']['exp'] = ''
    one['expressions']['1']['obj_id'] = '300'
    two['frames'].append(two['frames'][0])
    three['frames'] = []
    content['videos']['../up'] = one
    path.write_text(json.dumps(content))
    found = check(root, ytvos(root))
    errors = {c for c, f in found.items() if f.level == 'error'}
    assert errors == {
        'expression-empty',
        'object-id-wrong',
        'frame-listed-twice',
        'frames-none',
        'name-unsafe',
    }
    assert {found[code].path for code in errors} == {
        'meta_expressions/train/meta_expressions.json'
    }


def test_an_unreadable_file_does_not_hide_the_rest(tmp_path):
    root = make_ref_youtube_vos(tmp_path / 'set')
    (root / 'train/meta.json').write_text('{"videos": {')
    (root / 'train/JPEGImages/003234408d/00010.jpg').unlink()
    found = check(root, ytvos(root))
    errors = {c: f.path for c, f in found.items() if f.level == 'error'}
    assert errors == {
        'json-broken': 'train/meta.json',
        'frame-missing': 'train/JPEGImages/003234408d/00010.jpg',
    }


class Prepare(BaseTransform):
    """Something of the user."""

    def transform(self, results):
        return results


def names(steps):
    """Classes of transforms."""
    return [type(step.transform).__name__ for step in steps]


def test_what_is_left_of_a_pipeline():
    loading = Loading(
        [
            Prepare(),
            SampleAllFrames(),
            ReferResize(8),
            Prepare(),
            RandomChoice([[LoadReferFrame()], [Prepare(), ReferResize(8)]]),
            KeyMapper(mapping={'a': 'b'}, transforms=[LoadReferAnnotations()]),
            Prepare(),
            PackReferInputs(),
        ]
    )
    assert loading.by_frame
    assert names(loading._before) == ['Prepare']
    assert names(loading._steps) == [
        'Prepare',
        'LoadReferFrame',
        'Prepare',
        'KeyMapper',
    ]
    assert len(loading.whole) == 6


@DATASETS.register_module()
class PlainDataset(BaseDataset):
    """Not of this package, and without a sampler."""

    def load_data_list(self):
        paths = sorted(Path(self.data_root).glob('frames/*/*.jpg'))
        return [{'img_path': str(path)} for path in paths]


def test_a_pipeline_without_sampler_is_run_as_a_whole(root):
    config = {
        'type': 'PlainDataset',
        'data_root': f'{root}/',
        'pipeline': [
            dict(type='LoadReferFrame'),
            dict(type='ReferResize', short_side=8),
        ],
    }
    assert set(check(root, config)) <= {'truth-absent'}
    path = root / 'frames/zoo/1.jpg'
    path.write_bytes(path.read_bytes()[:300])
    found = check(root, config)
    assert found['frame-broken'].path == 'frames/zoo/1.jpg'


def test_a_type_that_nobody_registered(root):
    with pytest.raises(ConfigError, match='NoDataset'):
        check(root, make_config(root, type='NoDataset'))


def test_the_config_of_a_user(root, tmp_path, capsys):
    config = tmp_path / 'config.py'
    train, test = make_config(root), make_config(root, test_mode=True)
    config.write_text(
        f'train_dataloader = dict(dataset={train!r})\n'
        f'test_dataloader = dict(dataset={test!r})\n'
    )
    main = runpy.run_path(str(TOOL))['main']
    assert main([str(config), '--split', 'test', '--jobs', '1']) == 0
    out = capsys.readouterr().out
    assert out.startswith(f'TableDataset in {root}\n2 videos, 2 expressions')
    # what is trained on is tested
    assert main([str(config), '--jobs', '1']) == 1
    assert 'split-overlap' in capsys.readouterr().out
