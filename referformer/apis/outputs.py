# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Files of the results of a video: masks, numbers, an overlay.

They are written to a hidden folder and get their names when the whole video
is done.
"""

import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import cv2
import numpy as np
from pycocotools import mask as mask_utils

from referformer.apis.results import MaskFormat, Sink
from referformer.errors import ConfigError, check_choice
from referformer.formats.coco import encode_masks
from referformer.formats.files import write_atomic
from referformer.formats.label_maps import write_binary_mask
from referformer.media.pictures import write_image
from referformer.media.sound import Sound
from referformer.media.sources import FrameSource
from referformer.media.writer import VideoWriter
from referformer.prediction import FrameResult, Predictor
from referformer.visualization import ReferLocalVisualizer
from referformer.visualization.drawing import (
    Colour,
    colour_of,
    contrasting_colours,
    enlarge,
)


@dataclass(frozen=True)
class OutputOptions:
    """The files to write for a video.

    Args:
        masks (MaskFormat): ``'png'`` writes files, ``'rle'`` puts masks into
            ``results.json``.
        overlay (bool): Whether to write an overlay.
        boxes (bool): Whether to draw boxes with scores on it.
        points (bool): Whether to draw reference points on it.
        scale (int): How many times the frames of the overlay are enlarged.
        still (bool): Whether to write four frames of the overlay of a video
            as a picture, too.

    Raises:
        ConfigError: If ``masks`` is none of these, or ``scale`` below 1.
    """

    masks: MaskFormat = 'none'
    overlay: bool = True
    boxes: bool = False
    points: bool = False
    scale: int = 1
    still: bool = False

    def __post_init__(self) -> None:
        check_choice('masks', self.masks, get_args(MaskFormat))
        if self.scale < 1:
            raise ConfigError(f'scale is {self.scale}; it must be at least 1.')


#: Names of the files of a video.
_FILES = ('results.json', 'overlay.mp4', 'overlay.png', 'masks')


def expression_folder(number: int, text: str) -> str:
    """Return a folder name for an expression, such as ``00-the-red-car``."""
    words = re.sub(r'\W+', '-', text.lower()).strip('-')
    # file systems count bytes
    words = words.encode()[:60].decode(errors='ignore').strip('-')
    return f'{number:02d}-{words}' if words else f'{number:02d}'


def mask_sink(folder: Path, texts: Sequence[str]) -> Sink:
    """Write masks as ``<expression>/<frame>.png``, white on black."""
    folders = [
        folder / expression_folder(number, text)
        for number, text in enumerate(texts)
    ]

    def write(result: FrameResult) -> None:
        for each, mask in zip(folders, result.masks, strict=True):
            write_binary_mask(each / f'{result.frame.name}.png', mask)

    return write


Colours = Callable[[FrameResult], tuple[Colour, ...]]
"""Colours of the expressions, told by the result of any frame."""


def palette_colours(result: FrameResult) -> tuple[Colour, ...]:
    """Return the colours of the palette, in its order."""
    return tuple(map(colour_of, range(len(result.masks))))


class LegendColours:
    """Colours that contrast with what the masks cover in the first frame."""

    def __init__(self) -> None:
        self._chosen: tuple[Colour, ...] = ()

    def __call__(self, result: FrameResult) -> tuple[Colour, ...]:
        """Return them, given the result of the first frame or a later one."""
        if not self._chosen:
            image = result.frame.image
            self._chosen = (
                palette_colours(result)  # nothing is drawn
                if image is None
                else contrasting_colours(image[..., ::-1], result.masks)
            )
        return self._chosen


@contextmanager
def json_sink(
    path: Path,
    source: FrameSource,
    texts: Sequence[str],
    predictor: Predictor,
    with_masks: bool,
    colours: Colours = palette_colours,
) -> Iterator[Sink]:
    """Write a JSON file, a line per frame, without keeping the frames."""
    windows: list[str] = []
    number = 0

    def write(result: FrameResult) -> None:
        nonlocal number
        if not number:
            shape = result.frame.shape
            head = _head(source, texts, predictor, shape, colours(result))
            file.write(f'{head},\n "frames": [\n')
        if result.window == len(windows):
            scores = _rounded(result.window_scores, 4)
            windows.append(json.dumps({'start': number, 'scores': scores}))
        frame = {
            'name': result.frame.name,
            'index': result.frame.index,
            'time': round(result.frame.time, 6),
            'window': result.window,
            'scores': _rounded(result.scores, 4),
            'boxes': _rounded(result.boxes, 2),
        }
        if with_masks:
            frame['masks'] = encode_masks(result.masks)
        comma = ',\n' if number else ''
        file.write(f'{comma}  {json.dumps(frame, ensure_ascii=False)}')
        number += 1

    # names of files need not be UTF-8; the escape is one of JSON's own
    with path.open('w', encoding='utf-8', errors='backslashreplace') as file:
        yield write
        rows = ',\n  '.join(windows)
        file.write(f'\n ],\n "windows": [\n  {rows}\n ]\n}}\n')


@contextmanager
def coco_sink(
    path: Path, source: FrameSource, texts: Sequence[str]
) -> Iterator[Sink]:
    """Write masks as instances of COCO, once the block ends.

    A frame is an image, an expression a category, and a mask an annotation
    with a score; empty masks have none.
    """
    images: list[dict] = []
    annotations: list[dict] = []

    def write(result: FrameResult) -> None:
        frame = result.frame
        height, width = frame.shape
        images.append(
            {
                'id': len(images) + 1,
                'file_name': f'{source.name}/{frame.name}.png',
                'height': height,
                'width': width,
                'frame': frame.index,
                'time': round(frame.time, 6),
            }
        )
        scores = _rounded(result.scores, 4)
        for number, rle in enumerate(encode_masks(result.masks)):
            area = int(mask_utils.area(rle))
            if area:
                annotation = {
                    'id': len(annotations) + 1,
                    'image_id': len(images),
                    'category_id': number + 1,
                    'segmentation': rle,
                    'area': area,
                    'bbox': mask_utils.toBbox(rle).tolist(),
                    'iscrowd': 0,
                    'score': scores[number],
                }
                annotations.append(annotation)

    yield write
    categories = [
        {'id': number, 'name': text} for number, text in enumerate(texts, 1)
    ]
    content = {
        'images': images,
        'categories': categories,
        'annotations': annotations,
    }
    write_atomic(path, json.dumps(content, ensure_ascii=False))


def _head(
    source: FrameSource,
    texts: Sequence[str],
    predictor: Predictor,
    shape: tuple[int, int],
    colours: Sequence[Colour],
) -> str:
    """Return the header of the JSON file."""
    head = {
        'video': {
            'name': source.name,
            'path': source.path,
            'width': shape[1],
            'height': shape[0],
            'fps': round(source.fps, 6),
            'frames': len(source),
            'missing_frames': source.missing,
        },
        'settings': predictor.settings(),
        'expressions': [
            {'text': text, 'colour': colour}
            for text, colour in zip(texts, colours, strict=True)
        ],
    }
    text = json.dumps(head, ensure_ascii=False, indent=1)
    return text.removesuffix('\n}')


def _rounded(values: np.ndarray, digits: int) -> list:
    """Return float32 numbers as short ones: 0.1, not 0.10000000149."""
    return values.astype(np.float64).round(digits).tolist()


@contextmanager
def overlay_sink(
    path: Path,
    source: FrameSource,
    texts: Sequence[str],
    visualizer: ReferLocalVisualizer,
    options: OutputOptions,
    colours: Colours = palette_colours,
) -> Iterator[Sink]:
    """Write the frames with masks and a legend drawn onto them.

    A path that ends in ``.mp4`` becomes a video with the sound of the
    source, and a picture of four frames if asked for; any other path becomes
    the picture of a single frame.
    """
    start, video = float(source.times[0]), None
    number, shown = 0, {}
    if options.still:
        shown = dict.fromkeys((2 * n + 1) * len(source) // 8 for n in range(4))
    with ExitStack() as exits:
        if path.suffix == '.mp4':
            sound = None
            if source.path is not None and Path(source.path).is_file():
                end = float(source.times[-1]) + 1 / source.fps
                sound = Sound(source.path, start, end)
            writer = VideoWriter(path, source.fps, sound)
            video = exits.enter_context(writer)

        def write(result: FrameResult) -> None:
            nonlocal number
            scale = options.scale
            image = cv2.cvtColor(result.frame.image, cv2.COLOR_BGR2RGB)
            drawn = visualizer.draw_expressions(
                enlarge(image, scale, cv2.INTER_CUBIC),
                texts,
                [enlarge(mask, scale) for mask in result.masks],
                result.scores,
                result.boxes * scale if options.boxes else None,
                result.points * scale if options.points else None,
                colours(result),
            )
            if video is None:
                write_image(path, drawn)
                return
            video.write(drawn, result.frame.time - start)
            if number in shown:
                shown[number] = drawn
            number += 1

        yield write
    if video is not None and shown:
        write_image(path.with_suffix('.png'), _tile(list(shown.values())))


def _tile(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Put four pictures of one size into two rows, fewer into one."""
    rows = [pictures[:2], pictures[2:]] if len(pictures) == 4 else [pictures]
    return np.concatenate([np.concatenate(row, 1) for row in rows])


