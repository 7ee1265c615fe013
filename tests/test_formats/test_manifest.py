# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Lists of videos to label."""

import json

import pytest

from referformer.errors import DataError, MissingDataError
from referformer.formats.manifest import LabelJob, Shard, read_manifest


def write(path, *rows):
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text('\n'.join(lines), 'utf-8')
    return path


def row(**more):
    return {'path': 'a/b.mp4', 'expressions': ['a dog'], **more}


def test_lines_become_jobs(tmp_path):
    path = write(
        tmp_path / 'm.jsonl',
        row(),
        '',
        row(expressions='été', id='x', start=1, end=2.5, fps=3, every=2),
        row(start=None, end=None),
    )
    assert list(read_manifest(path)) == [
        LabelJob('a/b.mp4', ('a dog',)),
        LabelJob('a/b.mp4', ('été',), 'x', 1, 2.5, 3, 2),
        LabelJob('a/b.mp4', ('a dog',)),
    ]


@pytest.mark.parametrize('count', [1, 2, 3, 7])
def test_the_parts_are_the_whole(tmp_path, count):
    path = write(tmp_path / 'm.jsonl', *(row(id=str(n)) for n in range(11)))
    parts = [
        list(read_manifest(path, Shard(index, count)))
        for index in range(count)
    ]
    found = [job.id for part in parts for job in part]
    assert sorted(found, key=int) == [str(n) for n in range(11)]
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path):
    path = tmp_path / 'm.jsonl'
    path.write_text(json.dumps(row()), 'utf-8-sig')
    assert len(list(read_manifest(path))) == 1


def test_a_name_changes_with_all_that_the_result_depends_on():
    job = LabelJob('a/b.mp4', ('a dog',))
    others = [
        LabelJob('b/b.mp4', ('a dog',)),
        LabelJob('a/b.mp4', ('a cat',)),
        LabelJob('a/b.mp4', ('a dog', 'a dog')),
        LabelJob('a/b.mp4', ('a dog',), start=1.0),
        LabelJob('a/b.mp4', ('a dog',), every=2),
        LabelJob('a/b.mp4', ('a dog',), id='c'),
    ]
    assert len({other.name for other in [job, *others]}) == 7
    assert job.name == LabelJob('a/b.mp4', ('a dog',)).name
    assert job.name.startswith('b-')


@pytest.mark.parametrize(
    'name',
    ['../../etc/passwd', '-rf', 'a\nb', '/', '..', 'x' * 500, '柔道🐕', '\0'],
)
def test_names_stay_in_their_folder(name):
    for job in (LabelJob('v.mp4', ('a',), name), LabelJob(name, ('a',))):
        assert '/' not in job.name
        assert '\n' not in job.name
        assert not job.name.startswith(('.', '-'))
        assert len(job.name.encode()) <= 100


@pytest.mark.parametrize(
    ('line', 'what'),
    [
        ('{"path": ', 'line 2 is not valid JSON'),
        ('[1]', 'line 2 is not an object'),
        (row(expresions='x'), "line 2 has the unknown key 'expresions'"),
        ({'expressions': ['a']}, 'line 2 has no "path"'),
        (row(path=''), 'line 2 has no "path"'),
        ({'path': 'a'}, 'line 2 has no "expressions"'),
        (row(expressions=[]), 'line 2 has no "expressions"'),
        (row(expressions=['a', ' ']), 'line 2 has no "expressions"'),
        (row(expressions=[3]), 'line 2 has no "expressions"'),
        (row(id=7), 'line 2 has the id 7'),
        (row(start='1:30'), "line 2 has start = '1:30'"),
        (row(end=-1), 'line 2 has end = -1'),
        (row(fps=True), 'line 2 has fps = True'),
        ('{"path": "a", "expressions": "b", "end": NaN}', 'has end = nan'),
        (row(every=0), 'line 2 has every = 0'),
    ],
)
def test_a_wrong_line_is_named(tmp_path, line, what):
    path = write(tmp_path / 'm.jsonl', row(), line, row())
    with pytest.raises(DataError, match=what) as caught:
        list(read_manifest(path))
    assert str(path) in str(caught.value)
    # the other part does not contain it
    assert len(list(read_manifest(path, Shard(0, 2)))) == 2


def test_no_file(tmp_path):
    with pytest.raises(MissingDataError, match='cannot be read'):
        list(read_manifest(tmp_path / 'm.jsonl'))
    with pytest.raises(DataError, match='cannot be read'):
        list(read_manifest(tmp_path))
