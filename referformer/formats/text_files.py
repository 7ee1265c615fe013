# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Text files of any encoding: JSON, and comma-separated values."""

import codecs
import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from referformer.errors import DataError, MissingDataError, report_error

_EXPECTED = 'docs/datasets shows the expected files'
_SHOWN = 60
#: What a file that is no JSON begins with, what it is, and what helps.
_IMPOSTORS = (
    (
        b'version https://git-lfs',
        'it is a pointer of Git LFS',
        'run git lfs pull',
    ),
    (b'<', 'it is a web page or XML', 'download the file itself'),
    (b'PK\x03\x04', 'it is a zip file', 'extract it'),
    (b'\x1f\x8b', 'it is compressed', 'extract it'),
)

Row = TypeVar('Row')


def show(value: Any) -> str:
    """Return a value as a message shows it: its repr, cut if long."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f'{text[:_SHOWN]}...'


def check_count(
    path: str | Path, found: int, expected: int | None, what: str, option: str
) -> None:
    """Check how many entries a file of a release has.

    Args:
        path: The file.
        found: How many entries it has.
        expected: How many it must have; ``None`` does not check.
        what: What they are, in the plural.
        option: Option of the converter that sets the number.

    Raises:
        DataError: If there are more or less.
    """
    if expected not in (None, found):
        raise DataError(
            f'{path} lists {found} {what}, expected {expected}',
            file=path,
            remedy='download or extract it again (for a part of the set: '
            f'{option} {found}).',
        )


def wrong_line(
    path: str | Path, number: int, line: str, form: str
) -> DataError:
    """Return the error that a line, numbered from 1, has another form."""
    return DataError(
        f'{path}:{number}: {show(line)} is not of the form {form}',
        file=path,
        remedy='correct the line or extract the file again.',
    )


def read_bytes(
    path: str | Path, what: str = '', remedy: str = _EXPECTED
) -> bytes:
    """Read a file.

    Args:
        path: The file.
        what: What the file is, for the messages.
        remedy: What to do if it is missing.

    Raises:
        MissingDataError: If the file does not exist.
        DataError: If it cannot be read.
    """
    named = f'{path} ({what})' if what else str(path)
    try:
        return Path(path).read_bytes()
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
    remedy: str = _EXPECTED,
    fallback: str | None = None,
) -> str:
    """Read text in UTF-8 or UTF-16, with or without a byte order mark.

    Args:
        path: The file.
        remedy: What to do if it is missing.
        fallback: Encoding to try where the file is neither.

    Raises:
        MissingDataError: If the file does not exist.
        DataError: If it has another encoding.
    """
    data = read_bytes(path, remedy=remedy)
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
    remedy: str = _EXPECTED,
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
    data = read_bytes(path, what, remedy)
    try:
        return json.loads(
            data, object_pairs_hook=_unique if unique_keys else None
        )
    except KeyError as error:
        fault, help_ = f'it has the key {error} twice', 'remove one of them'
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
    for start, meaning, cure in _IMPOSTORS:
        if data.lstrip().startswith(start):
            fault, help_ = meaning, cure
    named = f'{path} ({what})' if what else str(path)
    raise DataError(
        f'{named} is not valid JSON ({fault})',
        file=path,
        remedy=f'{help_}.',
        code='json-broken',
    )


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make a dict of a JSON object; ``KeyError`` if it names a key twice."""
    content = {}
    for key, value in pairs:
        if key in content:
            raise KeyError(key[:_SHOWN])
        content[key] = value
    return content


def read_rows(
    path: str | Path,
    form: str,
    parse: Callable[[list], Row | str],
    page: str,
) -> list[Row]:
    """Read a JSON file that is a list of rows.

    Args:
        path: The file.
        form: What a row has to be, ``[column, column, ...]``.
        parse: Returns what a row with as many columns says, or the code of
            what is wrong with it.
        page: Page of the documentation that tells where it comes from.

    Raises:
        MissingDataError: If the file is missing.
        DataError: If it is something else, or a row is wrong.
    """
    rows = read_json(path, remedy=f'{page} tells how to make it')
    width = form.count(',') + 1
    code = 'row-wrong'
    if not isinstance(rows, list):
        rows, code = [rows], 'table-wrong'
    whole = []
    for position, row in enumerate(rows):
        fitting = isinstance(row, list) and len(row) == width
        parsed = parse(row) if fitting else code
        if not isinstance(parsed, str):
            whole.append(parsed)
            continue
        report_error(
            DataError(
                f'{path}: row {position} is {show(row)}, where {form} is '
                'expected',
                file=path,
                value=position,
                remedy=f'make it again, see {page}.',
                code=parsed,
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
