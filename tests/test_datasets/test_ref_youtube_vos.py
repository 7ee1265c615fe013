# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
import json
import shutil

import pytest

from referformer.datasets import RefYouTubeVOSDataset
from referformer.datasets.ref_youtube_vos import CATEGORIES
from referformer.errors import DataError
from referformer.registry import DATASETS
from tests.faults import DATA, fault
from tests.fixtures.ref_youtube_vos import (
    VIDEOS,
    list_by_object,
    make_ref_youtube_vos,
)

TRAIN = 'meta_expressions/train/meta_expressions.json'
VALID = 'meta_expressions/valid/meta_expressions.json'
VALID_PREFIX = {'img': 'valid/JPEGImages', 'mask': 'valid/Annotations'}


def edit(path, change):
    content = json.loads(path.read_text())
    change(content['videos'])
    path.write_text(json.dumps(content))


@pytest.fixture
def root(synthetic_root, tmp_path):
    """A copy that a test may damage."""
    copy = tmp_path / 'copy'
    shutil.copytree(synthetic_root, copy)
    return copy


def build(root, ann_file=TRAIN, **kwargs):
    return RefYouTubeVOSDataset(ann_file, data_root=str(root), **kwargs)


def test_reads_the_training_set(synthetic_root):
    dataset = DATASETS.build(
        {
            'type': 'RefYouTubeVOSDataset',
            'data_root': str(synthetic_root),
            'ann_file': TRAIN,
            'meta_file': 'train/meta.json',
            'start_stride': 4,
        }
    )
    videos = json.loads((synthetic_root / TRAIN).read_text())['videos']
    expressions = sum(len(v['expressions']) for v in videos.values())
    # Eight frames: a start at 0 and at 4.
    assert len(dataset) == 2 * expressions
    assert dataset.metainfo['classes'] == ('object',)
    item = dataset[1]
    assert item['start_frame'] == 4
    assert item['text'] == videos[item['video_id']]['expressions']['0']['exp']
    assert item['frame_names'] == videos[item['video_id']]['frames']
    assert isinstance(item['obj_id'], str)
    assert item['label'] == 0


def test_all_65_categories(root):
    def rename(videos):
        for video in videos.values():
            for entry in video['objects'].values():
                entry['category'] = 'zebra'

    assert len(CATEGORIES) == len(set(CATEGORIES)) == 65
    assert list(CATEGORIES) == sorted(CATEGORIES)
    edit(root / 'train/meta.json', rename)
    dataset = build(root, meta_file='train/meta.json', with_category=True)
    assert dataset[0]['label'] == 64
    assert dataset.metainfo['classes'] == CATEGORIES


def test_categories_of_another_set(synthetic_root):
    shapes = ('circle', 'square', 'triangle', 'star', 'cross', 'ring')
    dataset = build(
        synthetic_root,
        meta_file='train/meta.json',
        with_category=True,
        metainfo={'classes': shapes},
    )
    labels = {dataset[i]['label'] for i in range(len(dataset))}
    assert labels <= set(range(6))
    assert len(labels) > 1
    with pytest.raises(ValueError, match='none of the 65 classes'):
        build(synthetic_root, meta_file='train/meta.json', with_category=True)


def test_valid_without_test(synthetic_root, tmp_path):
    videos = json.loads((synthetic_root / VALID).read_text())['videos']
    held_back = dict(list(videos.items())[:1])
    test_file = tmp_path / 'test.json'
    test_file.write_text(json.dumps({'videos': held_back}))
    kwargs = {
        'ann_file': VALID,
        'data_prefix': VALID_PREFIX,
        'exclude_ann_file': str(test_file),
        'test_mode': True,
    }
    dataset = build(synthetic_root, expected_videos=3, **kwargs)
    assert {i['video_id'] for i in dataset} == set(videos) - set(held_back)
    with pytest.raises(ValueError, match='3 videos, expected 202'):
        build(synthetic_root, expected_videos=202, **kwargs)


def test_official_valid_has_no_ground_truth(root):
    def anonymise(videos):
        for video in videos.values():
            for expression in video['expressions'].values():
                del expression['obj_id']

    edit(root / VALID, anonymise)
    shutil.rmtree(root / 'valid/Annotations')
    dataset = build(root, VALID, data_prefix=VALID_PREFIX, test_mode=True)
    assert dataset[0]['obj_id'] is None
    assert dataset[0]['mask_dir'] is None
    with pytest.raises(ValueError, match='has no ground truth'):
        build(root, VALID, data_prefix=VALID_PREFIX)
    # Masks that are there may be left alone, too.
    dataset = build(
        root,
        VALID,
        data_prefix={**VALID_PREFIX, 'mask': None},
        test_mode=True,
    )
    assert dataset[0]['mask_dir'] is None


