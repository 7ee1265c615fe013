# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""``refs(<who split it>).p`` of RefCOCO, RefCOCO+ and RefCOCOg."""

import pickle
from pathlib import Path
from typing import NoReturn

from referformer.errors import DataError, MissingDataError

__all__ = ['read_refs']


class PlainUnpickler(pickle.Unpickler):
    """Reads containers, text and numbers; refuses everything else.

    A pickle can name any function to be called while it is read. Those of
    the REFER sets name none.
    """

    def find_class(self, module: str, name: str) -> NoReturn:
        """Refuse to look up a class or function."""
        raise pickle.UnpicklingError(
            f'it asks for {module}.{name}, and could run code'
        )


def read_refs(path: str | Path) -> list[dict]:
    """Return the referred objects, each with its sentences.

    Raises:
        MissingDataError: If the file is missing.
        DataError: If it is no list of them.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingDataError(
            f'{path} does not exist',
            file=path,
            remedy='docs/datasets/refcoco.md tells which archive to extract '
            'where.',
        )
    try:
        with path.open('rb') as file:
            # written by Python 2, whose strings are bytes
            refs = PlainUnpickler(file, encoding='latin1').load()
    except Exception as error:
        raise DataError(
            f'{path} is not a pickle of plain data ({error})',
            file=path,
            remedy='download it again, from a source you trust.',
        ) from None
    if not isinstance(refs, list) or not refs:
        raise DataError(
            f'{path} holds no list of referred objects.', file=path
        )
    return refs
