# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""``meta_expressions.json``: which expressions a video has."""

import json
from pathlib import Path
from typing import Any

from referformer.errors import DataError


def read_expressions(path: str | Path) -> dict[str, dict[str, Any]]:
    """Read and check an expressions file.

    Names become parts of file names, so those that would lead elsewhere are
    refused.

    Args:
        path (str | Path): A ``meta_expressions.json``.

    Returns:
        dict[str, dict]: For each video ``frames`` (list[str], never empty)
        and ``expressions`` (dict of dict).

    Raises:
        FileNotFoundError: If the file does not exist.
        DataError: If it is not such a file.
    """
    try:
        text = Path(path).read_text(encoding='utf-8')
        content = json.loads(text, object_pairs_hook=_unique)
        videos = content['videos']
        for video, entry in videos.items():
            frames, expressions = entry['frames'], entry['expressions']
            names = [video, *frames, *expressions]
            bad = [name for name in names if not _is_name(name)]
            if bad:
                raise ValueError(f'{bad[0]!r} is no name of a file')
            if not frames or len(set(frames)) < len(frames):
                raise ValueError(f'{video} has no frames, or one twice')
            if not all(isinstance(e, dict) for e in expressions.values()):
                raise TypeError(f'an expression of {video} is no object')
    except FileNotFoundError:
        raise FileNotFoundError(
            f'The expressions file {path} does not exist.'
        ) from None
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
    ) as error:
        raise DataError(
            f'{path} is not a meta_expressions.json ({error!r}); expected '
            'videos -> <video> -> frames, expressions.'
        ) from None
    return videos


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make a dict of a JSON object, which may not name a key twice."""
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f'the key {twice!r} appears twice')
    return content


def _is_name(name: Any) -> bool:
    """Whether a text is the plain name of a file or folder."""
    return (
        isinstance(name, str)
        and name not in ('', '.', '..')
        and not any(char in name for char in '/\\\0')
    )
