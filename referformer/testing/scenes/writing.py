# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Writing a set in the Ref-YouTube-VOS layout."""

import dataclasses
import json
import os
from pathlib import Path
from typing import NamedTuple

import cv2
from PIL import Image
from tqdm import tqdm

from referformer.errors import ConfigError, MediaError
from referformer.formats.files import atomic_path, write_json
from referformer.testing.motion_scenes import Expression as MotionExpression
from referformer.testing.motion_scenes import (
    MotionScene,
    MotionSceneParams,
    render_scene,
)
from referformer.testing.scenes.params import SPLITS, VERSION, SyntheticParams
from referformer.testing.scenes.rendering import SyntheticVideo, render_video
from referformer.testing.scenes.sentences import Expression
from referformer.utils.parallel import run_tasks

Params = SyntheticParams | MotionSceneParams
Video = SyntheticVideo | MotionScene

MANIFEST = 'synthetic.json'
# Frame numbers step by five, as in the real data, so that code which takes the
# position of a frame for its name fails here already.
_FRAME_STEP = 5


def _palette() -> list[int]:
    """Return 256 RGB triples for id maps: the colours of this module."""
    colours = [(0, 0, 0), (220, 60, 60), (70, 190, 90), (230, 200, 60)]
    colours += [(80, 120, 230), (200, 90, 210), (80, 210, 220)]
    colours += [(c, c, c) for c in range(len(colours), 256)]
    return [value for colour in colours for value in colour]


def _write_video(
    video: Video, folder: Path, video_id: str
) -> tuple[dict, dict]:
    """Write frames and masks; return the entries for the two json files."""
    images = folder / 'JPEGImages' / video_id
    masks = folder / 'Annotations' / video_id
    images.mkdir(parents=True)
    masks.mkdir(parents=True)
    names = [f'{_FRAME_STEP * t:05d}' for t in range(len(video.frames))]
    palette = _palette()
    for name, frame, ids in zip(names, video.frames, video.ids, strict=True):
        path = images / f'{name}.jpg'
        quality = [cv2.IMWRITE_JPEG_QUALITY, 95]
        if not cv2.imwrite(str(path), frame[..., ::-1], quality):
            raise MediaError(
                f'Could not write {path}; is the disk full?', file=path
            )
        picture = Image.fromarray(ids)
        picture.putpalette(palette)
        picture.save(masks / f'{name}.png')

    meta = {
        'objects': {
            str(number): {
                'category': obj.category,
                'frames': [
                    name
                    for name, ids in zip(names, video.ids, strict=True)
                    if (ids == number).any()
                ],
                'attributes': obj.attributes,
            }
            for number, obj in enumerate(video.objects, start=1)
        }
    }
    sentences = {
        'expressions': {
            str(number): {
                'exp': expression.text,
                'obj_id': str(expression.obj_id),
                'mentions': list(expression.mentions),
                **_groups(expression),
            }
            for number, expression in enumerate(video.expressions)
        },
        'frames': names,
    }
    return meta, sentences


def _groups(expression: Expression | MotionExpression) -> dict:
    """Return the attributes by which scores can be grouped."""
    if isinstance(expression, Expression):
        return {}
    return {'attributes': {'cue': expression.cue}}


def _render(params: Params, split: str, index: int) -> Video:
    if isinstance(params, SyntheticParams):
        return render_video(params, split, index)
    return render_scene(params, split, index)


def _manifest(params: Params) -> dict:
    version = VERSION
    if isinstance(params, MotionSceneParams):
        version = f'motion {params.VERSION}'
    return {'version': version, 'params': dataclasses.asdict(params)}


def _differences(found: dict, wanted: dict) -> str:
    """Say in which parameters two manifests differ."""
    old = {'version': found.get('version'), **found.get('params', {})}
    new = {'version': wanted['version'], **wanted['params']}
    return ', '.join(
        f'{name} is {old.get(name)}, not {value}'
        for name, value in new.items()
        if old.get(name) != value
    )


def _is_ready(out: Path, params: Params) -> bool:
    """Tell whether ``out`` already holds exactly the wanted set.

    Raises:
        ConfigError: If ``out`` holds anything else.
    """
    if not out.exists():
        return False
    if out.is_dir() and not any(out.iterdir()):
        return False
    path = out / MANIFEST
    if not path.is_file():
        raise ConfigError(
            f'{out} exists and is no synthetic set (it has no {MANIFEST}); '
            'choose another folder.'
        )
    try:
        found = dict(json.loads(path.read_text(encoding='utf-8')))
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f'{path} is not readable ({error}); remove {out} to make the set '
            'again.'
        ) from error
    wanted = _manifest(params)
    if found != wanted:
        raise ConfigError(
            f'{out} holds another synthetic set ({_differences(found, wanted)}'
            '); remove it or choose another folder.',
            file=out,
        )
    return True


class _Split(NamedTuple):
    """What the videos of a split have in common."""

    params: Params
    name: str
    folder: Path


def _draw_video(split: _Split, index: int) -> tuple[dict, dict]:
    """Draw and write a video; return its entries for the two json files."""
    video = _render(split.params, split.name, index)
    return _write_video(video, split.folder, _video_id(split.name, index))


def _video_id(split: str, index: int) -> str:
    return f'{split}-{index:05d}'


def make_synthetic_rvos(
    out: str | os.PathLike,
    params: Params | None = None,
    progress: bool = True,
    jobs: int = 1,
) -> Path:
    """Write a synthetic set, or reuse the identical one that is there.

    The set appears under its name only when it is complete.

    Args:
        out: Folder of the set.
        params: Parameters; the defaults when omitted.
        progress: Whether to show a progress bar.
        jobs: Processes that draw. The set does not depend on it.

    Raises:
        ConfigError: If ``out`` exists and holds something else.
    """
    params = params or SyntheticParams()
    out = Path(out)
    if _is_ready(out, params):
        return out
    bar = tqdm(
        total=params.train_videos + params.valid_videos,
        desc=f'Drawing {out.name}',
        unit='video',
        mininterval=0.5,
        disable=not progress,
    )
    try:
        with bar, atomic_path(out) as work:
            for split in SPLITS:
                (work / split / 'JPEGImages').mkdir(parents=True)
                (work / split / 'Annotations').mkdir()
                entries = {}
                numbers = range(params.videos(split))
                shared = _Split(params, split, work / split)
                for index, entry in run_tasks(
                    _draw_video, numbers, jobs, shared
                ):
                    entries[index] = entry
                    bar.update()
                names = [_video_id(split, index) for index in numbers]
                metas, sentences = (
                    {
                        name: entries[index][part]
                        for index, name in enumerate(names)
                    }
                    for part in range(2)
                )
                write_json(work / split / 'meta.json', {'videos': metas})
                folder = work / 'meta_expressions' / split
                path = folder / 'meta_expressions.json'
                write_json(path, {'videos': sentences})
            write_json(work / MANIFEST, _manifest(params))
    except OSError:
        # Another process was faster; fine if it made the same set.
        if not _is_ready(out, params):
            raise
    return out
