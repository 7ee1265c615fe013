# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Ref-SAV: expressions about the videos of SA-V, and the masks of these.

``Ref-SAV.json`` names for each video its files and its objects::

    {"sav_000002": {"video_path": "sav_000/sav_train/sav_000/sav_000002.mp4",
                    "anno_path": ".../sav_000002_manual.json",
                    "objects": {"0": {"obj_id": 0, "formated": "A man ..."}}}}

SA-V annotates every fourth frame of a video. Its JSON file has a list for
each such frame, with a mask for each object::

    {"video_frame_count": 483.0, ...,
     "masklet": [[{"size": [848, 480], "counts": "..."}, ...], ...]}

Sources: ``sav_dataset/README.md`` of github.com/facebookresearch/sam2, and the
loader of the authors of Ref-SAV, ``sa2va_data_03_refvos.py`` of
github.com/bytedance/Sa2VA.
"""

import math
import re
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from referformer.errors import DataError, MissingDataError, report_error
from referformer.formats.frames import is_relative_name
from referformer.formats.rle import decode_union, to_rle
from referformer.formats.text_files import read_json, show

#: SA-V annotates every so many frames of a video.
FRAME_STRIDE = 4
#: The number of frames stands before the masks, near the top of the file.
_HEAD = 2048
_COUNT = re.compile(rb'"video_frame_count"\s*:\s*([0-9.]+)\s*[,}]')


class SAVVideo(NamedTuple):
    """A video of Ref-SAV.

    Attributes:
        video: Its file, below the folder of SA-V.
        masklets: The file of its masks, likewise.
        texts: The expression of each object, by id.
    """

    video: str
    masklets: str
    texts: dict[str, str]


def read_ref_sav(path: str | Path) -> dict[str, SAVVideo]:
    """Read ``Ref-SAV.json``.

    Returns:
        The videos by name.

    Raises:
        MissingDataError: If the file does not exist.
        DataError: If it is no such file.
    """
    content = read_json(path, what='expressions', unique_keys=True)
    if not isinstance(content, dict) or 'videos' in content:
        raise DataError(
            f'{path} is no table of videos as Ref-SAV.json; the file of the '
            'evaluation set is read by RefSAVEvalDataset.',
            file=path,
            code='table-wrong',
        )
    videos = {}
    for name, entry in content.items():
        try:
            videos[name] = _parse_video(path, name, entry)
        except DataError as error:
            report_error(error)
    return videos


def _parse_video(path: str | Path, name: str, entry: Any) -> SAVVideo:
    """Check the entry of a video; ``DataError`` if it is none."""

    def fault(text: str, code: str = 'table-wrong') -> DataError:
        text = f'{path}: video {name} {text}; correct it.'
        return DataError(text, file=path, code=code)

    entry = entry if isinstance(entry, dict) else {}
    paths = [entry.get('video_path'), entry.get('anno_path')]
    objects = entry.get('objects')
    if not all(isinstance(file, str) for file in paths):
        raise fault('has no texts "video_path" and "anno_path"')
    if not isinstance(objects, dict):
        raise fault('has no table "objects"')
    paths = [_below_sav(file) for file in paths]
    unsafe = [n for n in (name, *paths) if not is_relative_name(n)]
    if unsafe:
        text = f'has a name that leads elsewhere, {show(unsafe[0])}'
        raise fault(text, 'name-unsafe')
    texts = {}
    for obj_id, said in objects.items():
        text = said.get('formated') if isinstance(said, dict) else None
        if not obj_id.isdecimal() or not isinstance(text, str):
            raise fault(
                f'has an object {show(obj_id)} that is no number or lacks the '
                'text "formated"'
            )
        if text.strip():
            texts[obj_id] = text
        else:
            code = 'expression-empty'
            report_error(fault(f'says nothing of object {obj_id}', code))
    return SAVVideo(*paths, texts)


def _below_sav(path: str) -> str:
    """Return a path without the folder of its archive.

    The file says ``sav_000/sav_train/sav_000/...``, where the archives are
    called ``sav_000.tar`` and hold ``sav_train/sav_000/...``.
    """
    parts = path.removeprefix('./').split('/')
    if 'sav_train' in parts:
        parts = parts[parts.index('sav_train') :]
    return '/'.join(parts)


class Masklets(NamedTuple):
    """The masks of a video of SA-V.

    Attributes:
        path: The file.
        frames: For each annotated frame the run-length code of each object.
    """

    path: Path
    frames: list[list[Any]]

    def mask(
        self, obj_id: str, frame: int, shape: tuple[int, int]
    ) -> np.ndarray:
        """Return the mask of an object.

        Args:
            obj_id: Position of the object in the lists.
            frame: Position among the annotated frames.
            shape: Height and width of the frame.

        Returns:
            bool, shape (H, W).

        Raises:
            DataError: If there is no such mask, or it is unreadable or of
                another size.
        """
        where = f'{self.path}: object {obj_id} of annotated frame {frame}'
        code, k = None, int(obj_id)
        if frame >= len(self.frames):
            code = 'masks-of-frames-differ'
            where = f'{self.path} has masks of {len(self.frames)} frames, so'
            reason = f'none of frame {frame}'
        elif k >= len(self.frames[frame]):
            code, reason = 'masklet-unknown', 'is not there'
        else:
            rle = self.frames[frame][k]
            size = rle.get('size') if isinstance(rle, dict) else None
            if isinstance(size, list) and size != list(shape):
                turned = size == list(shape)[::-1]
                code = 'mask-transposed' if turned else 'mask-size-differs'
            try:
                return decode_union([to_rle(rle, *shape)], shape)
            except ValueError as error:
                code, reason = code or 'rle-broken', str(error)
        raise DataError(
            f'{where} {reason}',
            file=self.path,
            code=code,
            remedy='extract the archive of SA-V again.',
        )


@lru_cache(maxsize=4)
def read_masklets(path: str | Path) -> Masklets:
    """Read the masks of a video, once for the frames of a clip.

    Raises:
        MissingDataError: If the file does not exist.
        DataError: If it is no file of masks of SA-V.
    """
    try:
        content = read_json(path, what='masks of SA-V')
    except MissingDataError as error:
        error.code = 'masklets-missing'
        raise
    frames = content.get('masklet') if isinstance(content, dict) else None
    if not isinstance(frames, list) or not all(
        isinstance(masks, list) for masks in frames
    ):
        raise DataError(
            f'{path} has no list "masklet" of lists; it is no file of masks '
            'of SA-V.',
            file=path,
            code='table-wrong',
        )
    return Masklets(Path(path), frames)


def count_annotated(path: str | Path) -> int:
    """Return how many frames of a video SA-V annotates.

    It reads only the top of the file of masks.

    Raises:
        MissingDataError: If the file does not exist.
        DataError: If it is no file of masks of SA-V.
    """
    try:
        with Path(path).open('rb') as file:
            found = _COUNT.search(file.read(_HEAD))
    except FileNotFoundError:
        found = None
    if found is None:
        return len(read_masklets(path).frames)
    return math.ceil(float(found[1]) / FRAME_STRIDE)
