# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""The masks of MeViS: ``mask_dict.json``, hundreds of megabytes of RLE.

The file maps an annotation to its masks, one a frame and ``null`` where the
object is out of sight::

    {"0": [{"size": [720, 1280], "counts": "..."}, null, ...], "1": ...}

One pass records where each annotation begins. After that the file is mapped
into memory, which processes share, and only requested annotations are parsed.
"""

import functools
import json
import mmap
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from referformer.errors import DataError, MissingDataError
from referformer.formats.rle import decode_union, looks_like_rle, to_rle

#: The name of an annotation, where its list begins. RLE has no quotes in it,
#: so a word in quotes with a colon is a key, and the lists of other keys
#: ("size") begin with a number.
_ENTRY = re.compile(rb'"([\w-]+)"\s*:\s*(?=\[\s*(?:\{|null|\]))')
#: Parsed annotations kept: a video of MeViS has four on average.
_KEPT = 64


class MaskTable:
    """Masks by annotation, read on demand.

    Args:
        path: The ``mask_dict.json``.

    Raises:
        MissingDataError: If the file does not exist.
        DataError: If it is no such table.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise MissingDataError(
                f'{path} does not exist; it holds the masks of MeViS and lies '
                'beside meta_expressions.json (there is none for "valid").',
                file=path,
                code='file-missing',
            )
        if not self.path.stat().st_size:
            raise self._fault('is empty; download it again.')
        with self.path.open('rb') as file:
            self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if b'\0' in self._bytes[:4]:
            raise self._fault('is not text in UTF-8; save it as UTF-8.')
        if not re.search(rb'\}\s*$', self._bytes[-64:]):
            raise self._fault('ends in the middle; download it again.')
        self._spans: dict[str, tuple[int, int]] = {}
        begin, name = 0, None
        for match in _ENTRY.finditer(self._bytes):
            self._note(name, begin, match.start())
            begin, name = match.end(), match[1].decode()
        self._note(name, begin, len(self._bytes))
        if not self._spans:
            raise self._fault(
                'names no annotation; it is no mask_dict.json of MeViS.'
            )
        self._parse = functools.lru_cache(maxsize=_KEPT)(self._parse_entry)

    def _fault(self, message: str, code: str = 'table-wrong') -> DataError:
        """Return the error that something is wrong with the file."""
        return DataError(f'{self.path} {message}', file=self.path, code=code)

    def _note(self, name: str | None, begin: int, end: int) -> None:
        """Record the position of an annotation in the file."""
        if name in self._spans:
            raise self._fault(f'has annotation {name} twice; write each once.')
        if name is not None:
            self._spans[name] = (begin, end)

    def __len__(self) -> int:
        return len(self._spans)

    def __iter__(self) -> Iterator[str]:
        return iter(self._spans)

    def __contains__(self, anno_id: str) -> bool:
        return anno_id in self._spans

    def __getitem__(self, anno_id: str) -> list[dict | None]:
        """Return the masks of an annotation, do not change them.

        Args:
            anno_id: Its name.

        Returns:
            COCO RLE of each frame, or None.

        Raises:
            KeyError: If there is no such annotation.
            DataError: If its masks are unreadable.
        """
        return self._parse(anno_id)

    def _parse_entry(self, anno_id: str) -> list[dict | None]:
        begin, end = self._spans[anno_id]
        try:
            text = self._bytes[begin:end].decode('ascii')
            masks, stop = json.JSONDecoder().raw_decode(text)
        except ValueError as error:
            raise self._fault(
                f'annotation {anno_id} is not valid json ({error}); download '
                'the file again.'
            ) from error
        # Nothing but the comma before the next one, or the final brace.
        if text[stop:].strip() not in (',', '}') or not all(
            mask is None
            or (looks_like_rle(mask) and isinstance(mask['counts'], str))
            for mask in masks
        ):
            raise self._fault(
                f'annotation {anno_id} is no list of RLE masks (size, '
                'counts as text) and null; write it like that.'
            )
        return masks

    def mask(
        self, anno_ids: Sequence[str], frame: int, shape: tuple[int, int]
    ) -> np.ndarray:
        """Return the union of annotations in a frame.

        Args:
            anno_ids: The annotations, possibly none.
            frame: Position of the frame in the video.
            shape: Height and width of the frame.

        Returns:
            bool, shape (H, W).

        Raises:
            DataError: If a mask is unreadable or of another size, or there
                is no such annotation or frame.
        """
        rles = []
        for anno_id in anno_ids:
            if anno_id not in self:
                raise self._fault(
                    f'has no annotation {anno_id}; it and '
                    'meta_expressions.json belong to different splits.',
                    'annotation-unknown',
                )
            masks = self[anno_id]
            where = f'annotation {anno_id}'
            if not 0 <= frame < len(masks):
                raise self._fault(
                    f'{where} has masks of {len(masks)} frames, so none of '
                    f'frame {frame}; the file and meta_expressions.json '
                    'belong to different splits.',
                    'masks-of-frames-differ',
                )
            rle = masks[frame]
            if rle is None:
                continue
            # Before decoding: the size decides how much memory it takes.
            if tuple(rle['size']) != tuple(shape):
                turned = tuple(rle['size']) == tuple(shape)[::-1]
                raise self._fault(
                    f'{where} is {rle["size"][1]}x{rle["size"][0]} in frame '
                    f'{frame}, the frame itself {shape[1]}x{shape[0]}; both '
                    'must be of one size.',
                    'mask-transposed' if turned else 'mask-size-differs',
                )
            try:
                rles.append(to_rle(rle, *shape))
            except ValueError as error:
                raise self._fault(
                    f'{where} {error} in frame {frame}; download the file '
                    'again.',
                    'rle-broken',
                ) from error
        return decode_union(rles, shape)


@functools.lru_cache(maxsize=4)
def open_mask_table(path: str | Path) -> MaskTable:
    """Open a table, once a process; see :class:`MaskTable`.

    Processes forked afterwards share it.
    """
    return MaskTable(path)
