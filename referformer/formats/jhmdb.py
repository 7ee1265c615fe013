# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""The files of JHMDB-Sentences."""

from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from referformer.errors import (
    DataError,
    MissingDataError,
    MissingPackageError,
)
from referformer.formats.frames import is_plain_name
from referformer.formats.text_files import (
    check_count,
    read_rows,
    read_table,
    wrong_line,
)

PAGE = 'docs/datasets/jhmdb-sentences.md'
FRAME_FOLDER = 'Rename_Images'
MASK_FOLDER = 'puppet_mask'
#: Frames that are scored in the whole set, three a video.
NUM_FRAMES = 2784


class FrameChoice(NamedTuple):
    """Which frames of the whole set are scored.

    Attributes:
        published: Whether published scores stand on them.
        text: Whose they are, a sentence.
    """

    published: bool
    text: str


#: Digest of the image ids -> whose choice of frames. Two files are called
#: jhmdb_sentences_samples_metadata.json; 2 639 of their frames differ.
_CHOICES = {
    'd9ca03228ada36bdbd343939509aef82c9e150a7446b86a2ee1eba404c1391cb': (
        FrameChoice(
            True,
            'the frames to be scored are those of MTTR, on which published '
            'scores stand.',
        )
    ),
    '96c0786054b1c23aa0ce55bbfecd4e781c3e4692a149d30cf53323742f397656': (
        FrameChoice(
            False,
            'the frames to be scored are those of the repository of SOC, not '
            'those of MTTR, on which published scores stand: 2639 of 2784 '
            f'differ, so scores are not comparable. {PAGE} tells where to '
            'get the other file.',
        )
    ),
}
_UNKNOWN_CHOICE = FrameChoice(
    False,
    'the frames to be scored are not those of MTTR, on which published '
    f'scores stand, so scores are not comparable. {PAGE} tells where to get '
    'its file.',
)
_ARCHIVE = 'extract puppet_mask.zip again.'


class JHMDBSample(NamedTuple):
    """A row of the samples metadata: a frame to be scored.

    Attributes:
        video: Name of the video.
        image: File of the frame, relative to the folder of the set.
        masks: File of the masks, likewise.
        frame: Number of the frame, from 1 on.
        num_frames: Frames of the video that have a mask.
        text: The sentence.
    """

    video: str
    image: Path
    masks: Path
    frame: int
    num_frames: int
    text: str


def read_samples(path: str | Path) -> list[JHMDBSample]:
    """Read ``jhmdb_sentences_samples_metadata.json``.

    Raises:
        MissingDataError: If the file is missing.
        DataError: If a row is not as it should be.
    """
    return read_rows(
        path,
        '[video, .../Rename_Images/<action>/<video>/<frame from 1 on>.png, '
        '.../puppet_mask/<action>/<video>/puppet_mask.mat, number of frames, '
        'expression]',
        _parse_row,
        PAGE,
    )


def identify_frames(image_ids: Iterable[str]) -> FrameChoice | None:
    """Identify the choice of scored frames by the content of a file.

    Args:
        image_ids: ``v_<video>_f_<frame>`` of each, in any order.

    Returns:
        The choice; ``None`` for a part of the set, which has no name.
    """
    names = sorted(map(str, image_ids))
    if len(names) != NUM_FRAMES:
        return None
    digest = sha256('\n'.join(names).encode()).hexdigest()
    return _CHOICES.get(digest, _UNKNOWN_CHOICE)


def _parse_row(row: list) -> JHMDBSample | str:
    """Return a row as a sample, or the code of what is wrong with it."""
    video, image_path, mask_path, length, text = row
    if not isinstance(text, str) or not text.strip():
        return 'expression-empty'
    if not is_plain_name(video):
        return 'name-unsafe'
    image = below(image_path, FRAME_FOLDER, depth=3)
    masks = below(mask_path, MASK_FOLDER, depth=3)
    if image is None or masks is None:
        return 'path-outside'
    if not image.stem.isdecimal() or type(length) is not int:
        return 'row-wrong'
    frame = int(image.stem)
    if frame == 0:
        return 'frames-from-zero'
    if frame > length:
        return 'row-wrong'
    return JHMDBSample(video, image, masks, frame, length, text)


