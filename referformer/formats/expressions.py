# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""``meta_expressions.json``: which expressions and frames a video has."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

from referformer.errors import DataError, report_error
from referformer.formats.attributes import AttributeField, read_attributes
from referformer.formats.frames import (
    is_plain_name,
    is_relative_name,
    sort_names,
)
from referformer.formats.text_files import read_json, show


class VideoEntry(TypedDict):
    """A video of an expressions file.

    Attributes:
        frames: Names of its frames in natural order, at least one.
        expressions: By name; each has the text ``exp``, not empty, its
            ``attributes``, a dict of texts (see
            :mod:`referformer.formats.attributes`), and whatever else the
            file says.
    """

    frames: list[str]
    expressions: dict[str, dict[str, Any]]


def read_expressions(
    path: str | Path,
    *,
    what: str = 'expressions',
    positional: bool = False,
    attribute: AttributeField | None = None,
) -> dict[str, VideoEntry]:
    """Read and check an expressions file.

    Names become parts of file names, so names that point outside of the folder
    are refused. The name of a video may contain folders (``set/video``).

    Args:
        path: A ``meta_expressions.json``, in UTF-8 or UTF-16.
        what: What the file is, for the messages.
        positional: Whether masks belong to positions in the list of frames,
            not to names; then the list must be in order.
        attribute: Field of the set that holds an attribute, besides
            ``attributes``.

    Returns:
        The videos by name.

    Raises:
        MissingDataError: If the file does not exist.
        DataError: If it is not such a file.
    """
    videos = {}
    for name, entry in read_video_table(path, what).items():
        parsed = parse_video(path, name, entry, positional, attribute)
        if parsed is not None:
            videos[name] = parsed
    return videos


def read_video_table(path: str | Path, what: str) -> dict[str, dict]:
    """Read the table ``videos`` of a JSON file, without looking into it.

    ``meta.json``, the table of objects, has the same form.

    Args:
        path: The file.
        what: What the file is, for the messages.

    Raises:
        MissingDataError: If the file does not exist.
        DataError: If it is no JSON or has no table ``videos`` of tables.
    """
    content = read_json(path, what=what, unique_keys=True)
    videos = content.get('videos') if isinstance(content, dict) else None
    if not isinstance(videos, dict):
        raise DataError(
            f'{path} ({what}) has no table "videos"; it is not a file of the '
            'Ref-YouTube-VOS layout.',
            file=path,
            code='table-wrong',
        )
    usable = {}
    for name, video in videos.items():
        if not is_relative_name(name):
            code, fault = 'name-unsafe', f'{show(name)} is no name of a folder'
        elif not isinstance(video, dict):
            code = 'table-wrong'
            fault = f'video {name} is no table; it needs "frames" and '
            fault += '"expressions", or "objects"'
        else:
            usable[name] = video
            continue
        text = f'{path} ({what}): {fault}; correct it.'
        report_error(DataError(text, file=path, code=code))
    return usable


def parse_video(
    path: str | Path,
    name: str,
    entry: Mapping[str, Any],
    positional: bool = False,
    attribute: AttributeField | None = None,
) -> VideoEntry | None:
    """Check a video of an expressions file.

    Args:
        path: The file, for the messages.
        name: Name of the video.
        entry: What the file says about it.
        positional: See :func:`read_expressions`.
        attribute: Likewise.

    Returns:
        The video; ``None`` only while errors are collected.

    Raises:
        DataError: If it is no such entry.
    """

    def fault(code: str, message: str) -> None:
        message = f'{path}: video {name}{message}'
        report_error(DataError(message, file=path, code=code))

    frames, expressions = entry.get('frames'), entry.get('expressions')
    if _is_by_object(entry):
        fault(
            'table-wrong',
            ' lists sentences by object, without numbers and without all '
            'frames; such a file only tells which object an expression means '
            '(obj_id_file of a dataset, --expressions of eval_masks.py).',
        )
        return None
    if not frames or not isinstance(frames, list):
        fault('frames-none', ' needs a list "frames" of names.')
        return None
    if not isinstance(expressions, dict):
        fault('table-wrong', ' needs a table "expressions".')
        return None
    unsafe = [n for n in [*frames, *expressions] if not is_plain_name(n)]
    for other in unsafe:
        fault(
            'name-unsafe',
            f' names a frame or expression {show(other)}, which is no name '
            'of a file; correct it.',
        )
    if unsafe:
        return None
    if len(set(frames)) < len(frames):
        twice = next(n for n in frames if frames.count(n) > 1)
        fault(
            'frame-listed-twice',
            f' lists a frame twice ({show(twice)}); remove one of them.',
        )
        frames = list(dict.fromkeys(frames))
    ordered = sort_names(frames)
    if positional and frames != ordered:
        fault(
            'frames-disordered',
            ' lists its frames out of order, so it is not clear which masks '
            'are theirs; the first masks must be those of '
            f'{show(ordered[0])}: sort the list if they are.',
        )
    spoken = {}
    for exp_id, expression in expressions.items():
        if not isinstance(expression, dict):
            fault('table-wrong', f', expression {exp_id} is no table.')
            continue
        text = expression.get('exp')
        if not isinstance(text, str) or not text.strip():
            fault(
                'expression-empty',
                f', expression {exp_id} is empty; remove it or write '
                'its text.',
            )
            continue
        try:
            attributes = read_attributes(expression, attribute)
        except ValueError as error:
            message = f', expression {exp_id} {error}; correct it.'
            fault('attribute-wrong', message)
            continue
        spoken[exp_id] = {**expression, 'attributes': attributes}
    return VideoEntry(frames=ordered, expressions=spoken)


