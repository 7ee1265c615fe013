# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Ref-DAVIS17 in the layout of Ref-YouTube-VOS."""

import json
import os
import runpy
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from referformer.errors import ReferError
from tests.fixtures.ref_davis import (
    CONVERTER,
    TEXT_FILES,
    VIDEOS,
    expression,
    make_ref_davis,
)

COUNTS = ('--train-videos=3', '--valid-videos=2')


@pytest.fixture(scope='module')
def original(tmp_path_factory):
    return make_ref_davis(tmp_path_factory.mktemp('davis') / 'raw')


@pytest.fixture
def raw(original, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(original, tmp_path / 'raw')


def convert(raw, out, *options):
    runpy.run_path(str(CONVERTER))['main'](
        [
            str(raw / 'DAVIS'),
            str(raw / 'davis_text_annotations'),
            str(out),
            *(COUNTS + options),
        ]
    )


def contents(folder):
    """Every file below a folder, links followed."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for top, _, names in os.walk(folder, followlinks=True)
        for path in (Path(top) / name for name in names)
    }


def expressions(out, split):
    path = out / f'meta_expressions/{split}/meta_expressions.json'
    return json.loads(path.read_text(encoding='utf-8'))['videos']


def test_every_annotator_says_what_it_said(original, tmp_path, capsys):
    convert(original, tmp_path / 'out')
    assert 'train: 3 videos, 16 expressions, 18 frames' in (
        capsys.readouterr().out
    )
    for split, name in (('train', 'train'), ('valid', 'val')):
        videos = expressions(tmp_path / 'out', split)
        # The misspelt ones under their names, nothing of the test splits.
        assert list(videos) == list(VIDEOS[name])
        for video, entry in videos.items():
            assert len(entry['frames']) == VIDEOS[name][video].length
            assert entry['frames'] == sorted(entry['frames'])
            described = VIDEOS[name][video].described
            assert [*entry['expressions']] == [
                str(k) for k in range(4 * described)
            ]
            for exp_id, said in entry['expressions'].items():
                assert said['exp'] == expression(
                    int(exp_id) % 4, video, int(said['obj_id'])
                )
    # The letter beyond ASCII, out of the Latin-1 files.
    assert '\u00e9' in videos['blackswan']['expressions']['3']['exp']


def test_objects_are_sorted_as_strings(original, tmp_path):
    convert(original, tmp_path / 'out')
    entry = expressions(tmp_path / 'out', 'valid')['gold-fish']
    assert [entry['expressions'][str(4 * k)]['obj_id'] for k in range(11)] == [
        '1',
        '10',
        '11',
        '2',
        '3',
        '4',
        '5',
        '6',
        '7',
        '8',
        '9',
    ]


def test_masks_are_those_of_the_unsupervised_edition(original, tmp_path):
    convert(original, tmp_path / 'out')
    path = tmp_path / 'out/valid/Annotations/blackswan/00000.png'
    assert set(np.unique(np.asarray(Image.open(path)))) == {0, 1, 2, 255}
    meta = json.loads((tmp_path / 'out/valid/meta.json').read_text())
    assert meta['videos']['blackswan']['objects'] == {
        '1': {'category': 'bird'},
        '2': {'category': 'bird'},
    }


@pytest.mark.parametrize('option', [(), ('--copy',)])
def test_original_stays_and_again_costs_nothing(
    original, tmp_path, option, capsys
):
    before = contents(original)
    out = tmp_path / 'out'
    convert(original, out, *option)
    assert contents(original) == before
    video = out / 'valid/JPEGImages/blackswan'
    assert video.is_symlink() == (not option)
    assert len(list(video.glob('*.jpg'))) == 4
    assert 'is ready.' in capsys.readouterr().out

    made = {path: path.lstat().st_mtime_ns for path in out.rglob('*')}
    convert(original, out, *option)
    assert 'was ready already' in capsys.readouterr().out
    assert {p: p.lstat().st_mtime_ns for p in out.rglob('*')} == made
    # Something else is not overwritten, and what is broken not called ready.
    other = () if option else ('--copy',)
    with pytest.raises(ReferError, match='with other options'):
        convert(original, out, *other)
    if option:
        shutil.rmtree(video)
    else:
        video.unlink()
    with pytest.raises(ReferError, match='has lost valid/JPEGImages/blacks'):
        convert(original, out, *option)


def test_the_download_is_no_place_to_write_to(raw):
    # and no advice is given to remove it
    with pytest.raises(ReferError, match=r'not made by .* new folder for OUT'):
        convert(raw, raw)


def test_links_move_along(raw, tmp_path):
    convert(raw, tmp_path / 'raw/DAVIS/ref')
    moved = tmp_path / 'moved'
    raw.rename(moved)
    files = contents(moved / 'DAVIS/ref/valid')
    assert 'JPEGImages/gold-fish/00004.jpg' in files


def test_without_categories(raw, tmp_path, capsys):
    (raw / 'DAVIS/davis_semantics.json').unlink()
    convert(raw, tmp_path / 'out')
    assert 'No categories' in capsys.readouterr().out
    assert not (tmp_path / 'out/valid/meta.json').exists()


def edit(path, old, new, encoding='utf-8'):
    text = path.read_text(encoding=encoding)
    assert old in text
    path.write_text(text.replace(old, new), encoding=encoding)


FIRST = f'davis_text_annotations/{TEXT_FILES[0]}'
LAST = f'davis_text_annotations/{TEXT_FILES[3]}'


@pytest.mark.parametrize(
    ('damage', 'message'),
    [
        (
            lambda raw: (raw / LAST).unlink(),
            r'annot2_full_video\.txt does not exist',
        ),
        (
            lambda raw: edit(raw / FIRST, 'blackswan 1 "', 'blackswan "'),
            r'annot1\.txt:5: .*not of the form',
        ),
        (
            lambda raw: edit(raw / FIRST, 'gold-fish 7', 'gold-fish 1'),
            r'annot1\.txt:12: object 1 again; gold-fish, object 7 is not in '
            r'Davis17_annot1\.txt.*--skip-incomplete',
        ),
        (
            lambda raw: (raw / FIRST).write_bytes(b'bear 1 "\xe9"\n'),
            r'annot1\.txt is not text in UTF-8',
        ),
        (
            lambda raw: edit(
                raw / 'DAVIS/ImageSets/2017/val.txt', 'gold-fish\n', ''
            ),
            'lists 1 videos, expected 2',
        ),
        (
            lambda raw: edit(
                raw / 'DAVIS/ImageSets/2017/val.txt', 'gold-fish', '../x'
            ),
            'no name of a video',
        ),
        (
            lambda raw: shutil.rmtree(
                raw / 'DAVIS/Annotations_unsupervised/480p/gold-fish'
            ),
            r'gold-fish has no \.png files',
        ),
        (
            lambda raw: (
                raw / 'DAVIS/JPEGImages/480p/gold-fish/00003.jpg'
            ).unlink(),
            'Frame 00003 of gold-fish',
        ),
        (
            lambda raw: edit(raw / 'DAVIS/davis_semantics.json', '{', '['),
            r'davis_semantics\.json is not valid JSON',
        ),
        (
            lambda raw: edit(
                raw / 'DAVIS/davis_semantics.json', '"11": "fish"', '"12": ""'
            ),
            'no category of object 11 of gold-fish',
        ),
    ],
)
def test_faults_are_named_and_nothing_is_written(
    raw, tmp_path, damage, message
):
    damage(raw)
    with pytest.raises(ReferError, match=message):
        convert(raw, tmp_path / 'out')
    assert {path.name for path in tmp_path.iterdir()} == {'raw'}


def test_incomplete_objects_can_be_left_out(raw, tmp_path, capsys):
    edit(raw / FIRST, 'gold-fish 10 "', 'elsewhere 10 "')
    convert(raw, tmp_path / 'out', '--skip-incomplete')
    assert 'left out: gold-fish, object 10' in capsys.readouterr().err
    entry = expressions(tmp_path / 'out', 'valid')['gold-fish']
    assert len(entry['expressions']) == 40
    assert entry['expressions']['4']['obj_id'] == '11'


def test_the_real_counts_are_expected(original, tmp_path):
    main = runpy.run_path(str(CONVERTER))['main']
    with pytest.raises(ReferError, match='lists 3 videos, expected 60'):
        main(
            [
                str(original / 'DAVIS'),
                str(original / 'davis_text_annotations'),
                str(tmp_path / 'out'),
            ]
        )
