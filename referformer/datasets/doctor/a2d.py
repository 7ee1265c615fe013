# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""A2D-Sentences."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from referformer.datasets.a2d_sentences import MASK_FOLDER, VIDEO_FOLDERS
from referformer.datasets.doctor.frames import (
    Task,
    check_text,
    is_plain_name,
    read_json,
)
from referformer.datasets.doctor.report import Observation, Report
from referformer.formats.a2d import read_a2d_frame
from referformer.formats.text_files import read_table
from referformer.media.reader import VideoReader

TITLE = 'A2D-Sentences'
DATASET = 'A2DSentencesDataset'
SPLITS = ('train', 'test')
#: Sentences of the release; each is about three to five frames.
SENTENCES = 6655
TRUTH = 'a2d_sentences_test_annotations_in_coco_format.json'
#: Masks and frames may differ by so many pixels: they were scaled apart.
_ROUNDING = 2


class Split(NamedTuple):
    """Files of a split, relative to the root.

    Attributes:
        name (str): What it is called.
        ann_file (str): Rows of expression, video, frame, instance.
        video_dir (str): Videos.
        mask_dir (str): Masks.
        truth_file (str | None): The same as ground truth in COCO form.
        train (bool): Whether it is trained on.
        official (bool): Whether numbers are compared with the full set.
    """

    name: str
    ann_file: str
    video_dir: str
    mask_dir: str
    truth_file: str | None = None
    train: bool = False
    official: bool = True


class Frame(NamedTuple):
    """An annotated frame.

    Attributes:
        number (int): From 1 on.
        mask (Path): File of its masks.
        instances (tuple[int, ...]): Those which expressions mean.
    """

    number: int
    mask: Path
    instances: tuple[int, ...]


class Clip(NamedTuple):
    """A video and its annotated frames.

    Attributes:
        path (Path): The file.
        frames (tuple[Frame, ...]): In order of time.
        quick (bool): Decode the first annotated frame only.
    """

    path: Path
    frames: tuple[Frame, ...]
    quick: bool


def find_videos(root: Path) -> str:
    """Folder of the videos, under either of its names."""
    present = (name for name in VIDEO_FOLDERS if (root / name).is_dir())
    return next(present, VIDEO_FOLDERS[0])


def standard_split(root: Path, name: str) -> Split:
    """A split in the place where the converter puts it."""
    return Split(
        name,
        f'a2d_sentences_single_frame_{name}_annotations.json',
        find_videos(root),
        MASK_FOLDER,
        truth_file=TRUTH if name == 'test' else None,
        train=name == 'train',
    )


def config_split(root: Path, config: Mapping[str, Any]) -> list[Split]:
    """The split that a dataset config describes."""
    prefix = config.get('data_prefix') or {}
    train = not config.get('test_mode', False)
    return [
        Split(
            'train' if train else 'test',
            config['ann_file'],
            prefix.get('video', find_videos(root)),
            prefix.get('mask', MASK_FOLDER),
            train=train,
            official=False,
        )
    ]


def find_download(root: Path) -> Path | None:
    """What is there if the set was not converted."""
    path = root / 'text_annotations/a2d_annotation.txt'
    return path if path.is_file() else None


def check(
    root: Path, splits: Sequence[Split], report: Report, quick: bool
) -> Iterator[Task]:
    """Look at the tables, and yield the videos to be looked at.

    Args:
        root (Path): Folder of the set.
        splits (Sequence[Split]): What to look at.
        report (Report): Where to note what is found.
        quick (bool): Decode the first annotated frame of a video only.

    Yields:
        Task: One a video.
    """
    trained: set[str] = set()
    usage = _read_usage(root)
    for split in sorted(splits, key=lambda split: not split.train):
        path = root / split.ann_file
        rows = read_rows(path, 4, report)
        if rows is None:
            continue
        wanted: dict[str, dict[int, set[int]]] = defaultdict(dict)
        names: set[str] = set()
        for position, row in enumerate(rows):
            if not _check_row(position, row, path, report):
                continue
            _, video, frame, instance = row
            name = f'v_{video}_f_{frame}_i_{instance}'
            if name in names and not split.train:
                report.add('row-repeated', path, f'row {position}: {name}')
            names.add(name)
            wanted[video].setdefault(frame, set()).add(instance)
        report.count('videos', len(wanted))
        report.count('rows', len(rows))
        for video in sorted(wanted):
            said = usage.get(video, split.name)
            if said != split.name:
                text = f'video {video} is of {said}'
                report.add('split-wrong', path, text)
        for video in sorted(trained & set(wanted)):
            report.add('split-overlap', path, f'video {video}')
        if split.train:
            trained |= set(wanted)
        if split.truth_file is not None:
            check_truth(root / split.truth_file, names, report)
        yield from _find_clips(root, split, wanted, report, quick)
    path = root / 'text_annotations/a2d_annotation.txt'
    if path.is_file():
        number = len(read_table(path)) - 1  # the first line names the columns
        if number != SENTENCES:
            text = f'{number} sentences of {SENTENCES}'
            report.add('count-differs', path, text)


def _read_usage(root: Path) -> dict[str, str]:
    """Return the split of each video that the release tells of."""
    path = root / 'Release/videoset.csv'
    if not path.is_file():
        return {}
    names = {'0': 'train', '1': 'test'}
    rows = [row for row in read_table(path) if row[-1] in names]
    return {row[0]: names[row[-1]] for row in rows}


