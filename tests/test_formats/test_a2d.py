# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Masks of A2D- and JHMDB-Sentences, as MATLAB writes them."""

import sys

import h5py
import numpy as np
import pytest
import scipy.io

from referformer.errors import DataError, MissingPackageError
from referformer.formats.a2d import read_a2d_frame, read_a2d_ids
from referformer.formats.jhmdb import read_puppet_mask, read_puppet_masks

MASKS = np.zeros((2, 4, 6), np.uint8)  # n, H, W
MASKS[0, 1, 2:5] = 1
MASKS[1, 3, 0] = 1
BOXES = np.array([[2.0, 1, 4, 1], [0, 3, 0, 3]])


def write(path, **content):
    with h5py.File(path, 'w') as file:
        for name, value in content.items():
            file[name] = value
    return path


@pytest.mark.parametrize('shape', [(2,), (2, 1), (1, 2)])
def test_several_instances(tmp_path, shape):
    path = write(
        tmp_path / 'a.h5',
        instance=np.array([3.0, 0.0]).reshape(shape),
        reMask=MASKS.transpose(0, 2, 1),
        reBBox=BOXES.T,
    )
    frame = read_a2d_frame(path)
    assert frame.ids == read_a2d_ids(path) == [3, 0]
    np.testing.assert_array_equal(frame.masks, MASKS > 0)
    np.testing.assert_array_equal(frame.boxes, BOXES)


@pytest.mark.parametrize('boxes', [BOXES[0], BOXES[:1], BOXES[:1].T])
def test_a_single_instance_has_no_axis(tmp_path, boxes):
    frame = read_a2d_frame(
        write(
            tmp_path / 'a.h5',
            instance=np.array([[7]]),
            reMask=MASKS[0].T,
            reBBox=boxes,
        )
    )
    assert frame.ids == [7]
    np.testing.assert_array_equal(frame.masks, MASKS[:1] > 0)
    np.testing.assert_array_equal(frame.boxes, BOXES[:1])


@pytest.mark.parametrize(
    'boxes', [np.zeros(3), np.full(8, np.nan), np.array([b'x'] * 8)]
)
def test_what_is_no_box_is_left_out(tmp_path, boxes):
    path = write(
        tmp_path / 'a.h5',
        instance=[0, 1],
        reMask=MASKS.transpose(0, 2, 1),
        reBBox=boxes,
    )
    assert read_a2d_frame(path).boxes is None


@pytest.mark.parametrize(
    ('content', 'said'),
    [
        (dict(reMask=MASKS), 'no list of numbers "instance"'),
        (dict(instance=[np.nan, 1], reMask=MASKS), 'no list of numbers'),
        (dict(instance=[b'1 (copy)'], reMask=MASKS[0]), 'no list of numbers'),
        (dict(instance=[0, 1]), '"reMask" has the shape None'),
        (dict(instance=[0, 1], reMask=MASKS[0]), r'\(1, 4, 6\) for 2'),
        (dict(instance=[0], reMask=np.array([[b'x']])), '"reMask" has'),
    ],
)
def test_files_that_hold_something_else(tmp_path, content, said):
    with pytest.raises(DataError, match=said):
        read_a2d_frame(write(tmp_path / 'a.h5', **content))


def test_files_that_cannot_be_read(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r'a\.h5 are missing'):
        read_a2d_frame(tmp_path / 'a.h5')
    (tmp_path / 'a.h5').write_text('text')
    with pytest.raises(DataError, match='damaged'):
        read_a2d_frame(tmp_path / 'a.h5')
    with pytest.raises(FileNotFoundError, match=r'a\.mat are missing'):
        read_puppet_masks(tmp_path / 'a.mat')
    (tmp_path / 'a.mat').write_text('text')
    with pytest.raises(DataError, match='damaged'):
        read_puppet_masks(tmp_path / 'a.mat')
    monkeypatch.setitem(sys.modules, 'h5py', None)
    with pytest.raises(MissingPackageError, match='pip install h5py'):
        read_a2d_frame(tmp_path / 'a.h5')
    monkeypatch.setitem(sys.modules, 'scipy.io', None)
    with pytest.raises(MissingPackageError, match='pip install scipy'):
        read_puppet_masks(tmp_path / 'a.mat')


def test_puppet_masks(tmp_path):
    path = tmp_path / 'a.mat'
    scipy.io.savemat(path, {'part_mask': MASKS.transpose(1, 2, 0)})
    np.testing.assert_array_equal(read_puppet_masks(path), MASKS > 0)
    scipy.io.savemat(path, {'part_mask': MASKS[0]})  # a single frame
    np.testing.assert_array_equal(read_puppet_masks(path), MASKS[:1] > 0)


def test_puppet_masks_with_other_axes(tmp_path):
    path = tmp_path / 'puppet_mask.mat'
    scipy.io.savemat(path, {'part_mask': np.ones((6, 8, 5), np.uint8)})
    assert read_puppet_mask(path, 4, (6, 8)).shape == (6, 8)
    for shape in ((8, 5), (5, 6)):
        with pytest.raises(DataError, match='axes') as error:
            read_puppet_mask(path, 0, shape)
        assert error.value.code == 'mask-transposed'
