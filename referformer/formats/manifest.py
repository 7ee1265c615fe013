# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Lists of videos to label: JSON lines, one video with its expressions a line.

For example::

    {"path": "a/dogs.mp4", "expressions": ["the black dog", "the ball"]}
    {"path": "b.mkv", "id": "b-1", "expressions": "a man", "start": 3.5}

``id`` (default: the name of the file without its suffix) begins the name of
the result. ``start`` and ``end`` are seconds, ``fps`` and ``every`` choose
frames; all four may be missing.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from referformer.errors import DataError, MissingDataError
from referformer.formats.text_files import show

__all__ = ['LabelJob', 'Shard', 'read_manifest']

_NUMBERS = ('start', 'end', 'fps')


@dataclass(frozen=True)
class LabelJob:
    """A video to label.

    Args:
        path: The video as the list names it.
        expressions: What to look for in it.
        id: Name of the result; empty for that of the file.
        start: Seconds from the beginning at which to start.
        end: Seconds at which to stop.
        fps: Frames a second to look at; None for all.
        every: Look at every N-th frame only.
    """

    path: str
    expressions: tuple[str, ...]
    id: str = ''
    start: float | None = None
    end: float | None = None
    fps: float | None = None
    every: int = 1

    @property
    def name(self) -> str:
        """Name of the result.

        It ends in a hash of everything the result depends on, so a line that
        changes gets a new result, and lines may be moved and added.
        """
        content = json.dumps(asdict(self), sort_keys=True)
        digest = hashlib.sha256(content.encode()).hexdigest()[:16]
        stem = self.id or PurePosixPath(self.path).stem
        words = re.sub(r'[^\w-]+', '-', stem).strip('-')
        # file systems count bytes
        words = words.encode()[:80].decode(errors='ignore').strip('-')
        return f'{words}-{digest}' if words else digest


class Shard(NamedTuple):
    """A part of a list: the lines whose number leaves ``index`` over.

    Attributes:
        index: From 0 to ``count - 1``.
        count: Number of parts.
    """

    index: int = 0
    count: int = 1


def read_manifest(
    path: str | Path, shard: Shard | None = None
) -> Iterator[LabelJob]:
    """Read the videos of one part of a list, line by line.

    Args:
        path: The file, UTF-8. Empty lines are passed over.
        shard: The part; all lines when omitted.

    Yields:
        The videos.

    Raises:
        MissingDataError: If the file does not exist.
        DataError: If a line is wrong; it names the line.
    """
    path, shard = Path(path), shard or Shard()
    try:
        file = path.open('rb')
    except OSError as error:
        kind = MissingDataError if not path.exists() else DataError
        raise kind(
            f'{path} cannot be read ({error.strerror}); give a file of JSON '
            'lines.',
            file=path,
        ) from None
    with file:
        for number, line in enumerate(file):
            if number % shard.count == shard.index and line.strip():
                yield _read_line(path, number + 1, line)


def _read_line(path: Path, number: int, line: bytes) -> LabelJob:
    """Read one line, numbered from 1."""

    def wrong(what: str) -> DataError:
        return DataError(
            f'{path}: line {number} {what}', file=path, value=number
        )

    try:
        row = json.loads(line.decode('utf-8-sig'))
    except ValueError as error:
        raise wrong(
            f'is not valid JSON in UTF-8 ({error}); write one object a line.'
        ) from None
    if not isinstance(row, dict):
        raise wrong('is not an object {"path": ..., "expressions": [...]}.')
    unknown = sorted(set(row) - set(LabelJob.__dataclass_fields__))
    if unknown:
        raise wrong(
            f'has the unknown key {show(unknown[0])}; the keys are '
            f'{", ".join(LabelJob.__dataclass_fields__)}.'
        )
    row = {key: value for key, value in row.items() if value is not None}
    if not isinstance(row.get('path'), str) or not row['path']:
        raise wrong('has no "path" of a video.')
    texts: Any = row.get('expressions')
    texts = [texts] if isinstance(texts, str) else texts
    if (
        not isinstance(texts, list)
        or not texts
        or not all(isinstance(text, str) and text.strip() for text in texts)
    ):
        raise wrong('has no "expressions": a text, or a list of texts.')
    if not isinstance(row.get('id', ''), str):
        raise wrong(f'has the id {show(row["id"])}, which is not a text.')
    for key in _NUMBERS:
        value = row.get(key, 1.0)
        if type(value) not in (int, float) or not 0 <= value < float('inf'):
            raise wrong(f'has {key} = {show(value)}, which is not a number.')
    every = row.get('every', 1)
    if type(every) is not int or every < 1:
        raise wrong(f'has every = {show(every)}; it is a number from 1 on.')
    return LabelJob(**{**row, 'expressions': tuple(texts)})