def read_rows(path: Path, width: int, report: Report) -> list[list] | None:
    """Read a JSON file that is a list of rows."""
    rows = read_json(path, report, 'file-missing')
    if rows is None:
        return None
    if not isinstance(rows, list) or not rows:
        report.add('table-wrong', path, 'no list of rows')
        return None
    good = []
    for position, row in enumerate(rows):
        if isinstance(row, list) and len(row) == width:
            good.append(row)
        else:
            report.add('row-wrong', path, f'row {position}: {row!r}')
    return good


def _check_row(
    position: int, row: Sequence[Any], path: Path, report: Report
) -> bool:
    """Look at a row; return whether it can be followed up."""
    text, video, frame, instance = row
    where = f'row {position}'
    code = check_text(text)
    if code is not None:
        report.add(code, path, f'{where}: {text!r}')
    if not is_plain_name(video):
        report.add('name-unsafe', path, f'{where}: video {video!r}')
        return False
    if isinstance(instance, str) and 'copy' in instance:
        text = f'{where}: video {video}, instance {instance!r}'
        report.add('instance-copy', path, text)
        return False
    if type(frame) is not int or type(instance) is not int or instance < 0:
        report.add('row-wrong', path, f'{where}: {list(row)!r}')
        return False
    if frame < 1:
        report.add('frames-from-zero', path, f'{where}: frame {frame}')
        return False
    return True


def check_truth(path: Path, names: set[str], report: Report) -> None:
    """Compare the ground truth for prediction files with the rows."""
    content = read_json(path, report, 'truth-file-absent')
    if content is None:
        return
    images = content.get('images') if isinstance(content, dict) else None
    if not isinstance(images, list):
        report.add('table-wrong', path, 'no list "images"')
        return
    # as text, for an id may be anything in a damaged file
    known = {str(i.get('id')) for i in images if isinstance(i, dict)}
    odd = names ^ known
    if odd:
        first = min(odd)
        text = f'{len(odd)} of {len(names | known)} ids, first {first}'
        report.add('truth-differs', path, text)


def _find_clips(
    root: Path,
    split: Split,
    wanted: Mapping[str, Mapping[int, set[int]]],
    report: Report,
    quick: bool,
) -> Iterator[Task]:
    """Look for the files of a split; yield its videos."""
    video_dir, mask_dir = root / split.video_dir, root / split.mask_dir
    for folder in (video_dir, mask_dir):
        if folder.is_dir():
            continue
        # Some archives lack the folder above, or write it in other letters.
        other = [
            path
            for path in (*root.glob('*'), *root.glob('*/*'))
            if path.is_dir()
            and path.name.lower() in {folder.name.lower(), 'clips320'}
        ]
        if other and folder == video_dir:
            report.add('folder-misplaced', other[0], f'expected {folder.name}')
        else:
            report.add('folder-missing', folder)
    if not video_dir.is_dir():
        return
    present = {path.name for path in video_dir.iterdir()}
    for video, frames in wanted.items():
        path = video_dir / f'{video}.mp4'
        if path.name not in present:
            report.add('video-missing', path)
            continue
        annotated = tuple(
            Frame(
                number,
                mask_dir / video / f'{number:05d}.h5',
                tuple(sorted(instances)),
            )
            for number, instances in sorted(frames.items())
        )
        clip = Clip(path, annotated if mask_dir.is_dir() else (), quick)
        yield Task(_check_clip, clip, 1 + len(annotated))


def _check_clip(clip: Clip) -> list[Observation]:
    """Look at a video and the masks of its annotated frames."""
    found = []
    size = None
    try:
        with VideoReader(clip.path) as video:
            length = len(video)
            wanted = [
                frame.number - 1
                for frame in clip.frames
                if frame.number <= length
            ]
            pictures = video.read(wanted[:1] if clip.quick else wanted)
            if pictures:
                size = pictures[0].shape[:2]
    except (OSError, ValueError) as error:
        found.append(Observation('video-broken', str(clip.path), str(error)))
        length = None
    for frame in clip.frames:
        if length is not None and frame.number > length:
            text = f'{length} frames, frame {frame.number} is annotated'
            found.append(Observation('video-short', str(clip.path), text))
        if not clip.quick or frame is clip.frames[0]:
            found += _check_masks(frame, size)
        elif not frame.mask.is_file():
            found.append(Observation('mask-missing', str(frame.mask)))
    return found


def _check_masks(
    frame: Frame, size: tuple[int, int] | None
) -> Iterator[Observation]:
    """Look at the masks of a frame."""
    path = str(frame.mask)
    try:
        truth = read_a2d_frame(frame.mask)
    except FileNotFoundError:
        yield Observation('mask-missing', path)
        return
    except (OSError, ValueError) as error:
        yield Observation('mask-broken', path, str(error))
        return
    shape = truth.masks.shape[1:]
    if size is not None and _far(shape, size):
        turned = not _far(shape[::-1], size)
        text = f'{shape[1]} x {shape[0]}, the frame {size[1]} x {size[0]}'
        code = 'mask-transposed' if turned else 'mask-size-differs'
        yield Observation(code, path, text)
    for instance in frame.instances:
        if instance not in truth.ids:
            text = f'instance {instance}, only {truth.ids} are there'
            yield Observation('instance-missing', path, text)
        elif not truth.masks[truth.ids.index(instance)].any():
            yield Observation('mask-empty', path, f'instance {instance}')


def _far(shape: Sequence[int], size: Sequence[int]) -> bool:
    """Whether two sizes differ by more than rounding."""
    return any(
        abs(a - b) > _ROUNDING for a, b in zip(shape, size, strict=True)
    )
