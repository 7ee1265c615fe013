# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Masks as PNGs whose pixel values are object ids: label maps.

Predictions of one object are a special case: 0 and one other value. Folders
hold ``<root>/<video>/<frame>.png``.
"""

from collections.abc import Iterator
from functools import cache
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from referformer.errors import DataError, MissingDataError
from referformer.formats.files import write_atomic
from referformer.formats.frames import (
    find_file,
    is_residue,
    list_frames,
    sort_names,
)

# Modes whose pixel values are the stored numbers: palette, 8-bit grey, 1-bit.
_INDEXED_MODES = ('P', 'L', '1')
_SUFFIXES = ('.png',)


def is_object_id(text: str) -> bool:
    """Return whether a mask can hold this id: a number from 1 to 255."""
    return text.isdecimal() and 0 < int(text) < 256


def read_label_map(
    path: str | Path,
    shape: tuple[int, int] | None = None,
    data: bytes | None = None,
) -> np.ndarray:
    """Read the object ids of one indexed PNG.

    Args:
        path: A PNG with a palette, or an 8-bit or 1-bit grey one. Its pixel
            values are the ids, whatever its colours. Its suffix may be in
            capitals.
        shape: Height and width it must have, checked before any pixel is
            unpacked.
        data: Content of the file, if it was read already; ``path`` is then
            only its name.

    Returns:
        Ids, uint8, shape (H, W).

    Raises:
        MissingDataError: If the file does not exist.
        DataError: If it is broken, has no indices, or is of another size.
    """
    try:
        with Image.open(path if data is None else BytesIO(data)) as image:
            mode, kind = image.mode, image.format
            width, height = image.size
            if shape is not None and (height, width) != tuple(shape):
                raise DataError(
                    f'{path} is {width} x {height} pixels but the ground '
                    f'truth is {shape[1]} x {shape[0]}; write predictions at '
                    'the size of the ground truth.',
                    file=path,
                )
            if mode in _INDEXED_MODES:
                return np.array(image, dtype=np.uint8)
    except FileNotFoundError:
        found = find_file(path, _SUFFIXES)
        if found is None:
            raise MissingDataError(
                f'{path} does not exist.', file=path
            ) from None
        return read_label_map(found, shape)
    except DataError:
        raise
    except (
        OSError,
        SyntaxError,
        ValueError,
        Image.DecompressionBombError,
    ) as error:
        # Pillow reports a damaged PNG with any of these.
        reason = f'cannot be read ({error})'
        if isinstance(error, UnidentifiedImageError):
            reason = 'is not an image'  # its text names an object in memory
        raise DataError(
            f'{path} {reason}; extract it again, or write it again as an '
            'indexed PNG.',
            file=path,
            code='mask-broken',
        ) from None
    raise DataError(
        f'{path} is a {kind} of mode {mode}, not an indexed PNG; save masks '
        'with one channel of 8 bits whose values are the object ids.',
        file=path,
        code='mask-not-indexed',
    )


def read_binary_mask(
    path: str | Path,
    shape: tuple[int, int] | None = None,
    data: bytes | None = None,
) -> np.ndarray:
    """Read a mask of one object: 0 and one other value, mostly 1 or 255.

    Arguments and errors are those of :func:`read_label_map`; more than one
    value besides 0 (a label map, a mask that is not thresholded) is an error.

    Returns:
        bool, shape (H, W).
    """
    labels = read_label_map(path, shape, data)
    # OpenCV counts several times faster than NumPy here.
    highest = int(cv2.minMaxLoc(labels)[1])
    mask = labels == highest if highest else np.zeros(labels.shape, bool)
    if highest and cv2.countNonZero(labels) > np.count_nonzero(mask):
        raise DataError(
            f'{path} has several values besides 0 (up to {highest}), so it '
            'is no mask of one object; write 255 (or 1) where the object is '
            'and 0 elsewhere.',
            file=path,
        )
    return mask


def write_label_map(path: str | Path, labels: np.ndarray) -> None:
    """Write object ids as an indexed PNG in the colours of DAVIS.

    Args:
        path: The file. Its folder is created.
        labels: Ids, uint8, shape (H, W).
    """
    image = Image.fromarray(labels)
    image.putpalette(_palette())
    content = BytesIO()
    image.save(content, 'PNG')
    write_atomic(path, content.getvalue())


def write_binary_mask(path: str | Path, mask: np.ndarray) -> None:
    """Write the mask of one object as a grey PNG of 0 and 255.

    Args:
        path: The file. Its folder is created.
        mask: bool, shape (H, W).

    Raises:
        OSError: If it cannot be written.
    """
    done, png = cv2.imencode('.png', mask.astype(np.uint8) * 255)
    if not done:
        raise OSError(f'{path} could not be encoded as PNG.')
    write_atomic(path, png.tobytes())


@cache
def _palette() -> bytes:
    """RGB of each id; neighbouring ids differ in their highest bits."""
    ids = np.arange(256)
    colours = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        # Bits 0, 3 and 6 of the id make red, from its highest bit down.
        colours[:, bit % 3] |= ((ids >> bit & 1) << (7 - bit // 3)).astype(
            np.uint8
        )
    return colours.tobytes()


def list_videos(root: str | Path) -> list[str]:
    """Names of the video folders in a folder of masks, in natural order.

    The name of a video may contain folders, as ``set/video``.

    Raises:
        MissingDataError: If ``root`` is no folder.
        DataError: If it holds no video folder.
    """
    root = Path(root)
    if not root.is_dir():
        raise MissingDataError(f'{root} is not a folder.', file=root)
    videos = sort_names(
        name for entry in _folders(root) for name in _find_videos(entry, '')
    )
    if not videos:
        hint = (
            ' (it holds PNGs itself: give its parent folder)'
            if list_frames(root, _SUFFIXES)
            else ''
        )
        raise DataError(
            f'{root} holds no video folder; expected '
            f'<video>/<frame>.png in it{hint}.',
            file=root,
        )
    return videos


def _folders(folder: Path) -> list[Path]:
    """Folders in a folder, without residue."""
    return [
        entry
        for entry in folder.iterdir()
        if not is_residue(entry.name) and entry.is_dir()
    ]


def _find_videos(folder: Path, prefix: str) -> Iterator[str]:
    """Names of the folders with label maps, this one or below it."""
    name, deeper = f'{prefix}{folder.name}', _folders(folder)
    # An empty folder is a video whose masks are missing.
    if not deeper or list_frames(folder, _SUFFIXES):
        yield name
    for entry in deeper:
        yield from _find_videos(entry, f'{name}/')


def list_label_maps(folder: str | Path) -> list[str]:
    """Names of the label maps of a video without ``.png``, in natural order.

    Raises:
        DataError: If there is no PNG in the folder.
    """
    folder = Path(folder)
    names = list(list_frames(folder, _SUFFIXES))
    if not names:
        raise DataError(f'{folder} holds no PNG.', file=folder)
    return names
