# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Looking at files: JSON, frames, masks, words."""

import hashlib
import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from referformer.datasets.doctor.report import Observation, Report

# What UTF-8 looks like when read as Latin-1, and the mark of what could not
# be read at all.
_GARBLED = re.compile('\ufffd|[\u00c2-\u00f4][\u0080-\u00bf]|\u00e2\u20ac')


class Task(NamedTuple):
    """Work for a process.

    Attributes:
        function (Callable): Takes ``argument``, returns observations.
        argument (Any): What to look at.
        weight (int): Files in it, for the progress bar.
    """

    function: Callable[[Any], list[Observation]]
    argument: Any
    weight: int


def run_task(task: Task) -> list[Observation]:
    """Do the work."""
    return task.function(task.argument)


def is_plain_name(name: Any) -> bool:
    """Whether a name stays within its folder."""
    return (
        isinstance(name, str)
        and name not in ('', '.', '..')
        and not set(name) & set('/\\\0')
    )


def read_json(path: Path, report: Report, missing: str | None) -> Any:
    """Content of a JSON file, None if it cannot be read.

    Args:
        path (Path): The file.
        report (Report): Where to note what is wrong.
        missing (str | None): What it means that the file does not exist;
            None if it means nothing.
    """
    if not path.is_file():
        if missing is not None:
            report.add(missing, path)
        return None
    try:
        return json.loads(path.read_text(encoding='utf-8'))
    except (ValueError, RecursionError) as error:
        report.add('json-broken', path, str(error))
        return None


def check_text(text: Any) -> str | None:
    """Code of what is wrong with an expression, if anything is."""
    if not isinstance(text, str) or not text.strip():
        return 'expression-empty'
    return 'expression-garbled' if _GARBLED.search(text) else None


def image_size(content: bytes) -> tuple[int, int]:
    """Decode an image to its end.

    Args:
        content (bytes): The file.

    Returns:
        tuple[int, int]: Height and width.

    Raises:
        OSError: If it is damaged or no image.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            width, height = image.size
            # All of a JPEG is read, but at an eighth of the work.
            image.draft(None, (1, 1))
            image.load()
    except Exception as error:  # Pillow raises nearly anything
        raise OSError(str(error) or type(error).__name__) from None
    return height, width


class VideoFiles(NamedTuple):
    """Frames of a video, and its masks if they are images.

    Attributes:
        img_dir (Path): Folder of the frames.
        names (Sequence[str]): Listed frames.
        mask_dir (Path | None): Folder of the masks, None without.
        meant (frozenset[str]): Objects that expressions mean.
        known (frozenset[str] | None): Objects of meta.json, None without.
        quick (bool): Decode the first frame and mask only.
    """

    img_dir: Path
    names: Sequence[str]
    mask_dir: Path | None = None
    meant: frozenset[str] = frozenset()
    known: frozenset[str] | None = None
    quick: bool = False


def list_names(folder: Path, suffix: str) -> set[str]:
    """Names, without suffix, of the files of a folder."""
    return {
        path.stem
        for path in folder.iterdir()
        if path.suffix == suffix and not path.name.startswith('.')
    }


def check_names(names: Any, where: Path, detail: str) -> list[Observation]:
    """Look at the list of frames of a video."""
    if not isinstance(names, list) or not names:
        return [Observation('frames-none', str(where), detail)]
    unsafe = [name for name in names if not is_plain_name(name)]
    if unsafe:
        text = f'{detail}, frame {unsafe[0]!r}'
        return [Observation('name-unsafe', str(where), text)]
    found = []
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        text = f'{detail}, frame {twice}'
        found.append(Observation('frame-listed-twice', str(where), text))
    return found


def check_frames(
    files: VideoFiles,
) -> tuple[list[Observation], dict[str, tuple[int, int]]]:
    """Look at the frames of a video.

    Returns:
        tuple: What is wrong, and height and width of the sound frames.
    """
    if not files.img_dir.is_dir():
        return [Observation('video-missing', str(files.img_dir))], {}
    present = list_names(files.img_dir, '.jpg')
    found = [
        Observation('frame-unlisted', str(files.img_dir / f'{name}.jpg'))
        for name in sorted(present - set(files.names))
    ]
    sizes: dict[str, tuple[int, int]] = {}
    before = None
    decode = True
    for name in files.names:
        path = files.img_dir / f'{name}.jpg'
        if name not in present:
            found.append(Observation('frame-missing', str(path)))
            continue
        if not decode:
            continue
        content = path.read_bytes()
        digest = hashlib.blake2b(content, digest_size=16).digest()
        try:
            sizes[name] = image_size(content)
        except OSError as error:
            found.append(Observation('frame-broken', str(path), str(error)))
        else:
            if digest == before:
                found.append(Observation('frame-copied', str(path)))
        before = digest
        decode = not files.quick
    first = next(iter(sizes.values()), None)
    for name, size in sizes.items():
        if size != first:
            found.append(
                Observation(
                    'frame-size-differs',
                    str(files.img_dir / f'{name}.jpg'),
                    f'{_by(size)}, the first one {_by(first)}',
                )
            )
    return found, sizes


def _by(size: Sequence[int]) -> str:
    """A size, width first."""
    return f'{size[1]} x {size[0]}'


def check_video(files: VideoFiles) -> list[Observation]:
    """Look at the frames and masks of a video."""
    found, sizes = check_frames(files)
    if files.mask_dir is not None:
        found += _check_masks(files, files.mask_dir, sizes)
    return found


def _check_masks(
    files: VideoFiles, folder: Path, sizes: dict[str, tuple[int, int]]
) -> Iterator[Observation]:
    """Look at the masks of a video."""
    if not folder.is_dir():
        yield Observation('mask-missing', str(folder))
        return
    present = list_names(folder, '.png')
    for name in sorted(present - set(files.names)):
        yield Observation('mask-unlisted', str(folder / f'{name}.png'))
    seen: set[int] = set()
    whole = True
    for name in files.names:
        path = folder / f'{name}.png'
        if name not in present:
            whole = False
            yield Observation('mask-missing', str(path))
            continue
        if files.quick and seen:
            continue
        try:
            with Image.open(path) as image:
                mode = image.mode
                ids = np.asarray(image)
        except Exception as error:  # Pillow raises nearly anything
            whole = False
            yield Observation('mask-broken', str(path), str(error))
            continue
        if mode not in ('P', 'L'):
            whole = False
            yield Observation('mask-not-indexed', str(path), f'mode {mode}')
            continue
        seen |= set(np.flatnonzero(np.bincount(ids.ravel())).tolist())
        size = sizes.get(name)
        if size is not None and ids.shape != size:
            turned = ids.shape == size[::-1]
            yield Observation(
                'mask-transposed' if turned else 'mask-size-differs',
                str(path),
                f'{_by(ids.shape)}, the frame {_by(size)}',
            )
    if files.quick or not whole:
        return
    objects = {str(number) for number in seen - {0, 255}}
    if not objects and 255 in seen:
        yield Observation('mask-binary', str(folder))
        return
    for obj_id in sorted(files.meant - objects):
        yield Observation('object-never-seen', str(folder), f'id {obj_id}')
    if files.known is not None:
        for obj_id in sorted(objects - files.known):
            yield Observation('mask-id-unknown', str(folder), f'id {obj_id}')
        for obj_id in sorted(files.known - objects - files.meant):
            yield Observation(
                'meta-object-unseen', str(folder), f'id {obj_id}'
            )
