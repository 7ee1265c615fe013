# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Sets that went through other systems: residue, suffixes, encodings, order.

A set that is whole loads as if it had never been elsewhere.
"""

import json
import runpy
import shutil

import pytest
import torch
from mmengine.config import Config

from referformer.datasets.doctor.check import check_datasets
from referformer.datasets.doctor.kinds import KINDS, list_sources
from referformer.datasets.doctor.report import Report
from referformer.registry import DATASETS
from tests.faults import DATA, fault
from tests.fixtures import (
    a2d,
    jhmdb,
    mevis,
    ref_davis,
    ref_youtube_vos,
    refcoco,
)

from .helpers import CONFIGS, shrink

APPLE_DOUBLE = bytes([0, 5, 22, 7, 0, 2, 0, 0]) + b'Mac OS X        '
PREPARE = {
    'ref-youtube-vos': ref_youtube_vos.prepare_ref_youtube_vos,
    'mevis': mevis.prepare_mevis,
    'a2d': a2d.prepare_a2d,
    'jhmdb': jhmdb.prepare_jhmdb,
}


def leave_residue(root):
    """What macOS and Windows leave in every folder."""
    for path in [path for path in root.rglob('*') if path.name[0] != '.']:
        path.with_name(f'._{path.name}').write_bytes(APPLE_DOUBLE)
        (path.parent / '.DS_Store').write_bytes(b'\0\0\0\1Bud1')
        (path.parent / 'Thumbs.db').write_bytes(b'\xd0\xcf\x11\xe0')
    (root / '__MACOSX').mkdir()


def load(name, root):
    """All samples of the test set of a config fragment."""
    loader = Config.fromfile(CONFIGS / f'{name}.py').test_dataloader.to_dict()
    shrink(loader)
    dataset = loader['dataset']
    dataset['data_root'] = f'{root}/'
    if 'expected_videos' in dataset:
        dataset['expected_videos'] = 2
    dataset = DATASETS.build(dataset)
    return [dataset[i] for i in range(len(dataset))]


def masks_of(sample):
    """Encoded masks of every frame; none where it has no truth."""
    found = []
    for frame in sample['data_samples'].video_data_samples:
        if 'gt_instances' in frame:
            found.append(frame.gt_instances.masks.rles)
        else:
            found.append(frame.get('gt_rles'))
    return found


def assert_same(samples, others):
    assert len(samples) == len(others) > 0
    for sample, other in zip(samples, others, strict=True):
        assert torch.equal(sample['inputs'], other['inputs'])
        assert masks_of(sample) == masks_of(other)
    assert any(map(any, map(masks_of, samples)))


@fault(
    DATA,
    'macOS or Windows left files in the folders of a set',
    'they are not taken for frames or masks',
)
@pytest.mark.parametrize('name', PREPARE)
def test_residue_is_not_part_of_a_set(name, tmp_path):
    root = PREPARE[name](tmp_path)
    before = load(name, root)
    leave_residue(root)
    assert_same(load(name, root), before)


@pytest.mark.parametrize('suffixes', [('.JPG', '.PNG'), ('.jpeg', '.Png')])
def test_suffixes_of_other_systems(suffixes, tmp_path):
    root = PREPARE['ref-youtube-vos'](tmp_path)
    before = load('ref-youtube-vos', root)
    for old, new in zip(('.jpg', '.png'), suffixes, strict=True):
        for path in list(root.rglob(f'*{old}')):
            path.rename(path.with_suffix(new))
    after = load('ref-youtube-vos', root)
    assert_same(after, before)
    frame = after[0]['data_samples'].video_data_samples[0]
    assert frame.img_path.endswith(suffixes[0])


@fault(
    DATA,
    'an annotation file is UTF-16 or has a byte-order mark',
    'it is read',
)
@pytest.mark.parametrize('encoding', ['utf-8-sig', 'utf-16'])
@pytest.mark.parametrize('name', PREPARE)
def test_encodings_of_other_systems(name, encoding, tmp_path):
    root = PREPARE[name](tmp_path)
    before = load(name, root)
    for path in root.rglob('*.json'):
        if path.name != 'mask_dict.json':
            path.write_bytes(path.read_text('utf-8').encode(encoding))
    assert_same(load(name, root), before)


def rename_frames(root, table, rename):
    """Rename frames, their masks, and their names in a table."""
    content = json.loads(table.read_text())
    for video, entry in content['videos'].items():
        for kind in ('JPEGImages', 'Annotations'):
            for path in list((root / kind / video).glob('*.*')):
                path.rename(path.with_stem(rename(path.stem)))
        entry['frames'] = [rename(name) for name in entry['frames']]
    table.write_text(json.dumps(content))


@pytest.mark.parametrize('form', ['{}', 'frame_{}', '{}x'])
@pytest.mark.parametrize('listed', ['as text', 'in order'])
def test_names_without_zeros_in_front(form, listed, tmp_path):
    root = PREPARE['ref-youtube-vos'](tmp_path)
    before = load('ref-youtube-vos', root)
    table = root / 'meta_expressions/valid/meta_expressions.json'
    rename_frames(root / 'valid', table, lambda n: form.format(int(n)))
    content = json.loads(table.read_text())
    if listed == 'as text':
        for entry in content['videos'].values():
            entry['frames'].sort()
    table.write_text(json.dumps(content))
    assert_same(load('ref-youtube-vos', root), before)


def test_masks_by_position_need_the_order_of_time(tmp_path):
    root = PREPARE['mevis'](tmp_path)
    before = load('mevis', root)
    # enough frames for two digits
    table = root / 'valid_u/meta_expressions.json'
    rename_frames(root / 'valid_u', table, lambda n: str(int(n) + 7))
    assert_same(load('mevis', root), before)
    content = json.loads(table.read_text())
    for entry in content['videos'].values():
        assert entry['frames'] != sorted(entry['frames'])
        entry['frames'].sort()
    table.write_text(json.dumps(content))
    with pytest.raises(ValueError, match='lists its frames out of order'):
        load('mevis', root)


def test_videos_in_folders_of_videos(tmp_path):
    root = PREPARE['ref-youtube-vos'](tmp_path)
    before = load('ref-youtube-vos', root)
    table = root / 'meta_expressions/valid/meta_expressions.json'
    content = json.loads(table.read_text())
    for video in list(content['videos']):
        name = f'set.1/{video[0]}/{video}'
        content['videos'][name] = content['videos'].pop(video)
        for kind in ('JPEGImages', 'Annotations'):
            place = root / 'valid' / kind
            if (place / video).is_dir():
                (place / name).parent.mkdir(parents=True, exist_ok=True)
                (place / video).rename(place / name)
    table.write_text(json.dumps(content))
    other = root / 'meta_expressions/test/meta_expressions.json'
    content = json.loads(other.read_text())
    videos = {f'set.1/{v[0]}/{v}': e for v, e in content['videos'].items()}
    other.write_text(json.dumps({'videos': videos}))
    after = load('ref-youtube-vos', root)
    assert_same(after, before)
    names = [sample['data_samples'].video_id for sample in after]
    assert all(name.startswith('set.1/0/0') for name in names)
    report = Report('a set', root)
    check_datasets(
        list_sources(
            KINDS['ref-youtube-vos'],
            Config.fromfile(CONFIGS / 'ref-youtube-vos.py'),
            root,
            ['valid'],
            report,
        ),
        report,
    )
    assert all(f.level == 'note' for f in report.findings())


def test_images_in_folders_of_images(tmp_path):
    root = refcoco.prepare_refcoco(tmp_path)
    before = load('refcoco', root)
    folder = root / 'train2014/part'
    folder.mkdir()
    for path in root.glob('refcoco*/instances_*.json'):
        content = json.loads(path.read_text())
        for image in content['images']:
            name = image['file_name']
            if (root / 'train2014' / name).is_file():
                (root / 'train2014' / name).rename(folder / name)
            image['file_name'] = f'part/{name}'
        path.write_text(json.dumps(content))
    after = load('refcoco', root)
    assert_same(after, before)
    assert after[0]['data_samples'].video_id.startswith('part/')


def tables(folder):
    return {
        path.relative_to(folder): path.read_bytes()
        for path in folder.rglob('*.json')
        if path.name[0] != '.' and path.name != 'ref-davis17.json'
    }


@pytest.mark.parametrize('option', [(), ('--copy',)])
def test_residue_does_not_get_into_ref_davis(option, tmp_path):
    converted = []
    for name in ('clean', 'residue'):
        raw = ref_davis.make_ref_davis(tmp_path / name)
        if name == 'residue':
            leave_residue(raw)
        out = tmp_path / f'{name}-out'
        runpy.run_path(str(ref_davis.CONVERTER))['main'](
            [
                *map(str, (raw / 'DAVIS', raw / 'davis_text_annotations')),
                *(str(out), '--train-videos=3', '--valid-videos=2', *option),
            ]
        )
        converted.append(tables(out))
        if option:
            assert not list(out.rglob('.*'))
            assert not list(out.rglob('Thumbs.db'))
    assert converted[0] == converted[1]


@pytest.mark.parametrize('module', [a2d, jhmdb])
def test_residue_does_not_get_into_annotation_files(module, tmp_path):
    name = module.__name__.rsplit('.', 1)[-1]
    make = getattr(module, f'make_{name}')
    options = {
        'a2d': (f'--videos={len(a2d.VIDEOS)}', a2d.NUM_SENTENCES),
        'jhmdb': ('--overwrite', jhmdb.SENTENCES),
    }[name]
    converted = []
    for kind in ('clean', 'residue'):
        raw = make(tmp_path / kind)
        if kind == 'residue':
            leave_residue(raw)
        runpy.run_path(str(module.CONVERTER))['main'](
            [str(raw), options[0], f'--sentences={options[1]}']
        )
        converted.append(tables(raw))
    assert converted[0] == converted[1] != {}


@fault(
    DATA,
    'a frame is damaged',
    'it is named; it is not passed over as residue',
)
def test_a_damaged_frame_is_not_mistaken_for_residue(tmp_path):
    root = PREPARE['ref-youtube-vos'](tmp_path)
    path = next((root / 'valid/JPEGImages').rglob('*.jpg'))
    # the companion in place of the picture
    path.write_bytes(APPLE_DOUBLE)
    with pytest.raises(OSError, match=f'{path.name} cannot be decoded'):
        load('ref-youtube-vos', root)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=f'{path.name} is missing'):
        load('ref-youtube-vos', root)
    shutil.copy(next(path.parent.glob('*.jpg')), path.with_suffix('.JPG'))
    assert load('ref-youtube-vos', root)[0]['inputs'].float().isfinite().all()