def official(root, **kwargs):
    return build(
        root,
        VALID,
        exclude_ann_file='meta_expressions/test/meta_expressions.json',
        expected_videos=2,
        data_prefix=VALID_PREFIX,
        **{'test_mode': True, **kwargs},
    )


def test_training_set_as_downloaded(tmp_path):
    dataset = build(
        make_ref_youtube_vos(tmp_path),
        meta_file='train/meta.json',
        with_category=True,
        start_stride=5,
    )
    # Videos of 8, 6 and 7 frames, with 2, 1 and 2 objects said twice.
    assert len(dataset) == 2 * (2 * 2 + 2 * 1 + 2 * 2)
    assert dataset[8]['video_id'] == '0043f083b5'
    assert dataset[8]['frame_names'][:2] == ['00015', '00020']
    classes = {CATEGORIES[dataset[i]['label']] for i in range(len(dataset))}
    assert classes == {'person', 'dog'}


def test_ground_truth_of_valid_inside_beside_or_nowhere(tmp_path):
    kinds = ('inside', 'separate', 'none')
    roots = {k: make_ref_youtube_vos(tmp_path / k, k) for k in kinds}
    inside = official(roots['inside'])
    assert {item['video_id'] for item in inside} == set(VIDEOS['valid'])
    objects = [item['obj_id'] for item in inside]
    assert objects == ['1', '1', '2', '2', '1', '1']
    assert all(item['mask_dir'] for item in inside)

    file = 'meta_expressions/valid/meta_expressions_gt.json'
    named = official(roots['separate'], obj_id_file=file)
    assert [item['obj_id'] for item in named] == objects
    assert all(item['mask_dir'] for item in named)
    for kind in ('separate', 'none'):
        anonymous = official(roots[kind])
        assert {item['obj_id'] for item in anonymous} == {None}
        assert {item['mask_dir'] for item in anonymous} == {None}
    with pytest.raises(FileNotFoundError, match=r'expressions_gt\.json'):
        official(roots['none'], obj_id_file=file)


@fault(
    DATA,
    'the files belong to different editions of the set',
    'they are refused',
)
@pytest.mark.parametrize(
    'damage',
    [
        lambda videos: videos.pop('01c88b5b60'),
        lambda videos: videos['01c88b5b60']['expressions'].pop('1'),
        lambda videos: videos['01c88b5b60'].update(expressions=['a dog']),
        lambda videos: videos['01c88b5b60']['expressions']['1'].update(
            exp='the one on the right'
        ),
    ],
)
def test_expressions_of_another_edition_are_refused(tmp_path, damage):
    root = make_ref_youtube_vos(tmp_path, 'separate')
    file = 'meta_expressions/valid/meta_expressions_gt.json'
    edit(root / file, damage)
    with pytest.raises(ValueError, match=r'_gt\.json: video 01c88b5b60, exp'):
        official(root, obj_id_file=file)


def test_objects_by_the_sentences_of_the_first_release(tmp_path):
    inside = make_ref_youtube_vos(tmp_path / 'inside')
    root = make_ref_youtube_vos(tmp_path / 'set', 'separate')
    file = 'by_object.json'
    list_by_object(inside, 'valid', root / file)
    named = official(root, obj_id_file=file)
    expected = official(inside)
    for one, other in zip(named, expected, strict=True):
        for key in ('exp_id', 'text', 'obj_id', 'frame_names'):
            assert one[key] == other[key]
        assert one['mask_dir']
    # It names objects, and is no expressions file by itself.
    shutil.copy(
        root / file, root / 'meta_expressions/valid/meta_expressions.json'
    )
    with pytest.raises(DataError, match='sentences by object, without'):
        official(root)
    # Its list of videos will do to leave some out.
    shutil.copy(
        root / file, inside / 'meta_expressions/test/meta_expressions.json'
    )
    with pytest.raises(DataError, match='0 videos, expected'):
        official(inside)
    # Another order of the sentences is another edition.
    edit(
        root / file,
        lambda videos: first(first(videos)['objects'])['expressions'].sort(),
    )
    root = make_ref_youtube_vos(tmp_path / 'again', 'separate')
    shutil.copy(tmp_path / 'set' / file, root / file)
    with pytest.raises(DataError, match='belong to different editions'):
        official(root, obj_id_file=file)
    edit(root / file, lambda videos: first(videos).update(objects={'1': {}}))
    with pytest.raises(DataError, match='object 1 has no list "expressions"'):
        official(root, obj_id_file=file)