def below(path: Any, folder: str, depth: int) -> Path | None:
    """Return the part of a path from ``folder`` on.

    Samples metadata name files relative to the folder *above* the one of the
    set, under the name this had on the computer of whoever wrote them:
    ``./jhmdb_sentences/Rename_Images/...``, ``data/...``, ``/home/...``.

    Args:
        path: The path, with slashes of either kind.
        folder: Folder of the set.
        depth: Parts of a path behind ``folder``.

    Returns:
        Path relative to the folder of the set; ``None`` if it is no such path.
    """
    parts = str(path).replace('\\', '/').split('/')
    if folder not in parts:
        return None
    tail = parts[len(parts) - 1 - parts[::-1].index(folder) :]
    if len(tail) != depth + 1 or not all(map(is_plain_name, tail)):
        return None
    return Path(*tail)


def read_sentences(path: str | Path, expected: int) -> dict[str, str]:
    """Read ``jhmdb_annotation.txt``: the sentence of each video.

    Args:
        path: The file.
        expected: How many sentences it must have.

    Raises:
        MissingDataError: If the file is missing.
        DataError: If a line is wrong, or their number.
    """
    rows = read_table(path)[1:]  # the first names the columns
    check_count(path, len(rows), expected, 'sentences', '--sentences')
    sentences: dict[str, str] = {}
    for number, (video, *words) in enumerate(rows, 2):
        text = ','.join(words)
        if not text or video in sentences:
            raise wrong_line(
                path,
                number,
                f'{video},{text}',
                'video,sentence, or a second sentence of the video',
            )
        sentences[video] = text
    return sentences


def read_puppet_masks(path: Path) -> np.ndarray:
    """Read a ``puppet_mask.mat``.

    Returns:
        bool, shape (T, H, W).

    Raises:
        MissingDataError: If the file is missing.
        MissingPackageError: If SciPy is not installed.
        DataError: If it is damaged or does not hold what it should.
    """
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise MissingPackageError(
            'Reading the masks of JHMDB-Sentences needs scipy: '
            'pip install scipy'
        ) from error
    if not path.is_file():
        raise MissingDataError(
            f'Masks {path} are missing',
            file=path,
            remedy=_ARCHIVE,
            code='mask-missing',
        )
    try:
        masks = loadmat(path, variable_names=['part_mask'])['part_mask']
    except Exception as error:
        raise _broken(
            path, f'it is damaged or has no "part_mask" ({error})'
        ) from None
    if masks.ndim not in (2, 3) or not masks.size:
        raise _broken(
            path,
            f'"part_mask" has the shape {masks.shape} where (H, W, T) is '
            'expected',
        )
    # MATLAB drops the last axis of a single frame.
    return np.atleast_3d(masks).transpose(2, 0, 1) > 0


def read_puppet_mask(
    path: Path, position: int, shape: tuple[int, int] | None = None
) -> np.ndarray:
    """Return the mask of a frame, bool, shape (H, W).

    Args:
        path: A ``puppet_mask.mat``.
        position: The frame, from 0 on.
        shape: Height and width of the frame, to check the order of axes.

    Raises:
        DataError: If the axes of the file are in another order, or it ends
            before the frame; see also :func:`read_puppet_masks`.
    """
    masks = read_puppet_masks(path)
    frames, *size = masks.shape
    if shape not in (None, tuple(size)) and set(shape) <= {frames, *size}:
        raise _broken(
            path,
            f'"part_mask" has the shape {(*size, frames)}, the frame '
            f'{tuple(shape)}; the axes are not (H, W, T)',
            'mask-transposed',
        )
    if position >= len(masks):
        raise DataError(
            f'{path} has masks of {len(masks)} frames, but frame '
            f'{position + 1} is to be scored; the samples metadata belong to '
            'another release.',
            file=path,
            code='masks-short',
        )
    return masks[position]


def _broken(path: Path, reason: str, code: str = 'mask-broken') -> DataError:
    """Return the error that a file of masks cannot be used."""
    return DataError(
        f'Masks {path} cannot be read: {reason}',
        file=path,
        remedy=_ARCHIVE,
        code=code,
    )
