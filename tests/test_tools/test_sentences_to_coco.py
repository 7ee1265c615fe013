# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""From the releases of A2D- and JHMDB-Sentences to annotation files."""

import json
import runpy

import numpy as np
import pytest
import scipy.io
from pycocotools import mask as mask_utils
from pycocotools.coco import COCO

from referformer.errors import ReferError
from tests.fixtures import a2d, jhmdb
from tests.fixtures.drawing import draw

A2D = {
    name: f'a2d_sentences_{name}.json'
    for name in (
        'single_frame_train_annotations',
        'single_frame_test_annotations',
        'test_annotations_in_coco_format',
    )
}
METADATA = 'jhmdb_sentences_samples_metadata.json'
TRUTH = 'jhmdb_sentences_gt_annotations_in_coco_format.json'


def snapshot(root):
    """Everything below a folder, with its content and its time."""
    return {
        path.relative_to(root): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in root.rglob('*')
        if path.is_file()
    }


def convert_a2d(root, *options):
    runpy.run_path(str(a2d.CONVERTER))['main'](
        [
            str(root),
            f'--videos={len(a2d.VIDEOS)}',
            f'--sentences={a2d.NUM_SENTENCES}',
            *map(str, options),
        ]
    )


def convert_jhmdb(root, *options):
    runpy.run_path(str(jhmdb.CONVERTER))['main'](
        [str(root), f'--sentences={jhmdb.SENTENCES}', *map(str, options)]
    )


def read(path):
    return json.loads(path.read_text())


def failure(function, *arguments):
    """Return what a converter that fails says; it must be one line."""
    with pytest.raises(ReferError) as error:
        function(*arguments)
    assert '\n' not in str(error.value)
    return str(error.value)


@pytest.fixture
def raw_a2d(tmp_path):
    return a2d.make_a2d(tmp_path / 'a2d')


@pytest.fixture
def raw_jhmdb(tmp_path):
    return jhmdb.make_jhmdb(tmp_path / 'jhmdb')


def test_a2d_lists_the_frames_that_show_the_instance(raw_a2d):
    before = snapshot(raw_a2d)
    convert_a2d(raw_a2d)
    after = snapshot(raw_a2d)
    assert {k: after[k] for k in before} == before
    assert {str(path) for path in set(after) - set(before)} == set(
        A2D.values()
    )
    expected = {'train': [], 'test': []}
    for name, video in a2d.VIDEOS.items():
        for instance, text in video.sentences:
            if instance == '1 (copy)':
                continue
            mover = video.movers[int(instance)]
            expected['test' if video.test else 'train'] += [
                [text.lower(), name, number, int(instance)]
                for number in video.annotated
                if number - 1 not in mover.hidden
            ]
    for split, rows in expected.items():
        name = A2D[f'single_frame_{split}_annotations']
        assert read(raw_a2d / name) == rows
    assert len(expected['train']) == 7


def test_a2d_ground_truth(raw_a2d):
    convert_a2d(raw_a2d)
    path = raw_a2d / A2D['test_annotations_in_coco_format']
    coco = COCO(str(path))
    rows = read(raw_a2d / A2D['single_frame_test_annotations'])
    names = [f'v_{v}_f_{frame}_i_{i}' for _, v, frame, i in rows]
    assert list(coco.imgs) == names
    for annotation, (_, name, number, instance) in zip(
        coco.anns.values(), rows, strict=True
    ):
        video = a2d.VIDEOS[name]
        ids = draw(video.movers, video.length)[1][number - 1]
        mask = mask_utils.decode(annotation['segmentation'])
        np.testing.assert_array_equal(mask, ids == instance + 1)
        assert annotation['area'] == mask.sum()
        x, y, width, height = annotation['bbox']
        assert mask[int(y), int(x)]
        assert mask[int(y + height), int(x + width)]
    assert list(coco.anns) == list(range(1, len(rows) + 1))


def test_existing_files_are_kept(raw_a2d, raw_jhmdb, tmp_path, capsys):
    """They may be the published ones."""
    for root, convert, names in (
        (raw_a2d, convert_a2d, A2D.values()),
        (raw_jhmdb, convert_jhmdb, (METADATA, TRUTH)),
    ):
        out = tmp_path / 'out' / root.name
        convert(root, '--out', out)
        assert {path.name for path in out.iterdir()} == set(names)
        before = snapshot(out)
        capsys.readouterr()
        convert(root, '--out', out)
        assert snapshot(out) == before
        assert capsys.readouterr().out.count('is kept') == len(names)
        first, *_ = names
        (out / first).write_text('[]')
        convert(root, '--out', out, '--overwrite')
        contents = {path: content for path, (content, _) in before.items()}
        assert {p: c for p, (c, _) in snapshot(out).items()} == contents


def test_a2d_in_latin_1(raw_a2d):
    path = raw_a2d / 'text_annotations/a2d_annotation.txt'
    path.write_bytes(path.read_text('utf-8').encode('latin-1'))
    convert_a2d(raw_a2d)
    rows = read(raw_a2d / A2D['single_frame_test_annotations'])
    assert rows[0][0] == 'un d\u00e9cor rouge moving'