# -- which object an expression means -----------------------------------------


def read_objects(path: str | Path, what: str) -> dict[str, VideoEntry]:
    """Read which object each expression means, from a file of either form.

    The first release of Ref-YouTube-VOS lists sentences by object, without
    numbers::

        {"videos": {<video>: {"objects": {<id>: {
            "expressions": ["a dog", "a brown dog"], "frames": [...]}}}}}

    The competition numbers them from 0 on in this order.

    Args:
        path: Such a file, or an ordinary ``meta_expressions.json``.
        what: What the file is, for the messages.

    Returns:
        The videos by name. ``frames`` are those that the file names: of the
        first form, those that show an object. Expressions have ``exp`` and,
        if the file tells it, ``obj_id``.

    Raises:
        MissingDataError: If the file does not exist.
        DataError: If it is no such file.
    """
    videos = {}
    for name, entry in read_video_table(path, what).items():
        frames, expressions = entry.get('frames'), entry.get('expressions')
        if _is_by_object(entry):
            where = f'{path} ({what}): video {name}'
            frames, expressions = _number(path, where, entry['objects'])
        videos[name] = VideoEntry(
            frames=frames if isinstance(frames, list) else [],
            expressions=expressions if isinstance(expressions, dict) else {},
        )
    return videos


def lists_by_object(path: str | Path) -> bool:
    """Whether a file has the first form of :func:`read_objects`.

    Raises:
        MissingDataError: If the file does not exist.
        DataError: If it is no file of videos.
    """
    videos = read_video_table(path, 'expressions')
    return any(map(_is_by_object, videos.values()))


def _is_by_object(entry: Mapping[str, Any]) -> bool:
    """Whether a video lists its sentences by object."""
    return 'expressions' not in entry and isinstance(
        entry.get('objects'), dict
    )


def _number(
    path: str | Path, where: str, objects: Mapping[str, Any]
) -> tuple[list[str], dict[str, dict[str, Any]]]:
    """Return frames and numbered expressions of a video by object."""
    frames: set[str] = set()
    numbered: list[dict[str, Any]] = []
    for obj_id in sort_names(objects):
        entry = objects[obj_id]
        entry = entry if isinstance(entry, dict) else {}
        texts, seen = entry.get('expressions'), entry.get('frames', [])
        if not isinstance(texts, list) or not all(
            isinstance(text, str) for text in texts
        ):
            report_error(
                DataError(
                    f'{where}, object {obj_id} has no list "expressions" of '
                    'sentences, so the file does not tell which object an '
                    'expression means.',
                    file=path,
                    value=obj_id,
                    code='table-wrong',
                )
            )
            continue
        frames.update(
            filter(is_plain_name, seen if type(seen) is list else ())
        )
        numbered += [{'exp': text, 'obj_id': obj_id} for text in texts]
    return sort_names(frames), {str(n): e for n, e in enumerate(numbered)}


def name_objects(
    videos: Mapping[str, VideoEntry],
    named: Mapping[str, VideoEntry],
    path: str | Path,
    ann_file: str | Path,
) -> None:
    """Add to each expression its ``obj_id`` from another file.

    Args:
        videos: Of an expressions file; changed in place.
        named: What :func:`read_objects` returned.
        path: The file that tells the objects, for the messages.
        ann_file: The expressions file, likewise.

    Raises:
        DataError: If an expression does not read the same in both.
    """
    for video_id, video in videos.items():
        others = named[video_id]['expressions'] if video_id in named else {}
        for exp_id, expression in video['expressions'].items():
            other = others.get(exp_id)
            other = other if isinstance(other, dict) else {}
            text = other.get('exp')
            if _words(text) != _words(expression['exp']):
                report_error(
                    DataError(
                        f'{path}: video {video_id}, expression {exp_id} '
                        f'reads {show(text)}, but '
                        f'{show(expression["exp"])} in {ann_file}; the two '
                        'files belong to different editions.',
                        file=path,
                        code='table-wrong',
                    )
                )
            expression['obj_id'] = other.get('obj_id')


def _words(text: Any) -> list[str]:
    """Return the words of a sentence in lower case."""
    return str(text).lower().split()
