# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Predictions as entries: a JSON list, or JSON lines, one entry a line."""

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from referformer.errors import DataError
from referformer.formats.files import atomic_path
from referformer.formats.text_files import read_bytes, read_json

__all__ = ['Record', 'index_records', 'read_records', 'write_records']

#: Suffixes of files of entries.
SUFFIXES = ('.json', '.jsonl')
_SPACE = re.compile(r'\s*')
_BOM = b'\xef\xbb\xbf'
_REMEDY = 'give a JSON list of predictions, or JSON lines'


class Record(NamedTuple):
    """An entry and where it stands in its file.

    Attributes:
        start: First byte.
        end: Byte after the last one.
        entry: The entry.
    """

    start: int
    end: int
    entry: Any


def read_records(path: str | Path) -> Any:
    """Read JSON, or JSON lines as the list of their entries.

    Raises:
        MissingDataError: If the file does not exist.
        DataError: If it is neither.
    """
    data = read_bytes(Path(path), '', _REMEDY)
    if _are_lines(path, data):
        return [record.entry for record in _index_lines(path, data)]
    return read_json(path)


def index_records(path: str | Path) -> Iterator[Record]:
    """Go through the entries of a file, without keeping them.

    Args:
        path: JSON list or JSON lines, in UTF-8.

    Raises:
        MissingDataError: If the file does not exist.
        DataError: If it is neither.
    """
    data = read_bytes(Path(path), '', _REMEDY)
    if b'\0' in data[:4]:
        raise DataError(
            f'{path} is not text in UTF-8',
            file=path,
            remedy='save it as UTF-8.',
        )
    if _are_lines(path, data):
        yield from _index_lines(path, data)
    else:
        yield from _index_list(path, data)


def _are_lines(path: str | Path, data: bytes) -> bool:
    """Whether a file is JSON lines, by its name or its first line."""
    if Path(path).suffix.lower() == '.jsonl':
        return True
    first, _, others = data.removeprefix(_BOM).lstrip().partition(b'\n')
    try:
        return bool(others.strip()) and isinstance(json.loads(first), dict)
    except ValueError:
        return False


def _index_lines(path: str | Path, data: bytes) -> Iterator[Record]:
    """Yield the lines of a file."""
    start = len(_BOM) if data.startswith(_BOM) else 0
    number = 0
    while start < len(data):
        number += 1
        end = data.find(b'\n', start)
        end = len(data) if end < 0 else end
        line = data[start:end]
        if line.strip():
            try:
                entry = json.loads(line)
            except ValueError as error:
                raise DataError(
                    f'{path}: line {number} is not valid JSON ({error})',
                    file=path,
                    value=number,
                    remedy='each line must be one whole prediction.',
                    code='json-broken',
                ) from None
            yield Record(start, end, entry)
        start = end + 1


def _index_list(path: str | Path, data: bytes) -> Iterator[Record]:
    """Yield the entries of a JSON list."""
    # One character a byte, so positions agree. Names are read from the bytes
    # where this is not their encoding.
    text, ascii_only = data.decode('latin-1'), data.isascii()
    decode = json.JSONDecoder().raw_decode
    position = len(_BOM) if data.startswith(_BOM) else 0
    separator = '['
    while True:
        position = _SPACE.match(text, position).end()
        found = text[position : position + 1]
        if found == ']' and separator == ',':
            break
        if found != separator:
            raise _explain(path)
        start = _SPACE.match(text, position + 1).end()
        if separator == '[' and text[start : start + 1] == ']':
            position = start
            break
        try:
            entry, position = decode(text, start)
            if not ascii_only:
                entry = json.loads(data[start:position])
        except ValueError:
            raise _explain(path) from None
        yield Record(start, position, entry)
        separator = ','
    if text[position + 1 :].strip():
        raise _explain(path)


def _explain(path: str | Path) -> DataError:
    """Return the error that a file is no list.

    Raises:
        DataError: If it is no JSON at all; says where.
    """
    read_json(path)
    return DataError(
        f'{path} is no list', file=path, remedy=f'{_REMEDY}.', code='row-wrong'
    )


def write_records(path: str | Path, entries: Iterable[Any]) -> None:
    """Write entries one after the other, whole or not at all.

    Args:
        path: The file, ``.jsonl`` for JSON lines, else a JSON list.
        entries: What JSON can hold; taken one by one.
    """
    lines = Path(path).suffix.lower() == '.jsonl'
    with (
        atomic_path(path) as temporary,
        temporary.open('w', encoding='utf-8') as file,
    ):
        separator = '' if lines else '[\n'
        for entry in entries:
            file.write(f'{separator}{json.dumps(entry, ensure_ascii=False)}')
            separator = '\n' if lines else ',\n'
        if lines:
            file.write('\n' if separator else '')
        else:
            file.write('[]\n' if separator == '[\n' else '\n]\n')
