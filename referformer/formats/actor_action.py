# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Files of masks as the actor-action data sets publish them."""

import csv
import io
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

__all__ = [
    'A2DFrame',
    'coco_entry',
    'is_plain_name',
    'read_a2d_frame',
    'read_a2d_ids',
    'read_puppet_masks',
    'read_table',
]


class A2DFrame(NamedTuple):
    """The annotation of a frame of A2D-Sentences.

    Attributes:
        ids: The instances in it, n of them.
        masks: bool, shape (n, H, W).
        boxes: x1, y1, x2, y2 in pixels, float64, shape (n, 4); ``None`` if
            the file has none.
    """

    ids: list[int]
    masks: np.ndarray
    boxes: np.ndarray | None


def read_a2d_frame(path: Path) -> A2DFrame:
    """Read an HDF5 file of ``a2d_annotation_with_instances``.

    MATLAB wrote it: its arrays are transposed, and lose an axis where there
    is a single instance.

    Raises:
        FileNotFoundError: If the file is missing.
        OSError: If it is damaged.
        ValueError: If it does not hold what it should.
    """
    ids, masks, boxes = _read_hdf5(path, 'instance', 'reMask', 'reBBox')
    ids = _parse_ids(path, ids)
    if masks is not None and masks.ndim == 2:
        masks = masks[None]
    if (
        masks is None
        or masks.ndim != 3
        or masks.dtype.kind not in 'biuf'
        or len(masks) != len(ids)
    ):
        shape = None if masks is None else masks.shape
        raise ValueError(
            f'{path}: "reMask" has the shape {shape} for {len(ids)} '
            'instances; extract the file again.'
        )
    # Boxes are a by-product: what is no box is left out.
    if boxes is not None:
        numbers = boxes.dtype.kind in 'iuf' and boxes.size == 4 * len(ids)
        numbers = numbers and np.isfinite(boxes).all()
        boxes = boxes.reshape(4, -1).T.astype(np.float64) if numbers else None
    return A2DFrame(ids, masks.transpose(0, 2, 1) > 0, boxes)


def read_a2d_ids(path: Path) -> list[int]:
    """Return only the instances of such a file; see :func:`read_a2d_frame`."""
    return _parse_ids(path, *_read_hdf5(path, 'instance'))


def read_puppet_masks(path: Path) -> np.ndarray:
    """Read a ``puppet_mask.mat`` of JHMDB.

    Returns:
        bool, shape (T, H, W).

    Raises:
        FileNotFoundError: If the file is missing.
        OSError: If it is damaged.
        ValueError: If it does not hold what it should.
    """
    scipy_io = _import('scipy.io', 'scipy')
    if not path.is_file():
        raise FileNotFoundError(
            f'Masks {path} are missing; extract puppet_mask.zip again.'
        )
    try:
        content = scipy_io.loadmat(path, variable_names=['part_mask'])
    except Exception as error:
        raise OSError(
            f'Masks {path} cannot be read ({error}); the file is damaged, '
            'extract puppet_mask.zip again.'
        ) from error
    masks = content.get('part_mask')
    if masks is None or masks.ndim not in (2, 3) or not masks.size:
        shape = None if masks is None else masks.shape
        raise ValueError(
            f'{path}: "part_mask" has the shape {shape} where (H, W, T) is '
            'expected; extract puppet_mask.zip again.'
        )
    # MATLAB drops the last axis of a single frame.
    return np.atleast_3d(masks).transpose(2, 0, 1) > 0


def is_plain_name(name: Any) -> bool:
    """Return whether a name stays within its folder."""
    return (
        isinstance(name, str)
        and name not in ('', '.', '..')
        and Path(name).name == name
        and not set(name) & set('\\\0')
    )


def read_table(path: Path) -> list[list[str]]:
    """Read lines of comma-separated values, in UTF-8 or else Latin-1.

    Raises:
        FileNotFoundError: If the file is missing.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(
            f'{path} does not exist; extract the archive completely.'
        ) from None
    try:
        text = content.decode('utf-8-sig')
    except UnicodeDecodeError:
        text = content.decode('latin-1')
    rows = csv.reader(io.StringIO(text, newline=''))
    return [[cell.strip() for cell in row] for row in rows if row]


def _read_hdf5(path: Path, *names: str) -> list[np.ndarray | None]:
    """Return data sets of an HDF5 file, ``None`` for those it lacks."""
    h5py = _import('h5py', 'h5py')
    if not path.is_file():
        raise FileNotFoundError(
            f'Masks {path} are missing; extract '
            'a2d_annotation_with_instances.zip again.'
        )
    try:
        with h5py.File(path, 'r') as file:
            return [
                np.asarray(file[name]) if name in file else None
                for name in names
            ]
    except OSError as error:
        raise OSError(
            f'Masks {path} cannot be read ({error}); the file is damaged, '
            'extract a2d_annotation_with_instances.zip again.'
        ) from error


def _parse_ids(path: Path, ids: np.ndarray | None) -> list[int]:
    """Return the ids of instances as numbers."""
    if (
        ids is None
        or ids.dtype.kind not in 'iuf'
        or not np.isfinite(ids).all()
    ):
        raise ValueError(
            f'{path} has no list of numbers "instance"; it is no file of '
            'a2d_annotation_with_instances.'
        )
    return [int(value) for value in ids.ravel()]


def _import(name: str, package: str) -> ModuleType | Any:
    """Import what only these files need.

    Raises:
        ImportError: If it is not installed.
    """
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f'Reading these masks needs {package}: pip install {package}'
        ) from error


def coco_entry(
    number: int, image_id: str, mask: np.ndarray, box: np.ndarray | None = None
) -> tuple[dict, dict]:
    """Describe a mask as COCO does.

    Args:
        number: Id of the annotation, from 1 on.
        image_id: Id of the image.
        mask: bool, shape (H, W).
        box: x1, y1, x2, y2 in pixels; that of the mask if ``None``.

    Returns:
        The entries in ``images`` and in ``annotations``.
    """
    from pycocotools import mask as mask_utils

    height, width = mask.shape
    rle = mask_utils.encode(np.asfortranarray(mask, dtype=np.uint8))
    if box is None:
        bbox = mask_utils.toBbox(rle).tolist()
    else:
        x1, y1, x2, y2 = box.tolist()
        bbox = [x1, y1, x2 - x1, y2 - y1]
    image = {'id': image_id, 'height': height, 'width': width}
    annotation = {
        'id': number,
        'image_id': image_id,
        'category_id': 1,
        'segmentation': {
            'size': [height, width],
            'counts': rle['counts'].decode('ascii'),
        },
        'area': float(mask_utils.area(rle)),
        'bbox': bbox,
        'iscrowd': 0,
    }
    return image, annotation