def test_case_and_spaces_of_expressions_do_not_matter(tmp_path):
    root = make_ref_youtube_vos(tmp_path, 'separate')
    file = 'meta_expressions/valid/meta_expressions_gt.json'

    def tidy(videos):
        for video in videos.values():
            for expression in video['expressions'].values():
                expression['exp'] = ' '.join(expression['exp'].upper().split())

    edit(root / file, tidy)
    assert official(root, obj_id_file=file)[0]['obj_id'] == '1'


def first(videos):
    return next(iter(videos.values()))


@fault(
    DATA,
    'annotation files or folders of frames are missing',
    'the error names them',
)
def test_missing_files_are_named(root):
    with pytest.raises(FileNotFoundError, match=r'nowhere\.json.*docs'):
        build(root, 'nowhere.json')
    (root / 'train/meta.json').unlink()
    with pytest.raises(FileNotFoundError, match=r'meta\.json.*meta_file=None'):
        build(root, meta_file='train/meta.json')
    shutil.rmtree(root / 'train/Annotations/train-00002')
    with pytest.raises(FileNotFoundError, match=r"1 of 12.*'train-00002'"):
        build(root)
    shutil.rmtree(root / 'train/JPEGImages')
    with pytest.raises(FileNotFoundError, match=r'JPEGImages.*does not exist'):
        build(root)


@fault(
    DATA,
    'an annotation file is no JSON',
    'the error names file and fault',
)
@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ('{"videos": {', 'not valid JSON'),
        ('[]', 'no table "videos"'),
        ('{"videos": {"train-00000": {"frames": []}}}', 'needs a list'),
        ('{"videos": {"train-00000": null}}', 'train-00000 is no table'),
        (
            '{"videos": {"train-00000": {"frames": {}, "expressions": {}}}}',
            'needs a list',
        ),
        ('[' * 200_000, 'not valid JSON'),
    ],
)
def test_malformed_json_is_named(root, content, message):
    (root / TRAIN).write_text(content)
    with pytest.raises(ValueError, match=message) as error:
        build(root)
    assert str(root / TRAIN) in str(error.value)


def test_bad_entries_are_named(root):
    genuine = (root / TRAIN).read_text()

    edit(root / TRAIN, lambda v: first(v)['expressions']['0'].update(exp=' '))
    with pytest.raises(ValueError, match='train-00000, expression 0 is empty'):
        build(root)

    (root / TRAIN).write_text(genuine)
    edit(
        root / TRAIN,
        lambda v: first(v)['expressions']['0'].update(obj_id='9'),
    )
    with pytest.raises(ValueError, match=r'meta\.json: .*names object 9'):
        build(root, meta_file='train/meta.json')

    (root / TRAIN).write_text(genuine)
    edit(root / 'train/meta.json', lambda v: v.pop('train-00000'))
    with pytest.raises(ValueError, match='different splits'):
        build(root, meta_file='train/meta.json')


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda v: v['frames'].append('../x'), r"'\.\./x', which is no"),
        (lambda v: v['frames'].append(7), 'expression 7, which is no name'),
        (lambda v: v['frames'].append(v['frames'][0]), 'a frame twice'),
        (
            lambda v: v['expressions'].update({'../0': {'exp': 'a'}}),
            r"'\.\./0', which is",
        ),
        (
            lambda v: v['expressions'].update({'0': 'a dog'}),
            'expression 0 is no table',
        ),
    ],
)
def test_names_that_lead_elsewhere_and_other_types(root, change, message):
    edit(root / TRAIN, lambda v: change(first(v)))
    with pytest.raises(ValueError, match=message) as error:
        build(root)
    assert f'{root / TRAIN}: video train-00000' in str(error.value)


def test_meta_file_of_another_form_is_named(root):
    meta = root / 'train/meta.json'
    edit(meta, lambda v: first(v).update(objects=['dog']))
    with pytest.raises(ValueError, match=r'meta\.json.*no table "objects"'):
        build(root, meta_file='train/meta.json')


def test_bad_arguments():
    with pytest.raises(ValueError, match='needs meta_file'):
        RefYouTubeVOSDataset('x.json', with_category=True)
    with pytest.raises(ValueError, match='needs "img"'):
        RefYouTubeVOSDataset('x.json', data_prefix={'mask': 'masks'})