@contextmanager
def open_files(
    folder: Path,
    source: FrameSource,
    texts: Sequence[str],
    predictor: Predictor,
    options: OutputOptions,
    visualizer: ReferLocalVisualizer,
) -> Iterator[tuple[list[Sink], dict[str, str]]]:
    """Open the files of a video; they appear when the block ends well.

    Yields:
        tuple: Their sinks, and the names they will have by kind.

    Raises:
        ConfigError: If ``folder`` holds files that this did not write.
    """
    names = {'json': 'results.json'}
    colours = LegendColours()
    with staged_folder(folder) as place, ExitStack() as exits:
        path = place / names['json']
        rle = options.masks == 'rle'
        json_file = json_sink(path, source, texts, predictor, rle, colours)
        sinks = [exits.enter_context(json_file)]
        if options.masks == 'png':
            names['masks'] = 'masks'
            sinks.append(mask_sink(place / 'masks', texts))
        if options.overlay:
            name = 'overlay.png' if source.is_picture else 'overlay.mp4'
            names['overlay'] = name
            overlay = overlay_sink(
                place / name, source, texts, visualizer, options, colours
            )
            sinks.append(exits.enter_context(overlay))
            if options.still and not source.is_picture:
                names['still'] = 'overlay.png'
        yield sinks, {key: str(folder / name) for key, name in names.items()}


