# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Predicted masks of expressions, in a folder, a zip file or one JSON file.

Folder and zip file hold ``<video>/<expression>/<frame>.png``, maybe below a
folder ``Annotations``. A zip file is read where it is: nothing is ever written
to the disk, so its names cannot lead anywhere.

One JSON file of run-length codes is described in :mod:`.tracks`.

Label maps, ``<video>/<frame>.png``, are stored in the same three forms; then
``exp_id`` is the id of an object, and the frames are those of the truth.
"""

import os
import zipfile
import zlib
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from referformer.errors import DataError, MissingDataError
from referformer.formats.files import atomic_path
from referformer.formats.frames import is_residue, list_frames
from referformer.formats.label_maps import read_binary_mask, read_label_map
from referformer.formats.records import SUFFIXES
from referformer.formats.text_files import show
from referformer.formats.tracks import MaskTracks, open_tracks
from referformer.utils.console import shorten

_PREFIX = 'Annotations/'
# No PNG of a mask is larger; larger entries are not unpacked.
_MAX_BYTES = 1 << 26
# Entries have a fixed time, so that equal predictions give equal bytes.
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)


class MaskFolder(NamedTuple):
    """Masks in a folder, light enough to be sent to other processes.

    Attributes:
        path: The folder.
        prefix: Goes before ``<video>/<expression>/<frame>.png``; empty or ends
            in ``/``.
    """

    path: Path
    prefix: str

    def read(
        self, name: str, shape: tuple[int, int] | None = None
    ) -> np.ndarray:
        """Read one mask.

        Args:
            name: ``<video>/<expression>/<frame>.png``.
            shape: Height and width it must have.

        Returns:
            bool, shape (H, W).

        Raises:
            MissingDataError: If it does not exist.
            DataError: If it is unusable or of another size.
        """
        return read_binary_mask(self.path / (self.prefix + name), shape)

    def list_names(self, folders: Iterable[str]) -> set[str]:
        """Names of all masks, ``<video>/<expression>/<frame>.png``.

        Args:
            folders: ``<video>/<expression>`` to look into.
        """
        return {
            f'{folder}/{frame}.png'
            for folder in folders
            for frame in list_frames(
                self.path / (self.prefix + folder), ('.png',)
            )
        }


class MaskZip(NamedTuple):
    """Masks in a zip file, with the interface of :class:`MaskFolder`.

    Attributes:
        path: The zip file.
        prefix: Goes before ``<video>/<expression>/<frame>.png``; empty or ends
            in ``/``.
    """

    path: Path
    prefix: str

    def read(
        self, name: str, shape: tuple[int, int] | None = None
    ) -> np.ndarray:
        """Read one mask, see :meth:`MaskFolder.read`."""
        name = self.prefix + name
        return read_binary_mask(self.path / name, shape, self.unpack(name))

    def unpack(self, name: str) -> bytes:
        """Return the content of a PNG, named from the top of the file."""
        path = self.path / name
        try:
            archive, entries = _open_archive(
                self.path, self.path.stat().st_mtime_ns, os.getpid()
            )
            entry = entries[name]
            if entry.file_size > _MAX_BYTES:
                raise DataError(
                    f'{path} claims to unpack to {entry.file_size} bytes; no '
                    'mask is that large.',
                    file=path,
                )
            return archive.read(entry)
        except KeyError:
            raise MissingDataError(
                f'{path} does not exist.', file=path
            ) from None
        except (
            OSError,
            RuntimeError,  # encrypted
            EOFError,
            NotImplementedError,  # a compression Python does not know
            zipfile.BadZipFile,
            zlib.error,
        ) as error:
            raise DataError(
                f'{path} cannot be unpacked ({error}); pack the masks again.',
                file=path,
            ) from None

    def list_names(self, folders: Iterable[str]) -> set[str]:
        """Names of all masks, ``<video>/<expression>/<frame>.png``.

        Raises:
            DataError: If the zip file is damaged or malicious.
        """
        del folders
        return {n.removeprefix(self.prefix) for n in _archive_names(self.path)}


PredictedMasks = MaskFolder | MaskZip | MaskTracks
"""Predictions that can be listed and read."""


def open_predictions(
    path: str | Path, frames: Mapping[str, Sequence[str]]
) -> PredictedMasks:
    """Find out how masks are stored.

    Args:
        path: Folder, zip file, or JSON file.
        frames: Names of all frames of each video, in order.

    Returns:
        How to list and read them.

    Raises:
        MissingDataError: If there is none of them.
        DataError: If the file is damaged.
    """
    path = Path(path)
    if path.is_dir():
        nested = (path / _PREFIX).is_dir()
        return MaskFolder(path, _PREFIX if nested else '')
    if not path.is_file():
        raise MissingDataError(
            f'{path} is neither a folder nor a file.', file=path
        )
    if path.suffix.lower() in SUFFIXES:
        return open_tracks(path, frames)
    nested = any(name.startswith(_PREFIX) for name in _archive_names(path))
    return MaskZip(path, _PREFIX if nested else '')


# -- label maps ---------------------------------------------------------------


class LabelFolder(NamedTuple):
    """Label maps in a folder, ``<video>/<frame>.png``.

    Attributes:
        path: The folder.
    """

    path: Path

    def list_frames(self, video: str) -> Container[str] | None:
        """Names of the frames of a video, None if there is no such video."""
        folder = self.path / video
        return list_frames(folder, ('.png',)) if folder.is_dir() else None

    def read(
        self, video: str, frame: str, shape: tuple[int, int]
    ) -> np.ndarray:
        """Read object ids, uint8, of this height and width."""
        return read_label_map(self.path / video / f'{frame}.png', shape)


class LabelZip(NamedTuple):
    """Label maps in a zip file, with the interface of :class:`LabelFolder`.

    Attributes:
        path: The zip file.
        frames: Names of the frames of each video.
    """

    path: Path
    frames: dict[str, set[str]]

    def list_frames(self, video: str) -> Container[str] | None:
        """Names of the frames of a video, None if there is no such video."""
        return self.frames.get(video)

    def read(
        self, video: str, frame: str, shape: tuple[int, int]
    ) -> np.ndarray:
        """Read object ids, see :meth:`LabelFolder.read`."""
        name = f'{video}/{frame}.png'
        data = MaskZip(self.path, '').unpack(name)
        return read_label_map(self.path / name, shape, data)


class LabelTracks(NamedTuple):
    """Label maps in one JSON file; ``exp_id`` is the id of an object.

    It has the interface of :class:`LabelFolder`.

    Attributes:
        tracks: The masks of the objects.
        objects: Ids of the objects of each video.
    """

    tracks: MaskTracks
    objects: dict[str, list[int]]

    @property
    def path(self) -> Path:
        """The file."""
        return self.tracks.path

    def list_frames(self, video: str) -> Container[str] | None:
        """Names of the frames of a video, None if there is no such video."""
        return self.tracks.frames[video] if video in self.objects else None

    def read(
        self, video: str, frame: str, shape: tuple[int, int]
    ) -> np.ndarray:
        """Draw object ids, see :meth:`LabelFolder.read`.

        Raises:
            DataError: If two objects claim a pixel.
        """
        labels = np.zeros(shape, np.uint8)
        for index in self.objects[video]:
            name = f'{video}/{index}/{frame}.png'
            mask = self.tracks.read(name, shape)
            if labels[mask].any():
                raise DataError(
                    f'{self.path}: object {index} of {video} overlaps '
                    f'another one in frame {frame}; a pixel of a label map '
                    'has one object.',
                    file=self.path,
                    value=video,
                )
            labels[mask] = index
        return labels


PredictedLabels = LabelFolder | LabelZip | LabelTracks
"""Label maps that can be listed and read."""


def open_label_maps(
    path: str | Path, frames: Mapping[str, Sequence[str]]
) -> PredictedLabels:
    """Find out how label maps are stored, see :func:`open_predictions`."""
    path = Path(path)
    if path.is_dir():
        return LabelFolder(path)
    if not path.is_file():
        raise MissingDataError(
            f'{path} is not a folder, nor a zip, json or jsonl file.',
            file=path,
        )
    if path.suffix.lower() not in SUFFIXES:
        listed: dict[str, set[str]] = {}
        for name in _archive_names(path):
            video, _, file = name.rpartition('/')
            listed.setdefault(video, set()).add(file.removesuffix('.png'))
        return LabelZip(path, listed)
    tracks = open_tracks(path, frames)
    objects: dict[str, list[int]] = {}
    for track in tracks.spans:
        video, _, name = track.rpartition('/')
        if not name.isdecimal() or not 0 < int(name) < 255:
            raise DataError(
                f'{path}: {video} has the exp_id {show(name)}; of label maps '
                'it is the id of an object, a number from 1 to 254.',
                file=path,
                value=name,
            )
        objects.setdefault(video, []).append(int(name))
    return LabelTracks(tracks, objects)


# The process is part of the key: one forked later shares the file position,
# so it must open the file again. The time is, because files are rewritten.
@lru_cache(maxsize=4)
def _open_archive(
    path: Path, mtime: int, pid: int
) -> tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]:
    """Open a zip file to read many of its masks, and list them."""
    del mtime, pid
    archive = zipfile.ZipFile(path)
    entries = {_mask_name(e.filename): e for e in archive.infolist()}
    entries.pop(None, None)
    return archive, entries


def _mask_name(name: str) -> str | None:
    """Name of a mask with its suffix in lower case; None if it is none."""
    if is_residue(name) or not name.lower().endswith('.png'):
        return None
    return f'{name[:-4]}.png'


def _archive_names(path: Path) -> list[str]:
    """Names of the PNGs of a zip file, unless one is there twice."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.namelist()
    except (OSError, zipfile.BadZipFile, NotImplementedError) as error:
        raise DataError(
            f'{path} is no readable zip file ({error}); give one, the folder '
            'of the masks, or a .json or .jsonl file of them.',
            file=path,
        ) from None
    for name in entries:
        parts = PurePosixPath(name.replace('\\', '/'))
        if parts.is_absolute() or '..' in parts.parts or '\\' in name:
            raise DataError(
                f'{path} holds {name!r}, which leads out of it or has '
                'backslashes; pack it again, with names like '
                '<video>/<expression>/<frame>.png.',
                file=path,
            )
    names = Counter(filter(None, map(_mask_name, entries)))
    twice = [name for name, count in names.items() if count > 1]
    if twice:
        raise DataError(
            f'{path} holds {len(twice)} masks more than once: '
            f'{shorten(twice)}; pack each once.',
            file=path,
        )
    return list(names)


def pack_masks(path: str | Path, root: Path, files: Iterable[Path]) -> None:
    """Pack files into a zip file, whole or not at all.

    Args:
        path: The zip file.
        root: Folder that names in the zip file are relative to.
        files: What to pack.
    """
    with (
        atomic_path(path) as temporary,
        # PNGs are compressed already.
        zipfile.ZipFile(temporary, 'w', zipfile.ZIP_STORED) as archive,
    ):
        for file in sorted(files):
            name = file.relative_to(root).as_posix()
            entry = zipfile.ZipInfo(name, _ZIP_TIME)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, file.read_bytes())
