# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
import numpy as np
import pytest
from PIL import Image

from referformer.errors import DataError, MissingDataError
from referformer.formats.label_maps import (
    list_label_maps,
    list_videos,
    read_binary_mask,
    read_label_map,
    write_binary_mask,
    write_label_map,
)
from tests.faults import FILES, fault

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


def test_videos_may_lie_deeper(tmp_path):
    for name in ('b', 'set/v10', 'set/v9', 'set/deep/v', 'set/v9/more'):
        save(tmp_path / name / '0.PNG')
    save(tmp_path / '__MACOSX/b/._0.png')
    save(tmp_path / 'set/.hidden/0.png')
    (tmp_path / 'set/empty').mkdir()
    assert list_videos(tmp_path) == [
        *('b', 'set/deep/v', 'set/empty'),
        *('set/v9', 'set/v9/more', 'set/v10'),
    ]
    # Its masks are missing, which must not go unnoticed.
    with pytest.raises(DataError, match='empty holds no PNG'):
        list_label_maps(tmp_path / 'set/empty')


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


@fault(
    FILES,
    'a mask is a colour picture',
    'it is refused and named',
)
@pytest.mark.parametrize('mode', ['RGB', 'RGBA', 'LA', 'I;16'])
def test_other_images_are_refused(tmp_path, mode):
    if mode == 'I;16':
        Image.fromarray(LABELS.astype(np.uint16)).save(tmp_path / 'a.png')
    else:
        save(tmp_path / 'a.png', mode=mode)
    with pytest.raises(DataError, match=r'a\.png is a PNG of mode .* not'):
        read_label_map(tmp_path / 'a.png')


@fault(
    FILES,
    'a mask is cut off or no picture',
    'it is refused and named',
)
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
    with pytest.raises(MissingDataError, match=r'd\.png does not exist'):
        read_label_map(tmp_path / 'd.png')


def test_frames_are_in_order_of_time(tmp_path):
    for name in ('10', '9', '100'):
        save(tmp_path / 'v' / f'{name}.png')
    save(tmp_path / 'v' / '.hidden.png')
    (tmp_path / 'v' / 'readme.txt').touch()
    assert list_label_maps(tmp_path / 'v') == ['9', '10', '100']
    save(tmp_path / 'v' / 'extra.png')
    assert list_label_maps(tmp_path / 'v') == ['9', '10', '100', 'extra']


def test_wrong_level_of_folder(tmp_path):
    save(tmp_path / 'root' / '480p' / 'v' / '0.png')
    (tmp_path / 'root' / '.cache').mkdir()
    with pytest.raises(DataError, match='480p holds no PNG'):
        list_label_maps(tmp_path / 'root' / '480p')
    with pytest.raises(DataError, match='give its parent'):
        list_videos(tmp_path / 'root' / '480p' / 'v')
    with pytest.raises(MissingDataError, match='nowhere is not a folder'):
        list_videos(tmp_path / 'nowhere')


def test_what_is_written_is_read(tmp_path):
    write_label_map(tmp_path / 'new/labels.png', LABELS)
    assert np.array_equal(read_label_map(tmp_path / 'new/labels.png'), LABELS)
    write_binary_mask(tmp_path / 'new/mask.png', LABELS == 1)
    mask = read_binary_mask(tmp_path / 'new/mask.png')
    assert mask.dtype == bool
    assert np.array_equal(mask, LABELS == 1)
    assert set(np.unique(read_label_map(tmp_path / 'new/mask.png'))) == {
        0,
        255,
    }
