# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""JHMDB-Sentences."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from referformer.datasets.doctor.a2d import check_truth, read_rows
from referformer.datasets.doctor.frames import (
    Task,
    check_text,
    image_size,
    is_plain_name,
)
from referformer.datasets.doctor.report import Observation, Report
from referformer.formats.jhmdb import (
    FRAME_FOLDER,
    MASK_FOLDER,
    below,
    read_puppet_masks,
)

TITLE = 'JHMDB-Sentences'
DATASET = 'JHMDBSentencesDataset'
SPLITS = ('test',)
#: Videos, each with one sentence and three frames that are scored.
VIDEOS = 928
FRAMES = 3
#: No video is longer; a wrong number should not keep us busy.
_LONGEST = 100_000
TRUTH = 'jhmdb_sentences_gt_annotations_in_coco_format.json'


class Split(NamedTuple):
    """Files of the set, relative to the root.

    Attributes:
        name (str): What it is called.
        ann_file (str): Rows of video, frame, masks, length, expression.
        truth_file (str | None): The same as ground truth in COCO form.
        official (bool): Whether numbers are compared with the full set.
    """

    name: str
    ann_file: str
    truth_file: str | None = None
    official: bool = True


class Clip(NamedTuple):
    """A video and its frames that are scored.

    Attributes:
        folder (Path): Its frames.
        suffix (str): How their names end.
        masks (Path): File of its masks.
        frames (tuple[int, ...]): Frames that are scored, from 1 on.
        length (int): Frames according to the annotation file.
        quick (bool): Decode nothing but the first frame.
    """

    folder: Path
    suffix: str
    masks: Path
    frames: tuple[int, ...]
    length: int
    quick: bool


def standard_split(root: Path, name: str) -> Split:
    """The set in the place where the converter puts it."""
    return Split(name, 'jhmdb_sentences_samples_metadata.json', TRUTH)


def config_split(root: Path, config: Mapping[str, Any]) -> list[Split]:
    """The split that a dataset config describes."""
    return [Split('test', config['ann_file'], official=False)]


def find_download(root: Path) -> Path | None:
    """What is there if the set was not converted."""
    path = root / 'jhmdb_annotation.txt'
    return path if path.is_file() else None


def check(
    root: Path, splits: Sequence[Split], report: Report, quick: bool
) -> Iterator[Task]:
    """Look at the table, and yield the videos to be looked at.

    Args:
        root (Path): Folder of the set.
        splits (Sequence[Split]): What to look at.
        report (Report): Where to note what is found.
        quick (bool): Decode only one frame of a video.

    Yields:
        Task: One a video.
    """
    for split in splits:
        path = root / split.ann_file
        rows = read_rows(path, 5, report)
        if rows is None:
            continue
        clips: dict[str, Clip] = {}
        names: set[str] = set()
        for position, row in enumerate(rows):
            clip = _check_row(root, position, row, path, report, quick)
            if clip is None:
                continue
            name = f'v_{row[0]}_f_{clip.frames[0]}'
            if name in names:
                report.add('row-repeated', path, f'row {position}: {name}')
            names.add(name)
            before = clips.get(row[0])
            if before is not None:
                frames = (*before.frames, *clip.frames)
                clip = before._replace(frames=frames)
            clips[row[0]] = clip
        report.count('videos', len(clips))
        report.count('rows', len(rows))
        if split.official and len(clips) != VIDEOS:
            text = f'{len(clips)} videos of {VIDEOS}'
            report.add('count-differs', path, text)
        for name, clip in clips.items():
            if split.official and len(clip.frames) != FRAMES:
                text = f'video {name}: {len(clip.frames)} frames of {FRAMES}'
                report.add('count-differs', path, text)
        if split.truth_file is not None:
            check_truth(root / split.truth_file, names, report)
        for clip in clips.values():
            yield Task(_check_clip, clip, 2 + len(clip.frames))


def _check_row(
    root: Path,
    position: int,
    row: Sequence[Any],
    path: Path,
    report: Report,
    quick: bool,
) -> Clip | None:
    """Look at a row; return where it leads."""
    video, frame_path, mask_path, length, text = row
    where = f'row {position}'
    code = check_text(text)
    if code is not None:
        report.add(code, path, f'{where}: {text!r}')
    if not is_plain_name(video):
        report.add('name-unsafe', path, f'{where}: video {video!r}')
        return None
    image = below(frame_path, FRAME_FOLDER, depth=3)
    masks = below(mask_path, MASK_FOLDER, depth=3)
    for given, read in ((frame_path, image), (mask_path, masks)):
        if read is None:
            report.add('path-outside', path, f'{where}: {given!r}')
    if image is None or masks is None:
        return None
    if not image.stem.isdecimal() or type(length) is not int:
        report.add('row-wrong', path, f'{where}: {list(row)!r}')
        return None
    number = int(image.stem)
    if number < 1:
        report.add('frames-from-zero', path, f'{where}: {image.name}')
        return None
    if not number <= length <= _LONGEST:
        text = f'{where}: frame {number} of {length}'
        report.add('row-wrong', path, text)
        return None
    return Clip(
        root / image.parent,
        image.suffix,
        root / masks,
        (number,),
        length,
        quick,
    )


def _check_clip(clip: Clip) -> list[Observation]:
    """Look at the frames and masks of a video."""
    return list(_observe(clip))


def _observe(clip: Clip) -> Iterator[Observation]:
    """Look at the frames and masks of a video."""
    if not clip.folder.is_dir():
        yield Observation('video-missing', str(clip.folder))
        return
    numbers = {
        int(path.stem)
        for path in clip.folder.glob(f'*{clip.suffix}')
        if path.stem.isdecimal()
    }
    if 0 in numbers:
        yield Observation('frames-from-zero', str(clip.folder))
    size = None
    # All frames may be read around the scored ones.
    for number in range(1, clip.length + 1):
        path = clip.folder / f'{number:05d}{clip.suffix}'
        if number not in numbers:
            yield Observation('frame-missing', str(path))
        elif not clip.quick or size is None:
            try:
                size = image_size(path.read_bytes())
            except OSError as error:
                yield Observation('frame-broken', str(path), str(error))
    yield from _check_masks(clip, size)


def _check_masks(
    clip: Clip, size: tuple[int, int] | None
) -> Iterator[Observation]:
    """Look at the masks of a video."""
    path = str(clip.masks)
    try:
        masks = read_puppet_masks(clip.masks)
    except FileNotFoundError:
        yield Observation('mask-missing', path)
        return
    except (OSError, ValueError) as error:
        yield Observation('mask-broken', path, str(error))
        return
    shape = masks.shape[1:]
    if size is not None and shape != size:
        # (H, W, T) is expected; whatever of it was exchanged.
        turned = set(size) <= {*shape, len(masks)}
        text = f'{shape[1]} x {shape[0]}, the frame {size[1]} x {size[0]}'
        code = 'mask-transposed' if turned else 'mask-size-differs'
        yield Observation(code, path, text)
        return
    for number in clip.frames:
        if number > len(masks):
            text = f'{len(masks)} masks, frame {number} is scored'
            yield Observation('masks-short', path, text)
        elif not masks[number - 1].any():
            yield Observation('mask-empty', path, f'frame {number}')
