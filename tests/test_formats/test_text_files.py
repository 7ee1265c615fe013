# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Text of any encoding, and advice that is true."""

import json
import pickle

import pytest

from referformer.errors import (
    DataError,
    MissingDataError,
    collect_errors,
)
from referformer.formats.text_files import (
    read_json,
    read_rows,
    read_table,
    read_text,
)

CONTENT = {'videos': {'früh': ['das Schaf', 'ein Lamm']}}
TEXT = json.dumps(CONTENT, ensure_ascii=False)


@pytest.mark.parametrize(
    'encoding', ['utf-8', 'utf-8-sig', 'utf-16', 'utf-16-le', 'utf-32']
)
def test_json_of_every_encoding(tmp_path, encoding):
    path = tmp_path / 'a.json'
    path.write_bytes(TEXT.encode(encoding))
    assert read_json(path) == CONTENT


@pytest.mark.parametrize(
    ('data', 'fault', 'advice'),
    [
        (TEXT[:-4].encode(), 'line 1', 'ends in the middle'),
        (TEXT[:30].encode(), 'line 1', 'ends in the middle'),
        (b'', 'it is empty', 'download or extract it again'),
        (b'  \n', 'it is empty', 'download or extract it again'),
        (b'{"a": 1,\n "b" 2}', 'line 2, column 6', 'correct this place'),
        (TEXT.encode() + b' {}', 'Extra data', 'correct this place'),
        (TEXT.encode('latin-1'), 'byte 15', 'save the file as UTF-8'),
        (b'version https://git-lfs.github.com/spec/v1\n', 'Git LFS', 'pull'),
        (b'<!DOCTYPE html><html>', 'a web page', 'download the file itself'),
        (b'PK\x03\x04\x0a\x00', 'a zip file', 'extract it'),
        (b'[' * 200_000, 'nested too deeply', 'write it again'),
    ],
)
def test_advice_fits_the_fault(tmp_path, data, fault, advice):
    path = tmp_path / 'a.json'
    path.write_bytes(data)
    with pytest.raises(DataError, match=fault) as caught:
        read_json(path, what='expressions')
    message = str(caught.value)
    assert advice in message
    assert message.startswith(f'{path} (expressions) is not valid JSON')
    assert caught.value.code == 'json-broken'
    # a file that is whole need not be fetched again
    assert ('again' in message) == (
        advice in ('ends in the middle', 'write it again')
        or 'it is empty' in message
    )


def test_no_message_holds_the_content(tmp_path):
    path = tmp_path / 'a.json'
    path.write_text('{"secret": "' + 'x' * 5000 + '",}')
    with pytest.raises(DataError) as caught:
        read_json(path)
    assert 'xxx' not in str(caught.value)
    assert len(pickle.dumps(caught.value)) < 1000


def test_missing_files(tmp_path):
    with pytest.raises(MissingDataError, match=r'a\.json does not exist; get'):
        read_json(tmp_path / 'a.json', remedy='get it')
    with pytest.raises(DataError, match='cannot be read'):
        read_json(tmp_path)


def test_keys_that_come_twice(tmp_path):
    path = tmp_path / 'a.json'
    path.write_text('{"a": {"b": 1, "c": 2, "b": 3}}')
    assert read_json(path) == {'a': {'b': 3, 'c': 2}}
    with pytest.raises(DataError, match="the key 'b' twice"):
        read_json(path, unique_keys=True)


@pytest.mark.parametrize('content', ['{}', '[[1, 2], [1]]', '[1, 2]', '[{}]'])
def test_other_tables_of_rows(tmp_path, content):
    path = tmp_path / 'a.json'
    path.write_text(content)
    with pytest.raises(DataError, match=r'row [01] is .*\[x, y\] is expected'):
        read_rows(path, '[x, y]', tuple, 'docs/page.md')


def test_text_and_tables(tmp_path):
    path = tmp_path / 'a.txt'
    path.write_bytes('\ufeffa,b\r\n\r\nc,"d, ""e"""\n'.encode())
    assert read_table(path) == [['a', 'b'], ['c', 'd, "e"']]
    path.write_bytes('é, x'.encode('utf-16'))
    assert read_table(path) == [['é', 'x']]
    path.write_bytes('é, x'.encode('latin-1'))
    assert read_table(path) == [['é', 'x']]
    with pytest.raises(DataError, match=r'a\.txt is not text in UTF-8'):
        read_text(path)
    with pytest.raises(MissingDataError, match='does not exist'):
        read_table(tmp_path / 'b.txt')


def test_all_wrong_rows_are_reported(tmp_path):
    path = tmp_path / 'rows.json'
    path.write_text('[[1, 2], [3], [4, 5], 6]')
    with pytest.raises(DataError, match='row 1 is'):
        read_rows(path, '[x, y]', tuple, 'docs')
    with collect_errors() as found:
        assert read_rows(path, '[x, y]', list, 'docs') == [[1, 2], [4, 5]]
    assert [(e.code, e.value) for e in found] == [
        ('row-wrong', 1),
        ('row-wrong', 3),
    ]
