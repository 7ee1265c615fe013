# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Predicted masks of expressions, in a folder or in a zip file.

Either holds ``<video>/<expression>/<frame>.png``, maybe below a folder
``Annotations``. A zip file is read where it is: nothing is ever written to
the disk, so its names cannot lead anywhere.
"""

import os
import zipfile
import zlib
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from referformer.errors import DataError
from referformer.formats.label_maps import read_binary_mask, shorten

_PREFIX = 'Annotations/'
# No PNG of a mask is larger; what claims to be is not unpacked.
_MAX_BYTES = 1 << 26


class MaskTree(NamedTuple):
    """Where masks are, light enough to be sent to other processes.

    Attributes:
        path (Path): The folder or zip file.
        prefix (str): Goes before ``<video>/<expression>/<frame>.png``; empty
            or ends in ``/``.
        zipped (bool): Whether ``path`` is a zip file.
    """

    path: Path
    prefix: str
    zipped: bool

    def read(
        self, name: str, shape: tuple[int, int] | None = None
    ) -> np.ndarray:
        """Read one mask.

        Args:
            name (str): ``<video>/<expression>/<frame>.png``.
            shape (tuple[int, int], optional): Height and width it must have.

        Returns:
            np.ndarray: bool, shape (H, W).

        Raises:
            DataError: If it is missing, unusable, or of another size.
        """
        path = self.path / (self.prefix + name)
        if not self.zipped:
            return read_binary_mask(path, shape)
        try:
            archive = _open_archive(
                self.path, self.path.stat().st_mtime_ns, os.getpid()
            )
            entry = archive.getinfo(self.prefix + name)
            if entry.file_size > _MAX_BYTES:
                raise DataError(
                    f'{path} claims to unpack to {entry.file_size} bytes; no '
                    'mask is that large.'
                )
            data = archive.read(entry)
        except KeyError:
            raise DataError(f'{path} does not exist.') from None
        except (
            OSError,
            RuntimeError,  # encrypted
            EOFError,
            NotImplementedError,  # a compression Python does not know
            zipfile.BadZipFile,
            zlib.error,
        ) as error:
            raise DataError(
                f'{path} cannot be unpacked ({error}); pack the masks again.'
            ) from None
        return read_binary_mask(path, shape, data)

    def list_names(self, folders: list[str]) -> set[str]:
        """Names of all masks, ``<video>/<expression>/<frame>.png``.

        Args:
            folders (list[str]): ``<video>/<expression>`` to look into.

        Raises:
            DataError: If the zip file is damaged or malicious.
        """
        if self.zipped:
            names = _archive_names(self.path)
            return {name.removeprefix(self.prefix) for name in names}
        names = []
        for folder in folders:
            files = (self.path / (self.prefix + folder)).glob('*.png')
            names += [f'{folder}/{file.name}' for file in files]
        return set(names)


def open_mask_tree(path: str | Path) -> MaskTree:
    """Find out how masks are stored.

    Args:
        path (str | Path): Folder or zip file.

    Returns:
        MaskTree: How to read them.

    Raises:
        DataError: If it is neither, or the zip file is damaged.
    """
    path = Path(path)
    if path.is_dir():
        nested = (path / _PREFIX).is_dir()
        return MaskTree(path, _PREFIX if nested else '', False)
    if not path.is_file():
        raise DataError(f'{path} is neither a folder nor a file.')
    nested = any(name.startswith(_PREFIX) for name in _archive_names(path))
    return MaskTree(path, _PREFIX if nested else '', True)


# The process is part of the key: one forked later shares the file position,
# so it must open the file again. The time is, because files are rewritten.
@lru_cache(maxsize=1)
def _open_archive(path: Path, mtime: int, pid: int) -> zipfile.ZipFile:
    """Open a zip file to read many of its masks."""
    del mtime, pid
    return zipfile.ZipFile(path)


def _archive_names(path: Path) -> list[str]:
    """Names of the PNGs of a zip file.

    Raises:
        DataError: If it is damaged, holds a file twice, or has names
            that lead out of it.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.namelist()
    except (OSError, zipfile.BadZipFile, NotImplementedError) as error:
        raise DataError(
            f'{path} is no readable zip file ({error}); give it, or the '
            'folder of the masks.'
        ) from None
    for name in entries:
        parts = PurePosixPath(name.replace('\\', '/'))
        if parts.is_absolute() or '..' in parts.parts or '\\' in name:
            raise DataError(
                f'{path} holds {name!r}, which leads out of it or has '
                'backslashes; pack it again, with names like '
                '<video>/<expression>/<frame>.png.'
            )
    names = [
        name
        for name in entries
        if name.endswith('.png') and not name.startswith('__MACOSX/')
    ]
    if len(set(names)) < len(names):
        seen: set[str] = set()
        twice = [n for n in names if n in seen or seen.add(n)]
        raise DataError(
            f'{path} holds {len(twice)} masks more than once: '
            f'{shorten(twice)}; pack each once.'
        )
    return names
