# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""RefCOCO, RefCOCO+ and RefCOCOg as COCO-style JSON files."""

import json
import os
import pickle
import runpy
import shutil
from pathlib import Path

import pytest
from pycocotools.coco import COCO

from referformer.errors import ReferError
from tests.faults import SAFETY, fault
from tests.fixtures.refcoco import CONVERTER, SENTENCES, SPLITS, make_refcoco


@pytest.fixture(scope='module')
def original(tmp_path_factory):
    return make_refcoco(tmp_path_factory.mktemp('coco'))


@pytest.fixture
def raw(original, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(original, tmp_path / 'raw')


def convert(*arguments):
    runpy.run_path(str(CONVERTER))['main'](list(map(str, arguments)))


def files(root):
    """Relative name -> content of every file."""
    return {
        path.relative_to(root): path.read_bytes()
        for path in root.rglob('*')
        if path.is_file()
    }


def test_one_image_entry_per_sentence(raw, tmp_path, capsys):
    before = files(raw)
    convert(raw, '--out', tmp_path / 'out')
    assert files(raw) == before
    for (folder, split_by), splits in SPLITS.items():
        name = folder + ('-google' if split_by == 'google' else '')
        for split, objects in splits.items():
            path = tmp_path / 'out' / folder / f'instances_{name}_{split}.json'
            coco = COCO(str(path))
            said = [
                (image['original_id'], image['caption'])
                for image in coco.dataset['images']
            ]
            assert said == [
                (image_id, sentence.lower())
                for image_id, k in objects
                for sentence in SENTENCES[image_id, k]
            ]
            assert coco.getImgIds() == list(range(1, len(said) + 1))
            original = json.loads(
                (raw / folder / 'instances.json').read_text()
            )
            known = {a['id']: a for a in original['annotations']}
            for number in coco.getImgIds():
                (found,) = coco.imgToAnns[number]
                expected = known[found['original_id']]
                assert found['segmentation'] == expected['segmentation']
                assert found['bbox'] == expected['bbox']
                (image,) = coco.loadImgs(number)
                assert image['original_id'] == expected['image_id']
                assert image['dataset_name'] == folder
    # UMD's and Google's split of RefCOCOg lie side by side.
    assert len(list((tmp_path / 'out/refcocog').iterdir())) == 3 + 2
    printed = capsys.readouterr()
    assert 'instances_refcoco_val.json: 4 sentences, published: 10834' in (
        printed.out
    )
    assert '13 files differ in size from the published sets' in printed.err


def test_one_set_only(raw):
    convert(raw, '--sets', 'refcoco+')
    written = sorted(path.name for path in raw.glob('*/instances_*.json'))
    assert written == [
        f'instances_refcoco+_{split}.json'
        for split in ('testA', 'testB', 'train', 'val')
    ]


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@fault(
    SAFETY,
    '`refs(unc).p` of RefCOCO runs code when it is unpickled',
    'the code does not run, nothing is written, and the file is named',
)
def test_code_in_a_pickle_is_not_run(raw, tmp_path):
    refs = raw / 'refcoco/refs(unc).p'
    refs.write_bytes(pickle.dumps([Bomb(tmp_path / 'boom')], protocol=2))
    with pytest.raises(ReferError, match=r'refs\(unc\).p .*could run code'):
        convert(raw)
    assert not (tmp_path / 'boom').exists()
    # nor was anything written
    assert not list(raw.glob('*/instances_*.json'))


def edit_refs(raw, change):
    path = raw / 'refcoco/refs(unc).p'
    refs = pickle.loads(path.read_bytes(), encoding='latin1')
    change(refs)
    path.write_bytes(pickle.dumps(refs, protocol=2))


@pytest.mark.parametrize(
    ('change', 'reason'),
    [
        (lambda refs: refs[1].update(ann_id=7), 'object 1 .*KeyError: 7'),
        (lambda refs: refs[2].update(split='test'), "object 2 .*'test'"),
        (lambda refs: refs[0].pop('sentences'), "object 0 .*'sentences'"),
        (
            lambda refs: refs[0].update(ann_id=720),
            '720 is of image',
        ),
        (lambda refs: refs.clear(), 'holds no list of referred objects'),
        (lambda refs: refs.append('x'), 'object x cannot be converted'),
        (
            lambda refs: refs[0]['sentences'][0].update(sent=None),
            'object 0 .*None is no sentence',
        ),
    ],
)
def test_contradictions_are_named(raw, change, reason):
    edit_refs(raw, change)
    with pytest.raises(ReferError, match=reason):
        convert(raw)


@pytest.mark.parametrize(
    ('damage', 'reason'),
    [
        (lambda raw: shutil.rmtree(raw), 'has neither refcoco'),
        (
            lambda raw: (raw / 'refcoco/instances.json').unlink(),
            r'instances\.json does not exist; docs',
        ),
        (
            lambda raw: (raw / 'refcoco/instances.json').write_text('{}'),
            r'instances\.json has no tables "images"',
        ),
        (
            lambda raw: (raw / 'refcoco/instances.json').write_text(
                '{"images": [], "annotations": [{"id": null}]}'
            ),
            r'instances\.json: an entry of "annotations" has no whole',
        ),
        (
            lambda raw: (raw / 'refcoco/refs(unc).p').write_bytes(b'<html>'),
            r'refs\(unc\)\.p is not a pickle of plain data',
        ),
    ],
)
def test_missing_and_damaged_files(raw, damage, reason):
    damage(Path(raw))
    with pytest.raises(ReferError, match=reason):
        convert(raw)
