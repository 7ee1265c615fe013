# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Frames as files in a folder: their names, their order, their suffixes."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from referformer.errors import MissingDataError, report_error

#: Suffixes of pictures, in any case; the first one wins where a frame is
#: there twice.
IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png')
_RESIDUE = {'__macosx', 'thumbs.db', 'desktop.ini'}
_DIGITS = re.compile('([0-9]+)')
# Separators; control characters, which break lines and steer terminals; and
# halves of characters, which no file system takes.
_NOT_IN_NAMES = re.compile(r'[/\\\x00-\x1f\x7f-\x9f\ud800-\udfff]')


def natural_key(name: str) -> tuple:
    """Return what sorts names as people count: 0, 1, 2, 10.

    Runs of digits compare as numbers, everything else as text. Names of one
    length made of digits keep the order that they have as texts.
    """
    parts = _DIGITS.split(name)
    # of any length, so no int(): Python limits its digits
    numbers = (part.lstrip('0') for part in parts[1::2])
    key: list[Any] = [parts[0]]
    for number, text in zip(numbers, parts[2::2], strict=True):
        key += [(len(number), number), text]
    return tuple(key), name


def sort_names(names: Iterable[str]) -> list[str]:
    """Return names in natural order; the rule for all frames of a video."""
    return sorted(names, key=natural_key)


def is_plain_name(name: Any) -> bool:
    """Return whether this is the name of a file or folder in its folder.

    A name may begin with a dash: it never stands alone on a command line.
    """
    return (
        isinstance(name, str)
        and name not in ('', '.', '..')
        and not _NOT_IN_NAMES.search(name)
    )


def is_relative_name(name: Any) -> bool:
    """Return whether this names something below a folder, as ``a/b``."""
    return isinstance(name, str) and all(
        is_plain_name(part) for part in name.split('/')
    )


def is_residue(name: str) -> bool:
    """Return whether an operating system left this file, not the data set.

    macOS leaves ``._NAME`` beside every file on foreign disks, ``.DS_Store``
    and, in zip files, the folder ``__MACOSX``; Windows leaves ``Thumbs.db``.
    Hidden files are never part of a set.

    Args:
        name: Name of a file or folder, or a path in a zip file.
    """
    return any(
        part.startswith('.') or part.lower() in _RESIDUE
        for part in PurePosixPath(name).parts
        if part not in ('.', '..', '/')
    )


def list_frames(
    folder: str | Path, suffixes: Sequence[str] = IMAGE_SUFFIXES
) -> dict[str, Path]:
    """Return the frames in a folder: name without suffix to file.

    Args:
        folder: The folder.
        suffixes: Suffixes in lower case; files may have them in any case.

    Returns:
        In natural order; empty if there is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        return {}
    found: dict[str, tuple[int, Path]] = {}
    for path in folder.iterdir():
        suffix = path.suffix.lower()
        if suffix not in suffixes or is_residue(path.name):
            continue
        candidate = (suffixes.index(suffix), path)
        found[path.stem] = min(found.get(path.stem, candidate), candidate)
    return {name: found[name][1] for name in sort_names(found)}


def find_file(
    path: str | Path, suffixes: Sequence[str] = IMAGE_SUFFIXES
) -> Path | None:
    """Return a file, or its namesake with another of the suffixes.

    Args:
        path: Where the file should be.
        suffixes: Suffixes in lower case; files may have them in any case.

    Returns:
        ``path`` itself if it exists, else ``None`` if nothing else does.
    """
    path = Path(path)
    # Sets with a single suffix always return here.
    if path.is_file():
        return path
    return list_frames(path.parent, suffixes).get(path.stem)


def check_present(
    folder: str | Path,
    names: Iterable[str],
    listed_in: str,
    page: str,
    *,
    what: str = 'videos',
    code: str = 'video-missing',
) -> None:
    """Check that everything an annotation file names is in a folder.

    Only the folder is listed; single frames are checked when they are read.

    Args:
        folder: Where the files or folders should be.
        names: Their names, as ``a`` or ``a/b``.
        listed_in: Who names them, for the messages.
        page: Page of the documentation that shows the folders.
        what: What they are, in the plural.
        code: Code of the error that one is missing.

    Raises:
        MissingDataError: If the folder or one of them is missing.
    """
    folder = Path(folder)
    if not folder.is_dir():
        report_error(
            MissingDataError(
                f'Folder {folder} does not exist',
                file=folder,
                remedy=f'{page} shows the expected folders.',
                code='folder-missing',
            )
        )
        return
    wanted = set(names)
    missing = wanted - {path.name for path in folder.iterdir()}
    missing = [
        name
        for name in sort_names(missing)
        if '/' not in name or not (folder / name).exists()
    ]
    if missing:
        report_error(
            MissingDataError(
                f'{len(missing)} of {len(wanted)} {what} of {listed_in} are '
                f'not in {folder}, first {missing[0]!r}',
                file=folder / missing[0],
                remedy='extract the archive completely.',
                code=code,
            )
        )
