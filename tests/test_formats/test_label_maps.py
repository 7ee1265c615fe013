# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
import os

import numpy as np
import pytest
from PIL import Image

from referformer.evaluation.functional import (
    DataError,
    list_frames,
    list_videos,
    match_frames,
    read_label_map,
    write_atomic,
)

LABELS = np.array([[0, 1, 2], [255, 1, 0]], np.uint8)


def save(path, labels=LABELS, mode='P'):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(labels)
    if mode == 'P':
        # A palette whose colours have nothing to do with the indices.
        image.putpalette(list(np.random.default_rng(0).bytes(768)))
    elif mode != 'L':
        image = image.convert(mode)
    image.save(path)


@pytest.mark.parametrize('mode', ['P', 'L'])
def test_values_are_the_ids(tmp_path, mode):
    save(tmp_path / 'a.png', mode=mode)
    labels = read_label_map(tmp_path / 'a.png')
    assert labels.dtype == np.uint8
    assert np.array_equal(labels, LABELS)
    labels[0, 0] = 3  # the caller owns the array


def test_few_colours_are_stored_in_few_bits(tmp_path):
    image = Image.fromarray(np.minimum(LABELS, 2))
    image.putpalette([0, 0, 0, 200, 0, 0, 0, 200, 0])
    image.save(tmp_path / 'a.png', bits=2)
    assert np.array_equal(
        read_label_map(tmp_path / 'a.png'), np.minimum(LABELS, 2)
    )
    save(tmp_path / 'b.png', LABELS, '1')
    assert set(np.unique(read_label_map(tmp_path / 'b.png'))) <= {0, 1}


@pytest.mark.parametrize('mode', ['RGB', 'RGBA', 'LA', 'I;16'])
def test_other_images_are_refused(tmp_path, mode):
    if mode == 'I;16':
        Image.fromarray(LABELS.astype(np.uint16)).save(tmp_path / 'a.png')
    else:
        save(tmp_path / 'a.png', mode=mode)
    with pytest.raises(DataError, match=r'a\.png is a PNG of mode .* not'):
        read_label_map(tmp_path / 'a.png')


def test_broken_files_are_refused(tmp_path):
    save(tmp_path / 'a.png', np.tile(LABELS, (40, 40)))
    whole = (tmp_path / 'a.png').read_bytes()
    (tmp_path / 'a.png').write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r'a\.png cannot be read'):
        read_label_map(tmp_path / 'a.png')
    (tmp_path / 'b.png').write_text('no image')
    with pytest.raises(DataError, match=r'b\.png is not an image'):
        read_label_map(tmp_path / 'b.png')
    (tmp_path / 'c.png').touch()
    with pytest.raises(DataError, match=r'c\.png'):
        read_label_map(tmp_path / 'c.png')
    with pytest.raises(DataError, match=r'd\.png does not exist'):
        read_label_map(tmp_path / 'd.png')


def test_frames_are_in_order_of_time(tmp_path):
    for name in ('10', '9', '100'):
        save(tmp_path / 'v' / f'{name}.png')
    save(tmp_path / 'v' / '.hidden.png')
    (tmp_path / 'v' / 'readme.txt').touch()
    assert list_frames(tmp_path / 'v') == ['9', '10', '100']
    save(tmp_path / 'v' / 'extra.png')
    assert list_frames(tmp_path / 'v') == ['10', '100', '9', 'extra']


def test_wrong_level_of_folder(tmp_path):
    save(tmp_path / 'root' / '480p' / 'v' / '0.png')
    (tmp_path / 'root' / '.cache').mkdir()
    assert list_videos(tmp_path / 'root') == ['480p']
    with pytest.raises(DataError, match=r'did you mean .*480p'):
        list_frames(tmp_path / 'root' / '480p')
    with pytest.raises(DataError, match='give its parent'):
        list_videos(tmp_path / 'root' / '480p' / 'v')
    with pytest.raises(DataError, match='nowhere is not a folder'):
        list_videos(tmp_path / 'nowhere')


def test_the_ground_truth_says_what_is_scored(tmp_path):
    gt, pred = tmp_path / 'gt', tmp_path / 'pred'
    for name in ('a/0', 'a/4', 'b/0'):
        save(gt / f'{name}.png')
        save(pred / f'{name}.png')
    save(pred / 'a' / '2.png')
    save(pred / 'c' / '0.png')
    assert match_frames(gt, pred) == {'a': ['0', '4'], 'b': ['0']}
    (pred / 'a' / '4.png').unlink()
    with pytest.raises(DataError, match=r'lacks 1 of 3 frames: a/4\.png'):
        match_frames(gt, pred)
    (pred / 'b').rename(pred / 'x')
    with pytest.raises(DataError, match='lacks 1 of 2 videos: b;'):
        match_frames(gt, pred)
    with pytest.raises(DataError, match='nowhere is not a folder'):
        match_frames(gt, tmp_path / 'nowhere')


def test_long_lists_are_cut(tmp_path):
    for index in range(9):
        save(tmp_path / 'gt' / f'v{index}' / '0.png')
    (tmp_path / 'pred').mkdir()
    with pytest.raises(DataError, match='v3, v4 and 4 more;'):
        match_frames(tmp_path / 'gt', tmp_path / 'pred')


def test_atomic_writing(tmp_path, monkeypatch):
    path = tmp_path / 'new' / 'file.txt'
    write_atomic(path, 'früher')
    assert path.read_bytes() == 'früher'.encode()
    umask = os.umask(0)
    os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask

    def full_disk(self, data):
        self.touch()
        raise OSError('no space left')

    monkeypatch.setattr('pathlib.Path.write_bytes', full_disk)
    with pytest.raises(OSError, match='no space'):
        write_atomic(path, 'später')
    # The old content is whole and nothing else is left.
    assert path.read_bytes() == 'früher'.encode()
    assert list(path.parent.iterdir()) == [path]
