# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Folders of indexed PNGs, ``<root>/<video>/<frame>.png``."""

from collections.abc import Iterable
from functools import cache
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from referformer.errors import DataError
from referformer.formats.files import write_atomic

# Modes whose pixel values are the stored numbers: palette, 8-bit grey, 1-bit.
_INDEXED_MODES = ('P', 'L', '1')
_NAMES_SHOWN = 5


def read_label_map(
    path: str | Path,
    shape: tuple[int, int] | None = None,
    data: bytes | None = None,
) -> np.ndarray:
    """Read the object ids of one indexed PNG.

    Args:
        path (str | Path): A PNG with a palette, or an 8-bit or 1-bit grey
            one. Its pixel values are the ids, whatever its colours.
        shape (tuple[int, int], optional): Height and width it must have,
            checked before any pixel is unpacked.
        data (bytes, optional): Content of the file, if it was read already;
            ``path`` is then only its name.

    Returns:
        np.ndarray: Ids, uint8, shape (H, W).

    Raises:
        DataError: If the file is missing or broken, has no indices, or
            is of another size.
    """
    try:
        with Image.open(path if data is None else BytesIO(data)) as image:
            mode, kind = image.mode, image.format
            width, height = image.size
            if shape is not None and (height, width) != tuple(shape):
                raise DataError(
                    f'{path} is {width} x {height} pixels but the ground '
                    f'truth is {shape[1]} x {shape[0]}; write predictions at '
                    'the size of the ground truth.'
                )
            if mode in _INDEXED_MODES:
                return np.array(image, dtype=np.uint8)
    except FileNotFoundError:
        raise DataError(f'{path} does not exist.') from None
    except DataError:
        raise
    except UnidentifiedImageError:
        raise DataError(
            f'{path} is not an image; write it again as an indexed PNG.'
        ) from None
    except (
        OSError,
        SyntaxError,
        ValueError,
        Image.DecompressionBombError,
    ) as error:
        # Pillow reports a damaged PNG with any of these.
        raise DataError(
            f'{path} cannot be read ({error}); write it again.'
        ) from None
    raise DataError(
        f'{path} is a {kind} of mode {mode}, not an indexed PNG; save masks '
        'with one channel of 8 bits whose values are the object ids.'
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
        np.ndarray: bool, shape (H, W).
    """
    labels = read_label_map(path, shape, data)
    # OpenCV counts several times faster than NumPy here.
    highest = int(cv2.minMaxLoc(labels)[1])
    mask = labels == highest if highest else np.zeros(labels.shape, bool)
    if highest and cv2.countNonZero(labels) > np.count_nonzero(mask):
        raise DataError(
            f'{path} has several values besides 0 (up to {highest}), so it '
            'is no mask of one object; write 255 (or 1) where the object is '
            'and 0 elsewhere.'
        )
    return mask


def write_label_map(path: str | Path, labels: np.ndarray) -> None:
    """Write object ids as an indexed PNG in the colours of DAVIS.

    Args:
        path (str | Path): The file. Its folder is created.
        labels (np.ndarray): Ids, uint8, shape (H, W).
    """
    image = Image.fromarray(labels)
    image.putpalette(_palette())
    content = BytesIO()
    image.save(content, 'PNG')
    write_atomic(path, content.getvalue())


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
    """Names of the video folders in a folder of masks, sorted.

    Raises:
        DataError: If ``root`` is no folder or holds no video folder.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f'{root} is not a folder.')
    videos = sorted(
        entry.name
        for entry in root.iterdir()
        if entry.is_dir() and not entry.name.startswith('.')
    )
    if not videos:
        hint = (
            ' (it holds PNGs itself: give its parent folder)'
            if next(root.glob('*.png'), None)
            else ''
        )
        raise DataError(
            f'{root} holds no video folder; expected '
            f'<video>/<frame>.png in it{hint}.'
        )
    return videos


def list_frames(folder: str | Path) -> list[str]:
    """Names of the frames of a video without ``.png``, in order of time.

    Names made of digits are sorted as numbers, so ``10`` comes after ``9``.

    Raises:
        DataError: If there is no PNG in the folder.
    """
    folder = Path(folder)
    names = [
        path.stem
        for path in folder.glob('*.png')
        if not path.name.startswith('.')
    ]
    if not names:
        nested = [entry for entry in folder.iterdir() if entry.is_dir()]
        hint = f' (did you mean {folder} itself?)' if nested else ''
        raise DataError(f'{folder} holds no PNG{hint}.')
    if all(name.isdecimal() for name in names):
        return sorted(names, key=lambda name: (int(name), name))
    return sorted(names)


def shorten(names: Iterable[str]) -> str:
    """A list of names for an error message, cut after a few."""
    names = list(names)
    text = ', '.join(names[:_NAMES_SHOWN])
    more = len(names) - _NAMES_SHOWN
    return f'{text} and {more} more' if more > 0 else text


def match_frames(
    gt_root: str | Path, pred_root: str | Path
) -> dict[str, list[str]]:
    """Frames to score: those of the ground truth, all of them predicted.

    Further videos and frames of the prediction are nobody's business here.

    Args:
        gt_root (str | Path): Folder with the true masks.
        pred_root (str | Path): Folder with the predicted masks.

    Returns:
        dict[str, list[str]]: Names of the frames by the video's name.

    Raises:
        DataError: If a folder is missing or empty, or the prediction
            lacks a video or a frame. A missing one is never scored as zero:
            that would pass a broken run off as a bad one.
    """
    gt_root, pred_root = Path(gt_root), Path(pred_root)
    frames = {
        name: list_frames(gt_root / name) for name in list_videos(gt_root)
    }
    if not pred_root.is_dir():
        raise DataError(f'{pred_root} is not a folder.')
    lost = [name for name in frames if not (pred_root / name).is_dir()]
    if lost:
        raise DataError(
            f'{pred_root} lacks {len(lost)} of {len(frames)} videos: '
            f'{shorten(lost)}; write their masks (all zeros where nothing '
            'was found) or take them out of the ground truth folder.'
        )
    missing = []
    for video, names in frames.items():
        present = {path.stem for path in (pred_root / video).glob('*.png')}
        missing += [f'{video}/{n}.png' for n in names if n not in present]
    if missing:
        total = sum(len(names) for names in frames.values())
        raise DataError(
            f'{pred_root} lacks {len(missing)} of {total} frames: '
            f'{shorten(missing)}; write an all-zero mask where nothing was '
            'found.'
        )
    return frames