@contextmanager
def staged_folder(folder: Path) -> Iterator[Path]:
    """Hand out a hidden folder whose content moves to ``folder`` on success.

    An older set of files is replaced as a whole. If the block fails, nothing
    of the new one remains.

    Raises:
        ConfigError: If ``folder`` is a file, or files would be replaced
            that are not known to be ours.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f'{folder} is a file; give a folder.')
    older = [name for name in _FILES if (folder / name).exists()]
    if older and 'results.json' not in older:
        raise ConfigError(
            f'{folder / older[0]} exists and was not written by this tool '
            '(there is no results.json beside it); choose another folder.'
        )
    folder.mkdir(parents=True, exist_ok=True)
    unique = f'{os.getpid()}-{secrets.token_hex(4)}'
    staging = folder / f'.{unique}.tmp'
    staging.mkdir()
    try:
        yield staging
        # an older set goes first, as it may have held more than the new one,
        # and by its name, as the files of many masks take long to remove;
        # results.json comes last, as it stands for a complete set
        replaced = staging / 'replaced'
        replaced.mkdir()
        for name in older:
            (folder / name).replace(replaced / name)
        for name in reversed(_FILES):
            if (staging / name).exists():
                (staging / name).replace(folder / name)
    finally:
        try:
            shutil.rmtree(staging, ignore_errors=True)
        except BaseException:  # Ctrl-C
            shutil.rmtree(staging, ignore_errors=True)
            raise
        if not any(folder.iterdir()):
            folder.rmdir()