def test_a2d_incomplete(raw_a2d):
    texts = raw_a2d / 'text_annotations'
    said = failure(convert_a2d, raw_a2d, '--videos=3782')
    assert 'lists 5 videos, expected 3782' in said
    said = failure(convert_a2d, raw_a2d, '--sentences=6655')
    assert f'{a2d.NUM_SENTENCES} sentences, expected 6655' in said

    masks = texts / 'a2d_annotation_with_instances'
    frame = masks / '_0djE279Srg/00006.h5'
    content = frame.read_bytes()
    frame.write_bytes(content[: len(content) // 2])
    assert '00006.h5 cannot be read' in failure(convert_a2d, raw_a2d)
    frame.write_bytes(content)
    (masks / 'zzTestVideo').rename(masks / 'other')
    said = failure(convert_a2d, raw_a2d)
    assert 'zzTestVideo has no annotated frame' in said
    assert not (raw_a2d / A2D['test_annotations_in_coco_format']).exists()

    path = texts / 'a2d_annotation.txt'
    original = path.read_text('utf-8')
    path.write_text(original.replace('zzTestVideo,0', '../zz,0'), 'utf-8')
    said = failure(convert_a2d, raw_a2d)
    assert f"a2d_annotation.txt:{a2d.NUM_SENTENCES + 1}: '../zz,0" in said
    path.unlink()
    assert 'a2d_annotation.txt does not exist' in failure(convert_a2d, raw_a2d)


def test_jhmdb_frames_are_the_same_every_time(raw_jhmdb, tmp_path):
    before = snapshot(raw_jhmdb)
    convert_jhmdb(raw_jhmdb)
    after = snapshot(raw_jhmdb)
    assert {k: after[k] for k in before} == before
    convert_jhmdb(raw_jhmdb, '--out', tmp_path / 'again')
    rows = read(raw_jhmdb / METADATA)
    assert rows == read(tmp_path / 'again' / METADATA)
    frames = {}
    for video_id, frame, masks, length, text in rows:
        video = jhmdb.VIDEOS[video_id]
        assert length == min(video.length, video.masks)
        assert text == video.sentence
        folder = f'{video.action}/{video_id}'
        assert masks == (
            f'./jhmdb_sentences/puppet_mask/{folder}/puppet_mask.mat'
        )
        prefix = f'./jhmdb_sentences/Rename_Images/{folder}/'
        number = frame.removeprefix(prefix).removesuffix('.png')
        frames.setdefault(video_id, []).append(int(number))
    assert list(frames.values()) == [[2, 6, 9], [2, 4, 6]]


def test_jhmdb_ground_truth(raw_jhmdb):
    convert_jhmdb(raw_jhmdb)
    coco = COCO(str(raw_jhmdb / TRUTH))
    rows = read(raw_jhmdb / METADATA)
    for annotation, (video_id, frame, *_) in zip(
        coco.anns.values(), rows, strict=True
    ):
        video = jhmdb.VIDEOS[video_id]
        number = int(frame[-9:-4])
        assert annotation['image_id'] == f'v_{video_id}_f_{number}'
        ids = draw([video.mover], video.length)[1][number - 1]
        mask = mask_utils.decode(annotation['segmentation'])
        np.testing.assert_array_equal(mask, ids)


def test_jhmdb_takes_the_published_frames(raw_jhmdb):
    convert_jhmdb(raw_jhmdb)
    rows = read(raw_jhmdb / METADATA)
    for row in rows:
        row[1] = row[1].replace('00002', '00001')
    (raw_jhmdb / METADATA).write_text(json.dumps(rows))
    (raw_jhmdb / TRUTH).unlink()
    convert_jhmdb(raw_jhmdb)
    assert read(raw_jhmdb / METADATA) == rows
    names = [image['id'] for image in read(raw_jhmdb / TRUTH)['images']]
    assert sum(name.endswith('_f_1') for name in names) == 2
    (raw_jhmdb / METADATA).unlink()
    said = failure(convert_jhmdb, raw_jhmdb)
    assert 'exists without the samples metadata' in said


def test_jhmdb_incomplete(raw_jhmdb):
    said = failure(convert_jhmdb, raw_jhmdb, '--sentences=928')
    assert '2 sentences, expected 928' in said
    folder = raw_jhmdb / 'puppet_mask/catch/catch_ball_f_nm_np1_le_bad_2'
    path = folder / 'puppet_mask.mat'
    content = path.read_bytes()
    path.write_bytes(content[:200])
    assert 'puppet_mask.mat cannot be read' in failure(
        convert_jhmdb, raw_jhmdb
    )
    scipy.io.savemat(path, {'mask': np.zeros((2, 2))})
    assert 'has no "part_mask"' in failure(convert_jhmdb, raw_jhmdb)
    path.write_bytes(content)
    folder.rename(folder.with_name('other'))
    assert '1 of 2 videos are not in' in failure(convert_jhmdb, raw_jhmdb)
    assert not (raw_jhmdb / METADATA).exists()
