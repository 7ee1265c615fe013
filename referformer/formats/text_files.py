# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Text files of any encoding: JSON, and comma-separated values."""

import codecs
import csv
import io
import json
from pathlib import Path
from typing import Any

from referformer.errors import DataError, MissingDataError, report_error

__all__ = ['read_json', 'read_rows', 'read_table', 'read_text', 'show']

_SHOWN = 60
#: What a file that is no JSON begins with, and what that means.
_IMPOSTORS = (
    (b'version https://git-lfs', 'is a pointer of Git LFS; run git lfs pull'),
    (b'<', 'is a web page or XML; download the file itself'),
    (b'PK\x03\x04', 'is a zip file; extract it'),
    (b'\x1f\x8b', 'is compressed; extract it'),
)


def show(value: Any) -> str:
    """Return a value as a message shows it: its repr, cut if long."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f'{text[:_SHOWN]}...'


def read_bytes(path: Path, what: str, remedy: str) -> bytes:
    """Read a file.

    Args:
        path: The file.
        what: What the file is, for the message.
        remedy: What to do if it is missing.

    Raises:
        MissingDataError: If the file does not exist.
        DataError: If it cannot be read.
    """
    named = f'{path} ({what})' if what else f'{path}'
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise MissingDataError(
            f'{named} does not exist',
            file=path,
            remedy=f'{remedy}.',
            code='file-missing',
        ) from None
    except OSError as error:
        raise DataError(
            f'{named} cannot be read ({error.strerror}).', file=path
        ) from None


def read_text(
    path: str | Path,
    *,
    what: str = '',
    remedy: str = 'docs/datasets shows the expected files',
    fallback: str | None = None,
) -> str:
    """Read text in UTF-8 or UTF-16, with or without a byte order mark.

    Args:
        path: The file.
        what: What the file is, for the messages.
        remedy: What to do if it is missing.
        fallback: Encoding to try where the file is neither.

    Raises:
        MissingDataError: If the file does not exist.
        DataError: If it has another encoding.
    """
    path = Path(path)
    data = read_bytes(path, what, remedy)
    encoding = 'utf-8-sig'
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = 'utf-16'
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        if fallback is not None:
            return data.decode(fallback)
        raise DataError(
            f'{path} is not text in UTF-8 (byte {error.start})',
            file=path,
            remedy='save it as UTF-8.',
        ) from None


def read_json(
    path: str | Path,
    *,
    what: str = '',
    remedy: str = 'docs/datasets shows the expected files',
    unique_keys: bool = False,
) -> Any:
    """Read a JSON file in UTF-8, UTF-16 or UTF-32.

    Args:
        path: The file.
        what: What the file is, for the messages.
        remedy: What to do if it is missing.
        unique_keys: Refuse a table that has a key twice.

    Raises:
        MissingDataError: If the file does not exist.
        DataError: If it is no JSON. The message says where, and what helps
            (extract it again only if it ends in the middle), and repeats
            nothing of the content.
    """
    path = Path(path)
    data = read_bytes(path, what, remedy)
    hook = _unique if unique_keys else None
    try:
        return json.loads(data, object_pairs_hook=hook)
    except _RepeatedKeyError as error:
        fault, help_ = f'the key {show(error.key)} twice', 'remove one of them'
        raise DataError(
            f'{path} has {fault}',
            file=path,
            remedy=f'{help_}.',
            code='json-broken',
        ) from None
    except json.JSONDecodeError as error:
        fault = f'line {error.lineno}, column {error.colno}: {error.msg}'
        text = error.doc.rstrip()
        help_ = 'correct this place'
        if error.pos >= len(text) or text[-1] not in '}]':
            help_ = 'the file ends in the middle, download or extract it again'
    except UnicodeDecodeError as error:
        fault = f'byte {error.start} is not {error.encoding}'
        help_ = 'save the file as UTF-8'
    except RecursionError:
        fault, help_ = 'nested too deeply', 'write it again'
    if not data.strip():
        fault, help_ = 'it is empty', 'download or extract it again'
    for start, meaning in _IMPOSTORS:
        if data.lstrip().startswith(start):
            fault, help_ = meaning.split('; ')
            fault = f'it {fault}'
    named = f'{path} ({what})' if what else f'{path}'
    raise DataError(
        f'{named} is not valid JSON ({fault})',
        file=path,
        remedy=f'{help_}.',
        code='json-broken',
    )


def read_rows(path: str | Path, width: int, page: str) -> list[list]:
    """Read a JSON file that is a list of rows.

    Args:
        path: The file.
        width: Columns of a row.
        page: Page of the documentation that tells where it comes from.

    Raises:
        MissingDataError: If the file is missing.
        DataError: If it is something else.
    """
    rows = read_json(path, remedy=f'{page} tells how to make it')
    whole = []
    for position, row in enumerate(rows if isinstance(rows, list) else [rows]):
        if isinstance(row, list) and len(row) == width:
            whole.append(row)
            continue
        report_error(
            DataError(
                f'{path} is not a list of rows with {width} columns: row '
                f'{position} is {show(row)}',
                file=path,
                value=position,
                remedy=f'make it again, see {page}.',
                code='row-wrong' if isinstance(rows, list) else 'table-wrong',
            )
        )
    return whole


def read_table(path: str | Path) -> list[list[str]]:
    """Read lines of comma-separated values, in UTF or else Latin-1.

    Raises:
        MissingDataError: If the file is missing.
    """
    text = read_text(
        path, remedy='extract the archive completely', fallback='latin-1'
    )
    rows = csv.reader(io.StringIO(text, newline=''))
    return [[cell.strip() for cell in row] for row in rows if row]


class _RepeatedKeyError(Exception):
    """A table has a key twice."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make a dict of a JSON object that names no key twice."""
    content = dict(pairs)
    if len(content) < len(pairs):
        seen: set[str] = set()
        raise _RepeatedKeyError(
            next(k for k, _ in pairs if k in seen or seen.add(k))
        )
    return content
