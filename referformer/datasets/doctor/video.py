# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Reading everything of a video by the transforms of its dataset."""

import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from mmengine.dataset import BaseDataset

from referformer.datasets.base_refer_dataset import BaseReferDataset
from referformer.datasets.doctor.loading import Loading, open_frames
from referformer.datasets.doctor.problems import PROBLEMS
from referformer.datasets.doctor.report import Observation
from referformer.datasets.transforms.loading import BaseLoadReferAnnotations
from referformer.errors import MediaError, MissingPackageError, ReferError
from referformer.formats.frames import find_file

#: What differs between clips although they read the same.
_WORDS = (
    *('exp_id', 'text', 'text_obj_id', 'annotator', 'label'),
    *('image_id', 'subset', 'start_frame', 'sample_idx', 'expressions'),
    'attributes',
)
#: Frames that are decoded together, if they lie in a file.
_CHUNK = 64


class Video(NamedTuple):
    """A video, or a picture, with all that is annotated in it.

    Attributes:
        items: Numbers of a dataset and of an item, in order, as keys.
        weight: Frames, or what is known of their number.
        known: Objects which ``meta.json`` lists.
    """

    items: dict[tuple[int, int], None]
    weight: int
    known: frozenset[str] | None


@dataclass
class Shown:
    """What a video showed.

    Attributes:
        known: Objects which ``meta.json`` lists.
        quick: Whether no more than a frame was read.
        dataset: The first that has it, whose pipeline reads it.
        clips: The facts of its expressions, as far as they differ in what
            they mean.
        found: What is wrong with it.
        paths: Files of the frames that could be read.
        sizes: Height and width of the same.
        copies: Frames that are the same as the one before.
        ids: Values in the label maps of a folder.
        visible: Whether a clip shows what it means.
        whole: Whether all masks could be read.
    """

    known: frozenset[str] | None
    quick: bool
    dataset: Any = None
    clips: list[dict] = field(default_factory=list)
    found: list[Observation] = field(default_factory=list)
    paths: dict[int, str] = field(default_factory=dict)
    sizes: dict[int, tuple[int, int]] = field(default_factory=dict)
    copies: list[int] = field(default_factory=list)
    ids: dict[Path, set[int]] = field(default_factory=dict)
    visible: list[bool] = field(default_factory=list)
    whole: bool = True

    @property
    def item(self) -> dict:
        """Facts of the video."""
        return self.clips[0]

    def note(self, error: Exception) -> None:
        """Note an error; of a damaged video only the first."""
        observation = observe(error, self.item)
        codes = [o.code for o in self.found]
        if observation.code != 'video-broken' or 'video-broken' not in codes:
            self.found.append(observation)


#: Faults whose remedy only the reader knows.
_ADVICE_DIFFERS = {'json-broken', 'table-wrong', 'row-wrong'}


def observe(error: Exception, item: dict | None = None) -> Observation:
    """Tell an error as the report does.

    Args:
        error: Whatever was raised.
        item: The item that was being read.

    Raises:
        MissingPackageError: If that is the error; it is not about data.
    """
    if isinstance(error, MissingPackageError):
        raise error
    item = item or {}
    places = (item.get(key) for key in ('video_path', 'img_dir', 'video_id'))
    named = (getattr(error, name, None) for name in ('file', 'filename'))
    path = str(next((p for p in (*named, *places) if p is not None), '.'))
    message = getattr(error, 'message', str(error))
    missing = isinstance(error, FileNotFoundError)
    code = getattr(error, 'code', None)
    if code in PROBLEMS:
        pass
    elif code is not None:  # a code of the user's
        code = 'data-wrong'
    elif isinstance(error, MediaError):
        kind = 'video' if path == item.get('video_path') else 'frame'
        code = f'{kind}-missing' if missing else f'{kind}-broken'
    elif isinstance(error, ReferError | OSError):
        code = 'file-missing' if missing else 'data-wrong'
    else:
        code = 'load-failed'
        *_, frame = traceback.extract_tb(error.__traceback__)
        where = f'{Path(frame.filename).name}:{frame.lineno}'
        message = f'{type(error).__name__}: {message} ({where})'
    if message.startswith(path):
        message = message[len(path) :].lstrip(': ')
    elif code.endswith('-missing'):
        message = ''  # the path is reported anyway
    message = message.replace(f' {path}', '')
    remedy = getattr(error, 'remedy', None)
    if code in _ADVICE_DIFFERS and remedy:
        message = f'{message.rstrip(".;")}; {remedy.rstrip(".")}'
    return Observation(code, path, message)


def raw_item(dataset: Any, index: int) -> dict:
    """Return an item without the data that its files hold."""
    if isinstance(dataset, BaseReferDataset):
        return dataset.items[index]
    return BaseDataset.get_data_info(dataset, index)


def find_clips(item: dict) -> Iterator[dict]:
    """Yield the expressions of an item, each with the facts of the video."""
    for expression in item.get('expressions') or [{}]:
        yield {**item, **expression}


