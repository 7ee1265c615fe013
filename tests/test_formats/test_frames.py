# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Names of frames: order, suffixes, and what is no frame."""

import itertools

import pytest

from referformer.errors import MissingDataError
from referformer.formats.frames import (
    check_present,
    find_file,
    is_plain_name,
    is_relative_name,
    is_residue,
    list_frames,
    sort_names,
)


@pytest.mark.parametrize(
    'names',
    [
        ['0', '1', '2', '10', '11', '100'],
        ['00000', '00005', '00010', '00100'],
        ['frame_2', 'frame_10', 'frame_10_b', 'frame_100'],
        ['1.jpg', '2.jpg', '10.jpg'],
        ['9', '10', 'a', 'a1', 'a2', 'a10', 'b'],
        ['t0001-1', 't0001-9', 't0001-10'],
        ['a', 'a' + '9' * 5000, 'a1' + '0' * 5000],
    ],
)
def test_names_are_ordered_as_people_count(names):
    for order in itertools.islice(itertools.permutations(names), 60):
        assert sort_names(order) == names


def test_the_order_does_not_depend_on_what_came_first():
    names = ['01', '1', '001', '2']
    assert sort_names(names) == sort_names(reversed(names))


@pytest.mark.parametrize(
    'name',
    [
        *('', '.', '..', '../a', 'a/b', '/a', 'a\\b', 'a\0', 3, None),
        *('a\n', 'a\r\nb', '\x1b[2J', 'a\x7f', '\x9b31m', '\ud800'),
    ],
)
def test_names_that_leave_their_folder(name):
    assert not is_plain_name(name)


def test_plain_names():
    assert is_plain_name('--h5fAKYurM')
    assert is_plain_name('a.b (1)')
    assert is_plain_name('犬 ・ 1')


@pytest.mark.parametrize(
    'name', ['', '/a', 'a/', 'a//b', 'a/../b', '..', './a', 'a\\b', 7]
)
def test_relative_names_do_not_lead_out_of_a_folder(name):
    assert not is_relative_name(name)
    assert is_relative_name('LV-VIS/videos/00001')


@pytest.mark.parametrize(
    'name',
    ['._00000.jpg', '.DS_Store', 'Thumbs.db', '__MACOSX/a/._b.png', '.x/a'],
)
def test_residue_of_other_systems(name):
    assert is_residue(name)
    assert not is_residue('a/00000.png')
    assert not is_residue('../a/00000.png')


def test_listing_takes_any_suffix_and_no_residue(tmp_path):
    for name in (
        *('2.JPG', '10.jpeg', '1.Png', '3.png', '3.jpg'),
        *('._1.Png', '.DS_Store', 'Thumbs.db', 'notes.txt'),
    ):
        (tmp_path / name).touch()
    found = list_frames(tmp_path)
    assert list(found) == ['1', '2', '3', '10']
    assert [path.name for path in found.values()] == [
        *('1.Png', '2.JPG', '3.jpg', '10.jpeg')
    ]
    assert list(list_frames(tmp_path, ('.png',))) == ['1', '3']
    assert list_frames(tmp_path / 'nowhere') == {}


def test_a_file_is_found_under_another_suffix(tmp_path):
    (tmp_path / '7.JPEG').touch()
    (tmp_path / '._8.jpg').touch()
    (tmp_path / '9').mkdir()
    assert find_file(tmp_path / '7.JPEG') == tmp_path / '7.JPEG'
    assert find_file(tmp_path / '7.jpg') == tmp_path / '7.JPEG'
    assert find_file(tmp_path / '7.png', ('.png',)) is None
    assert find_file(tmp_path / '8.jpg') is None
    assert find_file(tmp_path / '9.jpg') is None
    assert find_file(tmp_path / 'gone/7.jpg') is None


def test_missing_videos_are_named_in_natural_order(tmp_path):
    (tmp_path / 'a/b').mkdir(parents=True)
    check_present(tmp_path, ['a', 'a/b'], 'x.json', 'docs')
    with pytest.raises(MissingDataError, match=r"2 of 3 .*first 'v9'"):
        check_present(tmp_path, ['v10', 'v9', 'a/b'], 'x.json', 'docs')
    with pytest.raises(MissingDataError, match='gone does not exist; docs'):
        check_present(tmp_path / 'gone', ['a'], 'x.json', 'docs')
