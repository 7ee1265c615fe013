# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Lists of entries in JSON, and as JSON lines."""

import json

import pytest

from referformer.errors import DataError, MissingDataError
from referformer.formats.records import (
    index_records,
    read_records,
    write_records,
)

ENTRIES = [{'name': 'a"]},{', 'n': [1, None]}, {}, {'name': 'Ä\u2028ö'}]


@pytest.mark.parametrize('suffix', ['.json', '.jsonl'])
@pytest.mark.parametrize('entries', [ENTRIES, ENTRIES[:1], []])
def test_what_is_written_is_read(tmp_path, suffix, entries):
    path = tmp_path / f'new/file{suffix}'
    write_records(path, iter(entries))
    assert read_records(path) == entries
    assert [record.entry for record in index_records(path)] == entries
    if suffix == '.json':
        assert json.loads(path.read_text('utf-8')) == entries
    else:
        lines = path.read_text('utf-8').split('\n')
        assert [json.loads(line) for line in lines[:-1]] == entries
    assert [p.name for p in path.parent.iterdir()] == [path.name]


STYLES = {
    'indented': lambda entries: json.dumps(entries, indent=2),
    'compact': lambda entries: json.dumps(entries, separators=(',', ':')),
    'unicode': lambda entries: json.dumps(entries, ensure_ascii=False),
    'lines': lambda entries: '\n'.join(map(json.dumps, entries)),
    'windows': lambda entries: '\r\n'.join([*map(json.dumps, entries), '']),
    'blank lines': lambda entries: '\n\n'.join(map(json.dumps, entries)),
}


@pytest.mark.parametrize('style', STYLES)
@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig'])
def test_an_entry_is_found_again_by_its_place(tmp_path, style, encoding):
    path = tmp_path / 'file.json'
    path.write_bytes(STYLES[style](ENTRIES).encode(encoding))
    data = path.read_bytes()
    records = list(index_records(path))
    assert [record.entry for record in records] == ENTRIES
    for record in records:
        assert json.loads(data[record.start : record.end]) == record.entry
    assert read_records(path) == ENTRIES


@pytest.mark.parametrize(
    ('name', 'content', 'message'),
    [
        ('a.json', '{"videos": []}', 'is no list'),
        ('a.json', '3', 'is no list'),
        ('a.json', '[{}, {}', 'ends in the middle'),
        ('a.json', '[{}, {"a": ', 'ends in the middle'),
        ('a.json', '[{} {}]', 'is not valid JSON'),
        ('a.json', '[{},]', 'is not valid JSON'),
        ('a.json', '[{}]]', 'is not valid JSON'),
        ('a.json', '', 'it is empty'),
        ('a.json', '{}\n{"a": 1', 'line 2 is not valid JSON'),
        ('a.jsonl', '{}\n\n{"secret": 1', 'line 3 is not valid JSON'),
        ('a.jsonl', '[{},\n{}]', 'line 1 is not valid JSON'),
    ],
)
def test_other_files_are_refused(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(DataError, match=message) as error:
        list(index_records(path))
    assert str(path) in str(error.value)
    assert 'secret' not in str(error.value)


def test_other_encodings(tmp_path):
    path = tmp_path / 'a.json'
    path.write_bytes(json.dumps(ENTRIES).encode('utf-16'))
    assert read_records(path) == ENTRIES
    with pytest.raises(DataError, match='save it as UTF-8'):
        list(index_records(path))
    with pytest.raises(MissingDataError, match='does not exist'):
        list(index_records(tmp_path / 'b.json'))