def show_video(datasets: Sequence[Any], quick: bool, video: Video) -> Shown:
    """Read a video.

    Args:
        datasets: Datasets.
        quick: Read the first frame only, and look whether the files of the
            others exist.
        video: What to read of them.
    """
    shown = Shown(video.known, quick)
    distinct: dict[str, dict] = {}
    for number, index in video.items:
        dataset = datasets[number]
        loading = _find_loading(dataset)
        try:
            item = dataset.get_data_info(index)
            if not loading.by_frame:
                for transform in loading.whole:
                    item = transform(item)
                continue
            item = loading.prepare(item)
        except Exception as error:  # also of custom datasets and transforms
            shown.found.append(observe(error, raw_item(dataset, index)))
            continue
        for clip in find_clips(item):
            facts = {k: v for k, v in clip.items() if k not in _WORDS}
            distinct.setdefault(repr(facts), clip)
        if shown.dataset is None:
            shown.dataset = dataset
    shown.clips = list(distinct.values())
    if shown.clips:
        shown.visible = [False] * len(shown.clips)
        try:
            _show_frames(shown)
        except Exception as error:  # also of custom datasets and transforms
            shown.note(error)
            shown.whole = False
    return shown


@lru_cache(maxsize=64)
def _find_loading(dataset: Any) -> Loading:
    """Return how a dataset reads, found once a process."""
    return Loading(dataset.pipeline.transforms)


def _show_frames(shown: Shown) -> None:
    """Read the frames and masks."""
    item = shown.item
    folder = item.get('img_dir')
    if folder is not None and not Path(folder).is_dir():
        shown.whole = False
        shown.found.append(Observation('video-missing', str(folder)))
        return
    positions: Sequence[int] = range(item['video_length'])
    if shown.quick:
        _look_for_files(shown)
        positions = [item.get('annotated_frame_id') or 0]
    size = 1 if item.get('video_path') is None else _CHUNK
    before = None
    for start in range(0, len(positions), size):
        chunk = positions[start : start + size]
        for position, frame in _read_frames(shown, chunk):
            image = frame.get('img')
            if image is not None:
                path = frame.get('img_path') or item.get('video_path')
                shown.paths[position] = str(path)
                shown.sizes[position] = image.shape[:2]
                if before is not None and np.array_equal(image, before):
                    shown.copies.append(position)
            before = image
            _show_masks(shown, position, frame)


def _look_for_files(shown: Shown) -> None:
    """Look whether the files of frames and masks exist."""
    for clip in shown.clips:
        for frame in open_frames(clip, range(clip['video_length'])):
            paths = {'frame-missing': frame.get('img_path')}
            if frame.get('mask_missing') != 'absent':
                paths['mask-missing'] = _mask_file(frame)
            for code, path in paths.items():
                if path is not None and find_file(path) is None:
                    shown.found.append(Observation(code, str(path)))


def _read_frames(
    shown: Shown, positions: Sequence[int]
) -> Iterator[tuple[int, dict]]:
    """Read frames, together if possible.

    Yields:
        Position and frame. One that cannot be read has the size of another.
    """
    loading = _find_loading(shown.dataset)
    try:
        frames = loading.read_frames(shown.item, positions)
    except Exception as error:  # also of custom datasets and transforms
        if len(positions) > 1:
            for position in positions:
                yield from _read_frames(shown, [position])
            return
        shown.note(error)
        if not shown.sizes:
            shown.whole = False
            return
        frames = open_frames(shown.item, positions)
        frames[0]['ori_shape'] = next(iter(shown.sizes.values()))
    yield from zip(positions, frames, strict=True)


def _show_masks(shown: Shown, position: int, frame: dict) -> None:
    """Read the masks of a frame, each file once."""
    opened: dict[tuple, Any] = {}
    for c, clip in enumerate(shown.clips):
        if position >= clip['video_length']:
            continue
        facts = {**frame, **open_frames(clip, [position])[0]}
        try:
            mask = _read_mask(shown, clip, facts, opened)
        except Exception as error:  # also of custom datasets and transforms
            shown.note(error)
            shown.whole = False
        else:
            shown.visible[c] |= mask is not None and bool(np.any(mask))


def _mask_file(frame: dict) -> str | None:
    """Return the file that has the mask of a frame, if it is a file."""
    return frame.get('mask_path') or frame.get('masks_file')


def _read_mask(
    shown: Shown,
    clip: dict,
    facts: dict,
    opened: dict[tuple, Any],
) -> np.ndarray | None:
    """Return the mask of a clip in a frame, shape (H, W) or (n, H, W)."""
    mask = None
    for step in _find_loading(shown.dataset).after_frames:
        transform = step.transform
        if not isinstance(transform, BaseLoadReferAnnotations):
            (facts,) = step([facts])
            if 'gt_masks' in facts:
                mask = facts['gt_masks']
                mask = getattr(mask, 'masks', mask)
            continue
        source = ('annotated_frame_id', 'mask_missing')
        key = (_mask_file(facts), *map(facts.get, source))
        if key not in opened:
            opened[key] = source = transform.open(facts)
            if key[0] and getattr(source, 'dtype', None) == np.uint8:
                ids = shown.ids.setdefault(Path(key[0]).parent, set())
                ids |= set(np.flatnonzero(np.bincount(source.ravel())))
        if opened[key] is not None:
            mask = transform.mask(opened[key], facts, clip)
    return mask
